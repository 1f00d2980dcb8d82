// What cameras are called, for pages that only get their ids; and which of them there are to choose from.
import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'

import { api, got } from '@/api/client'

import { everyPage } from './useCursor'
import { usePlace } from './usePlace'
import { useSession } from './useSession'

const page = (cursor?: string) => got(api.GET('/v1/cameras', { params: { query: { limit: 500, cursor } } }))

export function useCameraNames() {
  const place = usePlace()
  const session = useSession()
  const { data } = useQuery({
    queryKey: ['cameras', 'names'],
    queryFn: () => everyPage(page),
    enabled: computed(() => session.may('cameras.view')),
    staleTime: 60_000,
  })
  const every = computed(() => data.value ?? [])
  const names = computed(() => new Map(every.value.map((one) => [one.id, one.name || one.id])))
  return {
    /** Of the chosen site. */
    cameras: computed(() => every.value.filter((one) => !place.filter || one.site === place.filter)),
    every,
    nameOf: (id: string): string => names.value.get(id) ?? id,
  }
}

// Statistics: cameras by state, inspections over time, who did how much, and the words of notes.
import { keepPreviousData, useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got } from '@/api/client'

import { useZone } from './useCompliance'
import { usePlace } from './usePlace'
import { useSession } from './useSession'
import { type Range, stretch } from './useStretch'

export function useStatistics(range: MaybeRefOrGetter<Range | [number, number]>) {
  const place = usePlace()
  const session = useSession()
  const zone = useZone()
  const may = computed(() => session.may('inspections.view'))
  const key = (what: string) => computed(() => ['inspections', 'statistics', what, place.filter ?? '', zone.value, toValue(range)])
  const query = () => {
    const asked = toValue(range)
    return { ...(typeof asked === 'string' ? stretch(asked, zone.value) : { since: asked[0], until: asked[1] }), site: place.filter }
  }
  const options = { enabled: may, placeholderData: keepPreviousData }
  return {
    may,
    cameras: useQuery({
      queryKey: computed(() => ['cameras', 'statistics', place.filter ?? '']),
      queryFn: () => got(api.GET('/v1/statistics/cameras', { params: { query: { site: place.filter } } })),
      enabled: computed(() => session.may('cameras.view')),
    }),
    inspections: useQuery({ queryKey: key('inspections'), queryFn: () => got(api.GET('/v1/statistics/inspections', { params: { query: { ...query(), bucket: 'day', tz: zone.value } } })), ...options }),
    users: useQuery({ queryKey: key('users'), queryFn: () => got(api.GET('/v1/statistics/users', { params: { query: { ...query(), limit: 20 } } })), ...options }),
    words: useQuery({ queryKey: key('words'), queryFn: () => got(api.GET('/v1/statistics/words', { params: { query: { ...query(), limit: 60 } } })), ...options }),
  }
}

// Which site the page is about: chosen once at the top, kept in this browser; '' is every site.
import { useQuery } from '@tanstack/vue-query'
import { defineStore } from 'pinia'
import { computed } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { everyPage } from './useCursor'
import { useLocalStorage } from './useLocalStorage'
import { useSession } from './useSession'
import { viewerZone } from './useStretch'

export type Site = Schema<'SiteView'>

export const usePlace = defineStore('place', () => {
  const session = useSession()
  const site = useLocalStorage<string>('maskwatch.site', '', (value) => typeof value === 'string')
  const { data } = useQuery({
    queryKey: computed(() => ['sites', session.me?.id ?? '']),
    queryFn: () => everyPage<Site>((cursor) => got(api.GET('/v1/sites', { params: { query: { limit: 500, cursor } } }))),
    enabled: computed(() => !!session.me), // the frame is there before anybody has logged in
  })
  const sites = computed<Site[]>(() => data.value ?? [])
  const current = computed(() => sites.value.find((one) => one.id === site.value))
  /** The same for a query: undefined leaves the parameter out. */
  const filter = computed(() => (current.value ? site.value : undefined))
  /** Whose clock times are shown and asked for by: the site's its people read; of every site, the viewer's own. */
  const zone = computed(() => current.value?.time_zone || viewerZone())
  return { site, sites, current, filter, zone }
})

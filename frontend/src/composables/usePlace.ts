// Which site the page is about: chosen once at the top, kept in this browser; '' is every site.
import { useQuery } from '@tanstack/vue-query'
import { defineStore } from 'pinia'
import { computed } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useLocalStorage } from './useLocalStorage'

export type Site = Schema<'SiteView'>

export const usePlace = defineStore('place', () => {
  const site = useLocalStorage<string>('maskwatch.site', '', (value) => typeof value === 'string')
  const { data } = useQuery({
    queryKey: ['sites'],
    queryFn: async () => (await got(api.GET('/v1/sites', { params: { query: { limit: 500 } } }))).items,
  })
  const sites = computed<Site[]>(() => data.value ?? [])
  const current = computed(() => sites.value.find((one) => one.id === site.value))
  /** The same for a query: undefined leaves the parameter out. */
  const filter = computed(() => (current.value ? site.value : undefined))
  return { site, sites, current, filter }
})

// Models with their cards, settings as they hold, how long data is kept, erasures.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type Ref } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useCursor } from './useCursor'

export type Kept = Schema<'KeptFor'>
export type KeptKind = 'pictures' | 'vectors' | 'sightings' | 'recognised' | 'trajectories' | 'episodes' | 'replays' | 'inspections' | 'chat' | 'alerts' | 'requests' | 'audit'

export function useModels() {
  return useQuery({ queryKey: ['models', 'list'], queryFn: async () => (await got(api.GET('/v1/models'))).models, staleTime: 300_000 })
}
export function useModel(id: Ref<string>) {
  return useQuery({
    queryKey: computed(() => ['models', 'one', id.value]),
    // the client's types lose pairs (openapi-fetch's Readable makes lists of them)
    queryFn: async () => (await got(api.GET('/v1/models/{id}', { params: { path: { id: id.value } } }))) as Schema<'ModelCard'>,
    enabled: computed(() => id.value !== ''),
    staleTime: 300_000,
  })
}
export function useSettings(enabled: Ref<boolean>) {
  return useQuery({ queryKey: ['settings'], queryFn: () => got(api.GET('/v1/settings')), enabled })
}
export function useRetention(enabled: Ref<boolean>) {
  const queries = useQueryClient()
  const query = useQuery({ queryKey: ['retention'], queryFn: () => got(api.GET('/v1/retention')), enabled })
  return {
    ...query,
    keep: async (kind: KeptKind, days: number | null, site: string) => {
      const rows = await got(api.PUT('/v1/retention/{kind}', { params: { path: { kind } }, body: { days, site } }))
      await queries.invalidateQueries({ queryKey: ['retention'] })
      return rows
    },
  }
}
export function useErasures(enabled: Ref<boolean>) {
  return useCursor<Schema<'ErasureView'>>(computed(() => ['erasures']), (cursor, limit) => got(api.GET('/v1/erasures', { params: { query: { cursor, limit } } })), enabled, 20)
}

// The stream's health, with the lag of each stage over the minutes this page has been open; dead letters.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type Ref, ref, watch } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useCursor } from './useCursor'
import { usePlace } from './usePlace'

export type Letter = Schema<'LetterView'>
const EVERY = 3_000 // ms between two looks
const KEPT = 200 // looks in the chart: ten minutes

export interface Look {
  at: number // µs
  waiting: Record<string, number>
}
const history = ref<Look[]>([]) // survives a look at another page

export function useStream() {
  const query = useQuery({ queryKey: ['stream', 'now'], queryFn: () => got(api.GET('/v1/stream')), refetchInterval: EVERY })
  watch(query.data, (now) => {
    if (!now || history.value.at(-1)?.at === now.at) return
    const waiting = Object.fromEntries(now.stages.filter((one) => one.waiting !== null).map((one) => [one.stage, one.waiting ?? 0]))
    history.value = [...history.value.slice(1 - KEPT), { at: now.at, waiting }]
  }, { immediate: true })
  return { ...query, history }
}

export function useSavings(since: Ref<number>) {
  const place = usePlace()
  return useQuery({
    queryKey: computed(() => ['stream', 'savings', since.value, place.filter ?? '']),
    queryFn: () => got(api.GET('/v1/stream/savings', { params: { query: { since: since.value || undefined, site: place.filter } } })),
    refetchInterval: 30_000,
  })
}

export interface LetterFilter {
  show: 'waiting' | 'redriven' | 'all'
  stage: string
  reason: string
}
export function useDeadLetters(filter: Ref<LetterFilter>) {
  return useCursor<Letter>(
    computed(() => ['letters', 'list', { ...filter.value }]),
    (cursor) => got(api.GET('/v1/dead-letters', { params: { query: { ...filter.value, cursor, limit: 50 } } })),
  )
}
export function useDeadLetter(id: Ref<string>) {
  return useQuery({
    queryKey: computed(() => ['letters', 'one', id.value]),
    queryFn: () => got(api.GET('/v1/dead-letters/{letter}', { params: { path: { letter: id.value } } })),
    enabled: computed(() => id.value !== ''),
  })
}
export function useRedrive() {
  const queries = useQueryClient()
  return async (body: Schema<'Redrive'>): Promise<Schema<'Redriven'>> => {
    try {
      return await got(api.POST('/v1/dead-letters/redrive', { body }))
    } finally {
      await queries.invalidateQueries({ queryKey: ['letters'] }) // also after a fault some may have been sent
    }
  }
}

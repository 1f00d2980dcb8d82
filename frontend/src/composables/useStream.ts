// The stream's health, with the lag of each stage over the last hour; dead letters.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type Ref, ref, watch } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useCursor } from './useCursor'
import { micros } from './useFormat'
import { usePlace } from './usePlace'

export type Letter = Schema<'LetterView'>
const EVERY = 3_000 // ms between two looks
const KEPT = 3_600e6 // µs of the chart

export interface Look {
  at: number // µs
  waiting: Record<string, number>
  seconds: Record<string, number>
}
const looks = ref<Look[]>([]) // since this page was opened; survives a look at another page

export function useStream() {
  const query = useQuery({ queryKey: ['stream', 'now'], queryFn: () => got(api.GET('/v1/stream')), refetchInterval: EVERY })
  // what was before, from the server: one need not have looked to see that a stage hung an hour ago
  const before = useQuery({ queryKey: ['stream', 'lag'], queryFn: () => got(api.GET('/v1/stream/lag')), staleTime: Infinity, gcTime: 0 })
  watch(query.data, (now) => {
    if (!now || looks.value.at(-1)?.at === now.at) return
    const told = now.stages.filter((one) => one.waiting !== null)
    const look = {
      at: now.at,
      waiting: Object.fromEntries(told.map((one) => [one.stage, one.waiting ?? 0])),
      seconds: Object.fromEntries(told.map((one) => [one.stage, one.seconds ?? 0])),
    }
    looks.value = [...looks.value.filter((one) => one.at > now.at - KEPT), look]
  }, { immediate: true })
  const history = computed<Look[]>(() => {
    const first = looks.value[0]?.at ?? Infinity
    return [...(before.data.value ?? []).filter((one) => one.at < first), ...looks.value]
  })
  return { ...query, history }
}

/** Of the last so many hours, whenever one looks. */
export function useSavings(hours: Ref<number>) {
  const place = usePlace()
  return useQuery({
    queryKey: computed(() => ['stream', 'savings', hours.value, place.filter ?? '']),
    queryFn: () => {
      const since = micros(Date.now() - hours.value * 3_600_000)
      return got(api.GET('/v1/stream/savings', { params: { query: { since, site: place.filter } } }))
    },
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
    (cursor, limit) => got(api.GET('/v1/dead-letters', { params: { query: { ...filter.value, cursor, limit } } })),
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

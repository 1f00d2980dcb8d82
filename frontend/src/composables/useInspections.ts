// Inspections made with phones, their photos and verdicts, the rounds they were planned as, and how many there are.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, type Ref, shallowReactive, toValue } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { everyPage, useCursor } from './useCursor'
import { micros } from './useFormat'
import { useHear } from './useLive'
import { usePlace } from './usePlace'
import { type Range, stretch } from './useStretch'

export type Inspection = Schema<'Brief'>
export type Round = Schema<'Planned'>
export type Plan = Schema<'Plan'>
export type Checkpoint = Schema<'CheckpointPlace'>
export type Standing = 'open' | 'over' | Inspection['state']
export interface InspectionFilter {
  state?: Standing
  mine?: boolean
  round?: string
  range?: Range // that ends now
}
const DAY = 86_400_000 // ms

const photosOf = (id: string) => got(api.GET('/v1/inspections/{id}/photos', { params: { path: { id } } }))
export type Photo = Awaited<ReturnType<typeof photosOf>>[number]

export function useInspections(filter: Ref<InspectionFilter>) {
  const place = usePlace()
  // where the phones were heard of last, since the page is open
  const heard = shallowReactive(new Map<string, number>())
  useHear('inspection.point', ({ data }) => {
    if (typeof data.id === 'string' && typeof data.at === 'number') heard.set(data.id, data.at)
  })
  const list = useCursor<Inspection>(
    computed(() => ['inspections', 'list', place.filter ?? '', filter.value]),
    (cursor, limit) => {
      const { range, ...rest } = filter.value
      const since = range && stretch(range, place.zone).since
      return got(api.GET('/v1/inspections', { params: { query: { site: place.filter, ...rest, since, cursor, limit } } }))
    },
  )
  return { ...list, heard }
}

export function useInspection(id: MaybeRefOrGetter<string>) {
  const key = (what: string) => computed(() => ['inspections', what, toValue(id)])
  const path = () => ({ path: { id: toValue(id) } })
  return {
    whole: useQuery({ queryKey: key('one'), queryFn: () => got(api.GET('/v1/inspections/{id}', { params: path() })) }),
    photos: useQuery({ queryKey: key('photos'), queryFn: () => photosOf(toValue(id)) }),
    passed: useQuery({ queryKey: key('cameras'), queryFn: () => got(api.GET('/v1/inspections/{id}/cameras', { params: path() })) }),
  }
}

export function useInspectionChanges() {
  const queries = useQueryClient()
  const anew = (): Promise<void> => queries.invalidateQueries({ queryKey: ['inspections'] })
  return {
    note: (id: string, note: string) => got(api.PATCH('/v1/inspections/{id}', { params: { path: { id } }, body: { note } })).finally(anew),
    notePhoto: (id: string, photo: string, note: string) =>
      got(api.PATCH('/v1/inspections/{id}/photos/{photo}', { params: { path: { id, photo } }, body: { note } })).finally(anew),
    abandon: (id: string) => {
      const at = micros(Date.now())
      return got(api.PUT('/v1/inspections/{id}/state', { params: { path: { id } }, body: { state: 'abandoned', at, sent: at } })).finally(anew)
    },
    remove: (id: string) => got(api.DELETE('/v1/inspections/{id}', { params: { path: { id } } })).finally(anew),
  }
}

/** Those of the last thirty days, day by day, and who made most of them. */
export function useInspectionStatistics() {
  const place = usePlace()
  const days = useQuery({
    queryKey: computed(() => ['inspections', 'statistics', place.filter ?? '']),
    queryFn: () => {
      const until = Math.ceil(Date.now() / 60_000) * 60_000
      const query = { site: place.filter, since: micros(until - 30 * DAY), until: micros(until) }
      return Promise.all([
        got(api.GET('/v1/statistics/inspections', { params: { query: { ...query, bucket: 'day', tz: place.zone } } })),
        got(api.GET('/v1/statistics/users', { params: { query: { ...query, limit: 3 } } })),
      ])
    },
  })
  return { ...days, buckets: computed(() => days.data.value?.[0] ?? []), users: computed(() => days.data.value?.[1] ?? []) }
}

// -- planned rounds ----------------------------------------------------------------------------------------------------

export function useRounds() {
  const place = usePlace()
  const queries = useQueryClient()
  const anew = (): Promise<void> => queries.invalidateQueries({ queryKey: ['rounds'] })
  const list = useQuery({
    queryKey: computed(() => ['rounds', 'list', place.filter ?? '']),
    queryFn: () => everyPage<Round>((cursor) => got(api.GET('/v1/rounds', { params: { query: { site: place.filter, limit: 500, cursor } } }))),
  })
  const rounds = computed(() => list.data.value ?? [])
  return {
    ...list,
    rounds,
    nameOf: (id: string): string => rounds.value.find((one) => one.id === id)?.name ?? '',
    save: (plan: Plan, id?: string) =>
      (id ? got(api.PUT('/v1/rounds/{id}', { params: { path: { id } }, body: plan })) : got(api.POST('/v1/rounds', { body: plan }))).finally(anew),
    remove: (id: string) => got(api.DELETE('/v1/rounds/{id}', { params: { path: { id } } })).finally(anew),
  }
}

/** When a round was due in the last week and is in the next. */
export function useDue(id: MaybeRefOrGetter<string>) {
  return useQuery({
    queryKey: computed(() => ['inspections', 'due', toValue(id)]),
    queryFn: () => {
      const now = Date.now()
      return got(api.GET('/v1/rounds/{id}/plan', { params: { path: { id: toValue(id) }, query: { since: micros(now - 7 * DAY), until: micros(now + 7 * DAY) } } }))
    },
  })
}

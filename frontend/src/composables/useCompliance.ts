// Compliance in figures: who is in front of the cameras as the live feed tells it, and stretches of time.
import { keepPreviousData, useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, onScopeDispose, reactive, toValue } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useHear, useLive } from './useLive'
import { usePlace } from './usePlace'
import { type Range, stretch } from './useStretch'

export type Numbers = Schema<'Numbers'>
export type Compared = Schema<'Compared'>
export type Series = Schema<'Series'>
export type Bucket = 'minute' | 'hour' | 'day' | 'week' | 'all'
export type Group = '' | 'camera' | 'zone' | 'site'
export interface Seen {
  id: string
  site: string
  at: number // µs UTC, newest picture
  heard: number // ms, when this page heard of it
  looking: boolean
  people: Record<string, number> | null // null: nobody is looking, so that nobody knows
  people_in_minute: Record<string, number> | null
}

const SILENT = 12_000 // ms without counts: the camera is not looking, or nobody tells
const ASKED = 45_000 // ms: the same of what was asked for every half minute
const isCounts = (value: unknown): value is Record<string, number> => typeof value === 'object' && value !== null

export const breaches = (counts: Record<string, number> | null | undefined): number => (counts?.none ?? 0) + (counts?.incorrect ?? 0)
export const decided = (counts: Record<string, number> | null | undefined): number => breaches(counts) + (counts?.worn ?? 0)

export function useZone() {
  const place = usePlace()
  return computed(() => place.zone)
}

/** Camera by camera, who is in front of it now; moves with the live feed. */
export function useNow() {
  const place = usePlace()
  const live = useLive()
  const told = reactive(new Map<string, Seen>())
  const query = useQuery({
    queryKey: computed(() => ['compliance', 'now', place.filter ?? '']),
    queryFn: () => got(api.GET('/v1/compliance/now', { params: { query: { site: place.filter } } })),
    refetchInterval: 30_000,
  })
  useHear('counts', ({ data, site }) => {
    if (typeof data.id !== 'string' || !isCounts(data.people) || !isCounts(data.people_in_minute)) return
    told.set(data.id, {
      id: data.id, site: site ?? '', at: Number(data.at), heard: Date.now(), looking: true, people: data.people,
      people_in_minute: data.people_in_minute,
    })
  })
  const cameras = computed<Seen[]>(() => {
    const asked = query.dataUpdatedAt.value
    return (query.data.value ?? [])
      .map((row) => {
        const newer = told.get(row.id)
        const seen: Seen = newer && newer.at >= row.at ? newer : { ...row, heard: asked }
        // without a word for a while, what was there is not what is there
        const silent = !seen.looking || live.now - seen.heard > (newer ? SILENT : ASKED)
        return silent ? { ...seen, looking: false, people: null, people_in_minute: null } : seen
      })
  })
  return { ...query, cameras }
}

/** Fetches figures anew when the cameras have counted on: not more often than every `gap` ms. */
export function useCounted(gap = 5_000): void {
  const queries = useQueryClient()
  let timer: ReturnType<typeof setTimeout> | undefined
  useHear(['counts', 'episode.opened', 'episode.closed', 'episode.changed', 'episode.reviewed'], () => {
    timer ??= setTimeout(() => {
      timer = undefined
      void queries.invalidateQueries({ queryKey: ['compliance', 'moving'] })
    }, gap)
  })
  onScopeDispose(() => clearTimeout(timer))
}

interface Asked {
  range: Range | [number, number] // by name, or µs
  camera?: string
  zone?: string
}
type Ask = MaybeRefOrGetter<Asked>

function between(asked: Asked, zone: string) {
  return typeof asked.range === 'string' ? stretch(asked.range, zone) : { since: asked.range[0], until: asked.range[1] }
}
// a stretch that ends now moves; a chosen one does not
const key = (asked: Asked): string => (typeof asked.range === 'string' ? 'moving' : 'fixed')

/** A stretch and the one before it. */
export function useCompared(ask: Ask) {
  const place = usePlace()
  const zone = useZone()
  return useQuery({
    queryKey: computed(() => ['compliance', key(toValue(ask)), 'trend', place.filter ?? '', zone.value, toValue(ask)]),
    queryFn: () => {
      const asked = toValue(ask)
      return got(api.GET('/v1/compliance/trend', {
        params: { query: { ...between(asked, zone.value), site: place.filter, camera: asked.camera, zone: asked.zone } },
      }))
    },
    placeholderData: keepPreviousData,
    refetchInterval: 60_000,
  })
}

/** Over time, one series or one for each of a group. */
export function useSeries(ask: MaybeRefOrGetter<Asked & { bucket: Bucket; by?: Group }>) {
  const place = usePlace()
  const zone = useZone()
  return useQuery({
    queryKey: computed(() => ['compliance', key(toValue(ask)), 'series', place.filter ?? '', zone.value, toValue(ask)]),
    queryFn: () => {
      const { range, bucket, by, ...rest } = toValue(ask)
      return got(api.GET('/v1/compliance', {
        params: { query: { ...between({ range }, zone.value), bucket, by, ...rest, tz: zone.value, site: place.filter } },
      }))
    },
    placeholderData: keepPreviousData,
    refetchInterval: 60_000,
  })
}

/** The worst first. */
export function useRanking(ask: MaybeRefOrGetter<{ range: Range | [number, number]; by: 'camera' | 'zone' | 'site'; order?: 'rate' | 'breaches' | 'blind'; limit?: number }>) {
  const place = usePlace()
  const zone = useZone()
  return useQuery({
    queryKey: computed(() => ['compliance', key(toValue(ask)), 'ranking', place.filter ?? '', zone.value, toValue(ask)]),
    queryFn: () => {
      const { range, ...rest } = toValue(ask)
      return got(api.GET('/v1/compliance/ranking', { params: { query: { ...between({ range }, zone.value), ...rest, site: place.filter } } }))
    },
    placeholderData: keepPreviousData,
    refetchInterval: 60_000,
  })
}

/** When cameras were not looking, the newest first. */
export function useGaps(ask: MaybeRefOrGetter<Asked & { limit?: number }>) {
  const place = usePlace()
  const zone = useZone()
  return useQuery({
    queryKey: computed(() => ['compliance', key(toValue(ask)), 'gaps', place.filter ?? '', zone.value, toValue(ask)]),
    queryFn: () => {
      const asked = toValue(ask)
      return got(api.GET('/v1/compliance/gaps', {
        params: { query: { ...between(asked, zone.value), site: place.filter, camera: asked.camera, limit: asked.limit } },
      }))
    },
    placeholderData: keepPreviousData,
  })
}

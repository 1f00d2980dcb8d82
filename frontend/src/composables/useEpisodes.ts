// Episodes: what is asked for (in the address), the list by pages, one with its evidence, and the steps one can take.
import { useMutation, useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type ComputedRef, type Ref } from 'vue'
import { type LocationQuery, useRoute, useRouter } from 'vue-router'

import { api, got, type Schema } from '@/api/client'
import { midnight } from '@/wall'

import { useClock } from './useClock'
import { everyPage, useCursor } from './useCursor'
import { usePlace } from './usePlace'

export type Episode = Omit<Schema<'EpisodeWhole'>['episode'], 'place'> & { place: number[] | null }
export type Step = Schema<'Step'>
export type Action = NonNullable<Step['action']>
export const ACTIONS: Action[] = ['mask_given', 'told', 'trained', 'sent_away', 'escalated', 'exempt', 'false_alarm', 'other']
export const TEXT_WANTED: Action[] = ['other', 'false_alarm']

export const RANGES = ['hour', 'today', 'day', 'week', 'month'] as const
export type Range = (typeof RANGES)[number]
const SECONDS: Record<Exclude<Range, 'today'>, number> = { hour: 3_600, day: 86_400, week: 7 * 86_400, month: 30 * 86_400 }

/** What the address asks for; everything but the range may be missing. */
export interface Wanted {
  range: Range | 'own' // own: since and until
  since?: number // µs
  until?: number
  site?: string
  camera?: string
  state?: 'none' | 'incorrect'
  status?: 'open' | 'closed'
  review?: 'new' | 'acknowledged' | 'closed'
  assigned?: string
  zone?: string
  person?: string
  exempt?: 'only' | 'all'
}

const one = (query: LocationQuery, name: string): string => {
  const value = query[name]
  return typeof value === 'string' ? value : ''
}
function among<T extends string>(query: LocationQuery, name: string, words: readonly T[]): T | undefined {
  return words.find((word) => word === one(query, name))
}
function micros(query: LocationQuery, name: string): number | undefined {
  const text = one(query, name)
  return /^\d{1,16}$/.test(text) ? Number(text) : undefined
}

/** Reads the address; what makes no sense there is left out. */
export function read(query: LocationQuery): Wanted {
  const since = micros(query, 'since')
  const until = micros(query, 'until')
  return {
    range: since !== undefined || until !== undefined ? 'own' : (among(query, 'range', RANGES) ?? 'day'),
    since,
    until,
    site: one(query, 'site') || undefined,
    camera: one(query, 'camera') || undefined,
    state: among(query, 'state', ['none', 'incorrect'] as const),
    status: among(query, 'status', ['open', 'closed'] as const),
    review: among(query, 'review', ['new', 'acknowledged', 'closed'] as const),
    assigned: /^([0-9a-f]{32}|me)$/.test(one(query, 'assigned')) ? one(query, 'assigned') : undefined,
    zone: one(query, 'zone') || undefined,
    person: one(query, 'person') || undefined,
    exempt: among(query, 'exempt', ['only', 'all'] as const),
  }
}

/** Begin and end of what is wanted, µs. */
export function stretch(wanted: Wanted, now: number, zone: string): [number, number] {
  const end = wanted.until ?? now * 1_000
  if (wanted.range === 'own') return [wanted.since ?? Math.max(0, end - SECONDS.day * 1e6), end]
  const from = wanted.range === 'today' ? midnight(now, zone) : now - SECONDS[wanted.range] * 1_000
  return [from * 1_000, end]
}

export function useWanted() {
  const route = useRoute()
  const router = useRouter()
  const place = usePlace()
  const wanted = computed<Wanted>(() => {
    const asked = read(route.query)
    return { ...asked, site: asked.site ?? place.filter }
  })
  /** Into the address; an empty value takes it out. */
  function set(changes: Partial<Record<keyof Wanted, string | number | undefined>>): void {
    const query = { ...route.query }
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined || value === '') delete query[name]
      else query[name] = String(value)
    }
    void router.replace({ path: route.path, query })
  }
  /** For the server; a range that moves begins where it begins now. */
  function params(now = Date.now()): Record<string, string | number> {
    const { range, since, until, ...rest } = wanted.value
    const [from] = stretch(wanted.value, now, place.zone)
    const all = { ...rest, since: Math.floor(from), until: range === 'own' ? until : undefined }
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Record<string, string | number>
  }
  return { wanted, set, params }
}

export type Asking = ReturnType<typeof useWanted>

const DRAWN = 500 // most episodes that the timeline draws one by one; more are counted
const BINS = 160 // stretches in which they are counted then

export function useEpisodes({ wanted, params }: Asking) {
  const list = useCursor<Episode>(
    computed(() => ['episodes', 'list', wanted.value]),
    (cursor, limit) => got(api.GET('/v1/episodes', { params: { query: { ...params(), limit, cursor } } })),
  )
  /** The ids of all that match, however many pages that is. */
  async function matching(): Promise<string[]> {
    const query = params() // once: what begins while it is asked for is not among them
    return (await everyPage<Episode>((cursor) => got(api.GET('/v1/episodes', { params: { query: { ...query, limit: 500, cursor } } })))).map((one) => one.id)
  }
  return { ...list, matching }
}

export type Pile = Schema<'Pile'>

export interface Outage {
  camera: string
  start: number
  end: number
}

/** Everything of the stretch for the timeline: each episode, or of many how many; and when cameras did not look. */
export function useTimeline({ wanted, params }: Asking) {
  const place = usePlace()
  const now = useClock()
  const bounds = computed(() => stretch(wanted.value, now.value, place.zone))
  const counts = useQuery({
    queryKey: computed(() => ['episodes', 'counts', wanted.value]),
    queryFn: async () => {
      const counted = await got(api.GET('/v1/episodes/counts', { params: { query: { ...params(), bins: BINS } } }))
      const few = counted.episodes <= DRAWN
      const each = few ? (await got(api.GET('/v1/episodes', { params: { query: { ...params(), limit: DRAWN } } }))).items : []
      return { ...counted, each: each as Episode[], few }
    },
  })
  const marks = computed(() => counts.data.value?.each ?? [])
  const piles = computed(() => counts.data.value ?? null)
  const gaps = useQuery({
    queryKey: computed(() => ['episodes', 'gaps', wanted.value.site, wanted.value.camera, wanted.value.range, wanted.value.since, wanted.value.until]),
    queryFn: () => {
      const { since, until } = params()
      const { site, camera } = wanted.value
      const query = { since: Number(since ?? 0), ...(until ? { until: Number(until) } : {}), site, camera, limit: 500 }
      return got(api.GET('/v1/compliance/gaps', { params: { query } }))
    },
  })
  const outages = computed<Outage[]>(() => gaps.data.value?.items ?? [])
  return { now, bounds, marks, piles, outages, moreOutages: computed(() => !!gaps.data.value?.next) }
}

export function useEpisode(id: Ref<string | undefined> | ComputedRef<string | undefined>) {
  return useQuery({
    queryKey: computed(() => ['episodes', 'one', id.value]),
    queryFn: () => got(api.GET('/v1/episodes/{id}', { params: { path: { id: id.value ?? '' } } })),
    enabled: computed(() => !!id.value),
  })
}

export function useSteps() {
  const queries = useQueryClient()
  const anew = (): Promise<void> => queries.invalidateQueries({ queryKey: ['episodes'] })
  const { mutateAsync: step, isPending: stepping } = useMutation({
    mutationFn: ({ id, body }: { id: string; body: Step }) =>
      got(api.POST('/v1/episodes/{id}/steps', { params: { path: { id } }, body })),
    onSettled: anew,
  })
  const { mutateAsync: steps, isPending: bulk } = useMutation({
    // the server takes 200 at a time
    mutationFn: async ({ ids, body }: { ids: string[]; body: Step }) => {
      const done: Schema<'Done'> = { done: [], left: [] }
      for (let at = 0; at < ids.length; at += 200) {
        const part = await got(api.POST('/v1/episodes/steps', { body: { ...body, episodes: ids.slice(at, at + 200) } }))
        done.done.push(...part.done)
        done.left.push(...part.left)
      }
      return done
    },
    onSettled: anew,
  })
  return { step, steps, busy: computed(() => stepping.value || bulk.value) }
}

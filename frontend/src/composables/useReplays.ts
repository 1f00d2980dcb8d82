// Replays: what may be chosen, the runs, how far they are, and what differs between two.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type Ref, shallowReactive } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { everyPage, useCursor } from './useCursor'
import { useHear } from './useLive'
import { usePlace } from './usePlace'

export type Replay = Schema<'ReplayView'>
export type Progress = Schema<'Progress'>
export type Kind = Schema<'Difference'>['kind']

const OVER: string[] = ['done', 'failed', 'cancelled']
export const isOver = (state: string): boolean => OVER.includes(state)

export function useReplays() {
  const place = usePlace()
  // what the feed said since the list was fetched
  const told = shallowReactive(new Map<string, Progress>())
  useHear('replay.progress', ({ data }) => {
    const number = (name: string): number => (typeof data[name] === 'number' ? data[name] : 0)
    if (typeof data.id !== 'string') return
    told.set(data.id, {
      done: number('done'), total: number('total'), frames: number('frames'), eta: typeof data.eta === 'number' ? data.eta : null,
      seconds: data.reached ? (number('reached') - number('since')) / 1e6 : 0, of: (number('until') - number('since')) / 1e6,
    })
  })
  const list = useCursor<Replay>(
    computed(() => ['replays', 'list', place.filter ?? '']),
    (cursor, limit) => got(api.GET('/v1/replays', { params: { query: { site: place.filter, cursor, limit } } })),
  )
  return { ...list, progressOf: (run: Replay): Progress => (isOver(run.state) ? run.progress : told.get(run.id) ?? run.progress) }
}

/** All runs that are done, whatever page of the list one looks at: those a run can be compared with. */
export function useDoneReplays(site: Ref<string>) {
  return useQuery({
    queryKey: computed(() => ['replays', 'done', site.value]),
    queryFn: () => everyPage<Replay>((cursor) => got(api.GET('/v1/replays', { params: { query: { site: site.value, state: 'done', limit: 500, cursor } } }))),
    enabled: computed(() => site.value !== ''),
  })
}

export function useReplayOptions(site: Ref<string>, wanted: Ref<boolean>) {
  return useQuery({
    queryKey: computed(() => ['replays', 'options', site.value]),
    queryFn: () => got(api.GET('/v1/replays/options', { params: { query: { site: site.value } } })),
    enabled: computed(() => wanted.value && site.value !== ''),
  })
}

/** The versions of a site's policy. */
export function usePolicyVersions(site: Ref<string>) {
  return useQuery({
    queryKey: computed(() => ['policies', 'versions', site.value]),
    queryFn: () => everyPage<Schema<'PolicyView'>>((cursor) => got(api.GET('/v1/policies', { params: { query: { site: site.value, limit: 500, cursor } } }))),
    enabled: computed(() => site.value !== ''),
  })
}

export function useReplay(id: Ref<string>) {
  return useQuery({
    queryKey: computed(() => ['replays', 'one', id.value]),
    queryFn: () => got(api.GET('/v1/replays/{replay}', { params: { path: { replay: id.value } } })),
    enabled: computed(() => id.value !== ''),
  })
}

/** Of runs that are done, so that what the feed says of others does not make it old. */
export function useReplayDiff(id: Ref<string>, against: Ref<string>, kind: Ref<Kind | ''>, done: Ref<boolean>) {
  const ask = (limit: number, cursor?: string) => got(api.GET('/v1/replays/{replay}/diff', {
    params: { path: { replay: id.value }, query: { against: against.value, kind: kind.value || undefined, cursor, limit } },
  })) as Promise<Schema<'DiffView'>>
  const totals = useQuery({
    queryKey: computed(() => ['differences', 'totals', id.value, against.value]),
    queryFn: () => ask(1),
    enabled: done,
  })
  const list = useCursor(computed(() => ['differences', 'list', id.value, against.value, kind.value]), (cursor, limit) => ask(limit, cursor), done, 20)
  return { totals, list }
}

export function useRuns() {
  const queries = useQueryClient()
  const anew = () => queries.invalidateQueries({ queryKey: ['replays'] })
  const of = (replay: string) => ({ params: { path: { replay } } })
  async function then<T>(call: Promise<{ data?: T; response: Response }>): Promise<T> {
    const data = await got(call)
    await anew()
    return data
  }
  return {
    start: (body: Schema<'NewReplay'>) => then(api.POST('/v1/replays', { body })),
    cancel: (id: string) => then(api.POST('/v1/replays/{replay}/cancel', of(id))),
    remove: async (id: string) => {
      await then(api.DELETE('/v1/replays/{replay}', of(id)))
      return true
    },
    adopt: async (id: string, body: Schema<'Adoption'>) => {
      const adopted = await then(api.POST('/v1/replays/{replay}/adopt', { ...of(id), body }))
      await queries.invalidateQueries({ queryKey: ['policies'] })
      return adopted
    },
  }
}

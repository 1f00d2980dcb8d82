// Who went where: routes of people over cameras, and of inspections.
import { useQueries, useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, Problem, type Schema } from '@/api/client'

import { type Page, useCursor } from './useCursor'

export type Trajectory = Schema<'TrajectoryView'>

/** Routes of a site, the newest first. */
export function useTrajectories(site: MaybeRefOrGetter<string | undefined>, enabled: MaybeRefOrGetter<boolean>) {
  return useCursor<Trajectory>(
    computed(() => ['trajectories', 'list', toValue(site) ?? '']),
    async (cursor, limit) => {
      const page = await got(api.GET('/v1/trajectories', { params: { query: { site: toValue(site) || undefined, limit, cursor } } }))
      return page as Page<Trajectory> // the client reads the API's pairs as lists of any length
    },
    enabled, 50, 10_000,
  )
}

const begun = (id: string): number => Number(/@(\d+)/.exec(id)?.[1] ?? 0)
const one = async (id: string) => (await got(api.GET('/v1/trajectories/{id}', { params: { path: { id } } }))) as Trajectory

const DRAWN = 100 // most routes of a person on a map, the newest
const AT_ONCE = 6 // that the server is asked for

/** That of one id; of a person (enrolled, or a visitor with what was merged) all of their routes, and how many there are. */
export function useRoutes(chosen: MaybeRefOrGetter<{ kind: 'trajectory' | 'person'; id: string } | null>) {
  return useQuery({
    queryKey: computed(() => ['trajectories', toValue(chosen)?.kind ?? '', toValue(chosen)?.id ?? '']),
    queryFn: async (): Promise<{ routes: Trajectory[]; of: number }> => {
      const wish = toValue(chosen)
      if (!wish) return { routes: [], of: 0 }
      if (wish.kind === 'trajectory') return { routes: [await one(wish.id)], of: 1 }
      const path = { params: { path: { id: wish.id } } }
      const history = await got(api.GET('/v1/people/{id}/history', path)).catch((error: unknown) => {
        if (error instanceof Problem && (error.status === 404 || error.status === 403)) return got(api.GET('/v1/visitors/{id}', path))
        throw error
      })
      // an id says when its route began: camera@µs#index
      const ids = [...history.trajectories].sort((a, b) => begun(b) - begun(a)).slice(0, DRAWN)
      const routes: Trajectory[] = []
      for (let at = 0; at < ids.length; at += AT_ONCE) routes.push(...(await Promise.all(ids.slice(at, at + AT_ONCE).map(one))))
      return { routes: routes.sort((a, b) => a.start - b.start), of: history.trajectories.length }
    },
    enabled: computed(() => toValue(chosen) !== null),
  })
}

/** Those of some ids, as they come; one that is gone, or that one may not see, is left out. */
export function useRoutesOf(ids: MaybeRefOrGetter<string[]>) {
  const answers = useQueries({
    queries: computed(() => toValue(ids).map((id) => ({ queryKey: ['trajectories', 'one', id], queryFn: () => one(id), staleTime: 60_000 }))),
  })
  return computed<Trajectory[]>(() => answers.value.flatMap((each) => (each.data ? [each.data] : [])))
}

const isPath = (value: unknown): value is [number, number, number][] =>
  Array.isArray(value) && value.every((point) => Array.isArray(point) && point.length >= 3 && point.every((n) => typeof n === 'number'))

/** Where an inspection went on the plan: lists of [east, north, µs]. */
export async function askRoute(id: string): Promise<[number, number, number][][]> {
  const route = await got(api.GET('/v1/inspections/{id}/route', { params: { path: { id } } }))
  const plan = route.plan as { legs?: unknown } | undefined
  return Array.isArray(plan?.legs) ? plan.legs.filter(isPath) : []
}
export function useRound(id: MaybeRefOrGetter<string | null>) {
  return useQuery({
    queryKey: computed(() => ['inspections', 'route', toValue(id) ?? '']),
    queryFn: () => askRoute(toValue(id) ?? ''),
    enabled: computed(() => toValue(id) !== null),
  })
}

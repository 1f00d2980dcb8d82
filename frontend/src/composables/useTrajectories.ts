// Who went where: routes of people over cameras, and of inspections.
import { useQueries, useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, Problem, type Schema } from '@/api/client'

export type Trajectory = Schema<'TrajectoryView'>

/** The newest routes of a site, cut down to those over more than one camera when wished. */
export function useTrajectories(site: MaybeRefOrGetter<string | undefined>, enabled: MaybeRefOrGetter<boolean>) {
  const query = useQuery({
    queryKey: computed(() => ['trajectories', 'list', toValue(site) ?? '']),
    queryFn: async () =>
      // the client reads the API's pairs as lists of any length
      (await got(api.GET('/v1/trajectories', { params: { query: { site: toValue(site) || undefined, limit: 60 } } }))).items as Trajectory[],
    enabled: computed(() => toValue(enabled)),
    refetchInterval: 10_000,
  })
  return { ...query, trajectories: computed<Trajectory[]>(() => query.data.value ?? []) }
}

const one = async (id: string) => (await got(api.GET('/v1/trajectories/{id}', { params: { path: { id } } }))) as Trajectory

/** Those of one id; of a person (enrolled, or a visitor with what was merged) all of their routes. */
export function useRoutes(chosen: MaybeRefOrGetter<{ kind: 'trajectory' | 'person'; id: string } | null>) {
  return useQuery({
    queryKey: computed(() => ['trajectories', toValue(chosen)?.kind ?? '', toValue(chosen)?.id ?? '']),
    queryFn: async (): Promise<Trajectory[]> => {
      const wish = toValue(chosen)
      if (!wish) return []
      if (wish.kind === 'trajectory') return [await one(wish.id)]
      const path = { params: { path: { id: wish.id } } }
      const history = await got(api.GET('/v1/people/{id}/history', path)).catch((error: unknown) => {
        if (error instanceof Problem && (error.status === 404 || error.status === 403)) return got(api.GET('/v1/visitors/{id}', path))
        throw error
      })
      const routes = await Promise.all(history.trajectories.slice(0, 20).map(one))
      return routes.sort((a, b) => a.start - b.start)
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

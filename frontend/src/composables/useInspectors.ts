// Who is out on a round now: where their phones are, and where they went.
import { useQueries, useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, shallowReactive, toValue } from 'vue'

import { api, got } from '@/api/client'
import { type Place, type Route, routeOfRound } from '@/ground'

import type { Inspection } from './useInspections'
import { useHear } from './useLive'
import { askRoute } from './useTrajectories'

export interface Inspector {
  id: string // of the inspection
  name: string
  state: Inspection['state']
  place: Place | null // of the phone, the newest that is known
  at: number // µs, of that
  route: Route | null
}

export function useInspectors(site: MaybeRefOrGetter<string>, enabled: MaybeRefOrGetter<boolean>) {
  const out = useQuery({
    queryKey: computed(() => ['inspections', 'running', toValue(site), 'map']),
    queryFn: async () => {
      const ask = (state: 'running' | 'paused') => got(api.GET('/v1/inspections', { params: { query: { site: toValue(site), state, limit: 50 } } }))
      const [running, paused] = await Promise.all([ask('running'), ask('paused')])
      return [...running.items, ...paused.items]
    },
    enabled: computed(() => toValue(enabled) && toValue(site) !== ''),
    refetchInterval: 60_000,
  })
  const rounds = computed(() => (toValue(enabled) ? (out.data.value ?? []) : []))
  const routes = useQueries({
    queries: computed(() => rounds.value.map((one) => ({ queryKey: ['inspections', 'route', one.id], queryFn: () => askRoute(one.id) }))),
  })
  const heard = shallowReactive(new Map<string, { place: Place; at: number }>())
  useHear('inspection.point', ({ data: { id, at, east, north } }) => {
    if (typeof id === 'string' && typeof at === 'number' && typeof east === 'number' && typeof north === 'number') heard.set(id, { place: [east, north], at })
  })
  return computed<Inspector[]>(() => rounds.value.map((one, i) => {
    const legs = (routes.value[i]?.data ?? []).filter((leg) => leg.length)
    const end = legs.at(-1)?.at(-1)
    const last = end && { place: [end[0], end[1]] as Place, at: end[2] }
    const told = heard.get(one.id)
    const newest = told && (!last || told.at >= last.at) ? told : last
    return { id: one.id, name: one.user_name, state: one.state, place: newest?.place ?? null, at: newest?.at ?? one.started, route: legs.length ? routeOfRound(one.id, legs) : null }
  }))
}

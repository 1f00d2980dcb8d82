// Floor plans of a site, and what the server says of maps beneath them.
import { useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, multipart, Problem, type Schema } from '@/api/client'

import { everyPage } from './useCursor'

export type Plan = Schema<'PlanView'>

/** Of a site; of every site when none is named. */
export function usePlans(site: MaybeRefOrGetter<string | undefined>) {
  const query = useQuery({
    queryKey: computed(() => ['plans', toValue(site) ?? '']),
    queryFn: () =>
      everyPage<Plan>((cursor) => got(api.GET('/v1/plans', { params: { query: { site: toValue(site) || undefined, limit: 500, cursor } } }))),
  })
  return { ...query, plans: computed<Plan[]>(() => query.data.value ?? []) }
}

/** The address of a plan's picture; changes with the picture. Empty: it has none. */
export const planPicture = (plan: Plan): string => (plan.digest ? `/v1/plans/${plan.id}/picture?${plan.digest.slice(0, 12)}` : '')

/** The tile server of the settings; without one nothing is asked of the network. */
export function useTiles() {
  const { data } = useQuery({
    queryKey: ['interface'],
    queryFn: async () => {
      try {
        return await got(api.GET('/v1/interface'))
      } catch (error) {
        if (error instanceof Problem && error.status) return null // a map without tiles is a map
        throw error
      }
    },
    staleTime: Infinity,
  })
  return computed(() => (data.value?.tiles ? { tiles: data.value.tiles, attribution: data.value.attribution } : null))
}

export const addPlan = (body: Schema<'NewPlan'>) => got(api.POST('/v1/plans', { body }))
export const changePlan = (plan: string, body: Schema<'PlanChange'>) =>
  got(api.PATCH('/v1/plans/{plan}', { params: { path: { plan } }, body }))
export const removePlan = (plan: string) => api.DELETE('/v1/plans/{plan}', { params: { path: { plan } } })
export const givePicture = (plan: string, file: File) =>
  got(api.PUT('/v1/plans/{plan}/picture', {
    params: { path: { plan } },
    body: { picture: file.name }, // what is sent is the form below
    bodySerializer: () => multipart({ picture: file }),
  }))

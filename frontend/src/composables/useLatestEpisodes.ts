// The newest episodes, each with the picture that shows it best.
import { useQueries, useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { everyPage } from './useCursor'
import { usePlace } from './usePlace'

export type Episode = Omit<Schema<'EpisodeView'>, 'place'>
export interface Shown {
  episode: Episode
  picture: string // address; empty: none was kept
  box: number[] // pixels of that picture
}

export const evidence = (id: string, key: string): string => `/v1/episodes/${encodeURIComponent(id)}/evidence/${key}`

export function useLatestEpisodes(limit: number, camera?: MaybeRefOrGetter<string>) {
  const place = usePlace()
  const query = useQuery({
    queryKey: computed(() => ['episodes', 'latest', place.filter ?? '', toValue(camera) ?? '', limit]),
    queryFn: async () =>
      (await got(api.GET('/v1/episodes', {
        params: { query: { site: camera ? undefined : place.filter, camera: toValue(camera), limit } },
      }))).items,
    refetchInterval: 60_000,
  })
  // evidence comes with its episode only; a closed one does not change any more
  const whole = useQueries({
    queries: computed(() => (query.data.value ?? []).map((one) => ({
      queryKey: ['episode', 'picture', one.id, one.status],
      queryFn: () => got(api.GET('/v1/episodes/{id}', { params: { path: { id: one.id } } })),
      staleTime: one.status === 'closed' ? Infinity : 10_000,
    }))),
  })
  const episodes = computed<Shown[]>(() => (query.data.value ?? []).map((episode, index) => {
    // the surest look at the breach itself
    const [best] = (whole.value[index]?.data?.evidence ?? [])
      .filter((one) => one.key)
      .sort((a, b) => Number(b.look === episode.state) - Number(a.look === episode.state) || b.look_score - a.look_score)
    return { episode, picture: best ? evidence(episode.id, best.key) : '', box: best?.box ?? [] }
  }))
  return { ...query, episodes }
}

/** Every one that began in a stretch, or went on into it, in front of a camera. */
export function useBreaches(camera: MaybeRefOrGetter<string>, stretch: MaybeRefOrGetter<{ since: number; until: number }>) {
  const LONG = 3_600e6 // µs before the stretch in which one may have begun
  return useQuery({
    queryKey: computed(() => ['episodes', 'latest', 'of', toValue(camera), toValue(stretch)]),
    queryFn: () => {
      const { since, until } = toValue(stretch)
      const query = { camera: toValue(camera), since: Math.floor(since - LONG), until: Math.floor(until), limit: 500 }
      return everyPage<Episode>((cursor) => got(api.GET('/v1/episodes', { params: { query: { ...query, cursor } } })))
    },
  })
}

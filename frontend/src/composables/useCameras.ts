// The cameras of the chosen site, with what each does as it changes.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useHear } from './useLive'
import { usePlace } from './usePlace'

export type Camera = Schema<'CameraView'>

/** Every camera one may see at the chosen site. */
export function useCameras() {
  const place = usePlace()
  const queries = useQueryClient()
  const query = useQuery({
    queryKey: computed(() => ['cameras', 'list', place.filter ?? '']),
    queryFn: async () => {
      const found: Camera[] = []
      let cursor: string | undefined
      do {
        const page = await got(api.GET('/v1/cameras', { params: { query: { site: place.filter, limit: 500, cursor } } }))
        found.push(...(page.items as Camera[])) // the client reads the API's pairs as lists of any length
        cursor = page.next ?? undefined
      } while (cursor)
      return found
    },
    refetchInterval: 30_000,
  })
  useHear('camera.status', () => void queries.invalidateQueries({ queryKey: ['cameras'] }))
  const cameras = computed(() => query.data.value ?? [])
  const named = computed(() => new Map(cameras.value.map((one) => [one.id, one.name || one.id])))
  const nameOf = (id: string): string => named.value.get(id) ?? id
  return { ...query, cameras, nameOf }
}

/** One camera by its id. */
export function useCamera(id: MaybeRefOrGetter<string>) {
  const queries = useQueryClient()
  useHear('camera.status', (event) => {
    if (event.data.id === toValue(id)) void queries.invalidateQueries({ queryKey: ['cameras'] })
  })
  return useQuery({
    queryKey: computed(() => ['cameras', 'one', toValue(id)]),
    queryFn: () => got(api.GET('/v1/cameras/{camera}', { params: { path: { camera: toValue(id) } } })),
    refetchInterval: 10_000,
  })
}

/** up, down, connecting, stopped, ended, or waiting for a worker. */
export function doing(camera: Pick<Camera, 'status' | 'running'>): string {
  return camera.status?.state ?? (camera.running ? 'waiting' : 'stopped')
}

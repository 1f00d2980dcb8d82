// The cameras of the chosen site, with what each does as it changes.
import { useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { everyPage } from './useCursor'
import { usePlace } from './usePlace'

export type Camera = Schema<'CameraView'>

/** Every camera one may see at the chosen site. */
export function useCameras() {
  const place = usePlace()
  const query = useQuery({
    queryKey: computed(() => ['cameras', 'list', place.filter ?? '']),
    queryFn: () =>
      everyPage<Camera>(async (cursor) => {
        const page = await got(api.GET('/v1/cameras', { params: { query: { site: place.filter, limit: 500, cursor } } }))
        return page as { items: Camera[]; next?: string | null } // the client reads the API's pairs as lists of any length
      }),
    refetchInterval: 30_000,
  })
  const cameras = computed(() => query.data.value ?? [])
  const named = computed(() => new Map(cameras.value.map((one) => [one.id, one.name || one.id])))
  const nameOf = (id: string): string => named.value.get(id) ?? id
  return { ...query, cameras, nameOf }
}

/** One camera by its id. */
export function useCamera(id: MaybeRefOrGetter<string>) {
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

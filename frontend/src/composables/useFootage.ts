// What the log still holds of a camera: samples of a long stretch, every picture of a short one, and films.
import { keepPreviousData, useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got } from '@/api/client'

export const pictureAt = (camera: string, at: number): string => `/v1/cameras/${encodeURIComponent(camera)}/footage/${at}`
export const clipOf = (camera: string, since: number, until: number, download = false): string =>
  `/v1/cameras/${encodeURIComponent(camera)}/footage/clip?since=${since}&until=${until}&stamp=site${download ? '&download=true' : ''}`

export function useFootage(camera: MaybeRefOrGetter<string>, stretch: MaybeRefOrGetter<{ since: number; until: number } | null>, limit = 60) {
  return useQuery({
    queryKey: computed(() => ['footage', toValue(camera), toValue(stretch), limit]),
    queryFn: () => {
      const asked = toValue(stretch)
      return got(api.GET('/v1/cameras/{camera}/footage', {
        params: { path: { camera: toValue(camera) }, query: { since: asked?.since ?? 0, until: asked?.until ?? 0, limit } },
      }))
    },
    enabled: computed(() => toValue(stretch) !== null),
    placeholderData: keepPreviousData,
  })
}

// Zones of calibrated cameras as they lie on the floor.
import { useQueries } from '@tanstack/vue-query'
import { computed, type ComputedRef } from 'vue'

import { api, got } from '@/api/client'
import { landed, type Place } from '@/ground'

import type { Camera } from './useCameras'

export function useFloorZones(cameras: ComputedRef<Camera[]>): ComputedRef<{ name: string; outline: Place[] }[]> {
  const drawn = computed(() => cameras.value.filter((one) => one.calibrated && one.zones.length))
  const answers = useQueries({
    queries: computed(() => drawn.value.map((one) => ({
      queryKey: ['cameras', 'calibration', one.id],
      queryFn: () => got(api.GET('/v1/cameras/{camera}/calibration', { params: { path: { camera: one.id } } })),
    }))),
  })
  return computed(() => drawn.value.flatMap((one, i) => {
    const matrix = answers.value[i]?.data?.matrix
    return matrix
      ? one.zones.flatMap((zone) => {
          const outline = zone.outline.map((corner) => landed(matrix, corner))
          return outline.every((corner) => corner !== null) ? [{ name: zone.name, outline: outline as Place[] }] : []
        })
      : []
  }))
}

// Sites, their cameras and policies: what one changes there.
import { useQuery } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, Problem, type Schema } from '@/api/client'

import { everyPage } from './useCursor'

export type Policy = Schema<'PolicyView'>
export type Rule = Schema<'Rule'>

export function usePolicies(site: MaybeRefOrGetter<string>) {
  const query = useQuery({
    queryKey: computed(() => ['policies', toValue(site)]),
    queryFn: () => everyPage<Policy>((cursor) => got(api.GET('/v1/policies', { params: { query: { site: toValue(site), limit: 500, cursor } } }))),
    enabled: computed(() => toValue(site) !== ''),
  })
  return { ...query, policies: computed<Policy[]>(() => query.data.value ?? []) }
}

export const addSite = (body: Schema<'NewSite'>) => got(api.POST('/v1/sites', { body }))
export const changeSite = (site: string, body: Schema<'SiteChange'>) => got(api.PATCH('/v1/sites/{site}', { params: { path: { site } }, body }))
export const removeSite = (site: string) => api.DELETE('/v1/sites/{site}', { params: { path: { site } } })

export const addCamera = (body: Schema<'NewCamera'>) => got(api.POST('/v1/cameras', { body }))
export const changeCamera = (camera: string, body: Schema<'CameraChange'>) => got(api.PATCH('/v1/cameras/{camera}', { params: { path: { camera } }, body }))
export const removeCamera = (camera: string) => api.DELETE('/v1/cameras/{camera}', { params: { path: { camera } } })
export const startCamera = (camera: string) => got(api.POST('/v1/cameras/{camera}/start', { params: { path: { camera } } }))
export const stopCamera = (camera: string) => got(api.POST('/v1/cameras/{camera}/stop', { params: { path: { camera } } }))
export const switchSource = (camera: string, source: number | null) => got(api.PUT('/v1/cameras/{camera}/source', { params: { path: { camera } }, body: { source } }))
export const tryAddress = (url: string) => got(api.POST('/v1/cameras/test', { body: { url } }))

/** A picture from the camera, now. */
export async function snapshot(camera: string): Promise<Blob> {
  const { data } = await api.POST('/v1/cameras/{camera}/snapshot', { params: { path: { camera } }, parseAs: 'blob' })
  return data as Blob
}

export const drawZones = (camera: string, zones: Schema<'NewZone'>[]) => got(api.PUT('/v1/cameras/{camera}/zones', { params: { path: { camera } }, body: { zones } }))
export const drawHidden = (camera: string, areas: Schema<'Hidden'>['areas']) => got(api.PUT('/v1/cameras/{camera}/hidden', { params: { path: { camera } }, body: { areas } }))
export const calibrate = (camera: string, body: Schema<'NewCalibration'>) => got(api.PUT('/v1/cameras/{camera}/calibration', { params: { path: { camera } }, body }))
export const uncalibrate = (camera: string) => api.DELETE('/v1/cameras/{camera}/calibration', { params: { path: { camera } } })
/** null: it has none yet. */
export async function calibrationOf(camera: string): Promise<Schema<'CalibrationView'> | null> {
  try {
    return (await got(api.GET('/v1/cameras/{camera}/calibration', { params: { path: { camera } } }))) as Schema<'CalibrationView'>
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return null
    throw error
  }
}

export const addPolicy = (body: Schema<'NewPolicy'>) => got(api.POST('/v1/policies', { body }))
export const activatePolicy = (policy: string) => got(api.POST('/v1/policies/{policy}/activate', { params: { path: { policy } } }))
export const retirePolicy = (policy: string) => got(api.POST('/v1/policies/{policy}/retire', { params: { path: { policy } } }))

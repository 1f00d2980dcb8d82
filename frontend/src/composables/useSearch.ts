// Searching by a face, comparing two, and deciding who is who.
import { useQueryClient } from '@tanstack/vue-query'

import { api, got, multipart, type Schema } from '@/api/client'

export interface Wanted {
  picture?: Blob
  like?: string // id of a face that was seen
  face?: number
  since: number // µs
  until: number // µs
  site?: string
  camera?: string
  least: number
  order: 'chance' | 'newest'
}

/** Most matches of an answer. */
export const MOST = 50

export function search(wanted: Wanted, signal?: AbortSignal) {
  const { picture, like, face, site, camera, ...rest } = wanted
  if (picture) {
    return got(api.POST('/v1/search/upload', {
      body: { picture: '', ...rest }, // what is sent is the form below: the generated type says string for a file
      bodySerializer: () => multipart({ picture, face, site, camera, limit: MOST, ...rest }),
      signal,
    }))
  }
  return got(api.POST('/v1/search', {
    body: { like: like ?? '', sites: site ? [site] : [], cameras: camera ? [camera] : [], limit: MOST, ...rest },
    signal,
  }))
}

export function compare(first: Blob, second: Blob, faces: { first?: number; second?: number }) {
  return got(api.POST('/v1/faces/compare/upload', {
    body: { first: '', second: '' },
    bodySerializer: () => multipart({ first, second, first_face: faces.first, second_face: faces.second }),
  }))
}

export type SearchAnswer = Awaited<ReturnType<typeof search>>
export type FacesCompared = Awaited<ReturnType<typeof compare>>

export function useDecisions() {
  const queries = useQueryClient()
  const changed = (): void => {
    for (const noun of ['decisions', 'people', 'visitors', 'trajectories']) void queries.invalidateQueries({ queryKey: [noun] })
  }
  async function decide(decision: Schema<'NewDecision'>): Promise<Schema<'DecisionView'>> {
    const made = await got(api.POST('/v1/decisions', { body: decision }))
    changed()
    return made
  }
  async function undo(id: number): Promise<void> {
    await api.POST('/v1/decisions/{id}/undo', { params: { path: { id } } })
    changed()
  }
  return { decide, undo }
}

// People with a name: who agreed to be recognised, their photos and consents, watch-lists, where they were seen, and what
// was decided about who is who.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, type Ref, toValue } from 'vue'

import { api, got, multipart, type Schema } from '@/api/client'

import { useCursor } from './useCursor'

export type Person = Schema<'PersonView'>
export type NewPerson = Schema<'NewPerson'>
export type PersonWhole = Schema<'PersonDetail'>
export type PersonChange = Schema<'PersonChange'>
export type Consent = Schema<'ConsentWords'>
export type WatchList = Schema<'ListView'>
export type Decision = Schema<'DecisionView'>
export type Erasure = Schema<'ErasureView'>
export type ErasureWish = Schema<'ErasureWish'>

/** Ids of enrolled people are 32 hex digits; everything else is a visitor nobody has named. */
export const isPerson = (id: string): boolean => /^[0-9a-f]{32}$/.test(id)

export function usePeople(filter: Ref<{ site?: string; name?: string }>) {
  return useCursor<Person>(
    computed(() => ['people', 'list', filter.value]),
    (cursor, limit) => got(api.GET('/v1/people', { params: { query: { ...filter.value, cursor, limit } } })),
  )
}

export function usePerson(id: MaybeRefOrGetter<string>) {
  return useQuery({
    queryKey: computed(() => ['people', 'one', toValue(id)]),
    queryFn: () => got(api.GET('/v1/people/{id}', { params: { path: { id: toValue(id) } } })),
  })
}

const historyOf = (id: string) => {
  const path = { id }
  return isPerson(id) ? got(api.GET('/v1/people/{id}/history', { params: { path } })) : got(api.GET('/v1/visitors/{id}', { params: { path } }))
}
export type History = Awaited<ReturnType<typeof historyOf>>

/** Where and when somebody was seen: an enrolled person, or a visitor. Each look is in the audit log. */
export function useHistory(id: MaybeRefOrGetter<string>) {
  return useQuery({ queryKey: computed(() => ['visitors', toValue(id)]), queryFn: () => historyOf(toValue(id)), staleTime: 60_000 })
}

export function useRecognised(person: MaybeRefOrGetter<string>) {
  return useCursor<Schema<'RecognisedView'>>(
    computed(() => ['recognised', toValue(person)]),
    (cursor, limit) => got(api.GET('/v1/recognised', { params: { query: { person: toValue(person), cursor, limit } } })),
    true, 20,
  )
}

export function usePersonChanges() {
  const queries = useQueryClient()
  const anew = async (): Promise<void> => {
    await Promise.all(['people', 'watchlists', 'recognised', 'visitors'].map((noun) => queries.invalidateQueries({ queryKey: [noun] })))
  }
  const path = (id: string) => ({ path: { id } })
  return {
    enrol: (body: NewPerson) => got(api.POST('/v1/people', { body })).finally(anew),
    change: (id: string, body: PersonChange) => got(api.PATCH('/v1/people/{id}', { params: path(id), body })).finally(anew),
    forget: (id: string) => got(api.DELETE('/v1/people/{id}', { params: path(id) })).finally(anew),
    agree: (id: string, body: Consent) => got(api.POST('/v1/people/{id}/consents', { params: path(id), body })).finally(anew),
    withdraw: (id: string) => got(api.POST('/v1/people/{id}/withdrawal', { params: path(id) })).finally(anew),
    portray: (id: string, picture: Blob, face?: number) =>
      got(api.POST('/v1/people/{id}/portraits/upload', {
        params: path(id),
        body: { picture: '', face }, // what is sent is the form below
        bodySerializer: () => multipart({ picture, face }),
      })).finally(anew),
    removePortrait: (id: string, portrait: string) =>
      got(api.DELETE('/v1/people/{id}/portraits/{portrait}', { params: { path: { id, portrait } } })).finally(anew),
  }
}

export function useWatchLists() {
  const queries = useQueryClient()
  const anew = async (): Promise<void> => {
    await Promise.all(['watchlists', 'people'].map((noun) => queries.invalidateQueries({ queryKey: [noun] })))
  }
  const list = useQuery({ queryKey: ['watchlists'], queryFn: () => got(api.GET('/v1/watch-lists')) })
  return {
    ...list,
    lists: computed<WatchList[]>(() => list.data.value ?? []),
    make: (body: Schema<'NewList'>) => got(api.POST('/v1/watch-lists', { body })).finally(anew),
    remove: (id: string) => got(api.DELETE('/v1/watch-lists/{id}', { params: { path: { id } } })).finally(anew),
    watch: (id: string, person_id: string, why: Schema<'Why'>) =>
      got(api.PUT('/v1/watch-lists/{id}/people/{person_id}', { params: { path: { id, person_id } }, body: why })).finally(anew),
    unwatch: (id: string, person_id: string) =>
      got(api.DELETE('/v1/watch-lists/{id}/people/{person_id}', { params: { path: { id, person_id } } })).finally(anew),
  }
}

export function useDecided(subject: MaybeRefOrGetter<string | undefined> = undefined) {
  return useCursor<Decision>(
    computed(() => ['decisions', toValue(subject) ?? '']),
    (cursor, limit) => got(api.GET('/v1/decisions', { params: { query: { subject: toValue(subject), cursor, limit } } })),
  )
}

export function useErasures() {
  const queries = useQueryClient()
  const list = useCursor<Erasure>(
    computed(() => ['erasures']),
    (cursor, limit) => got(api.GET('/v1/erasures', { params: { query: { cursor, limit } } })),
    true, 20,
  )
  async function erase(wish: ErasureWish): Promise<Erasure> {
    const done = await got(api.POST('/v1/erasures', { body: wish }))
    if (!wish.dry) {
      // what the page holds of them must go, too
      queries.removeQueries({ queryKey: ['people', 'one'] })
      queries.removeQueries({ queryKey: ['visitors'] })
      for (const noun of ['people', 'erasures', 'watchlists', 'recognised', 'decisions', 'episodes', 'trajectories']) void queries.invalidateQueries({ queryKey: [noun] })
    }
    return done
  }
  return { ...list, erase }
}

// How server data is held: one cache, one part of it thrown away by what the live feed says, all of it with the user.
import { hashKey, QueryClient, type QueryKey } from '@tanstack/vue-query'
import { watch } from 'vue'

import { Problem } from '@/api/client'

import { type LiveEvent, useLive } from './useLive'
import { useSession } from './useSession'

/** What is old news, by query key, and how long at least (ms) until it may be asked for again. */
type Old = [key: QueryKey, gap: number]
const SOON = 1_000
const LIST = 3_000 // a page of a list
const SUM = 20_000 // what the server has to count for

/** By the kind of an event, or its noun. Kinds that are not here pages hear themselves, or nothing is old by them. */
const OLD: Record<string, (id: string) => Old[]> = {
  'camera.status': (id) => [[['cameras', 'list'], LIST], [['cameras', 'one', id], LIST], [['cameras', 'statistics'], SUM]],
  camera: () => [[['cameras'], LIST]],
  site: () => [[['sites'], SOON], [['plans'], SOON]],
  policy: () => [[['policies'], SOON], [['sites'], SOON]],
  episode: (id) => [
    [['episodes', 'list'], LIST], [['episodes', 'latest'], LIST], [['episodes', 'one', id], SOON],
    [['episodes', 'counts'], SUM], [['episodes', 'gaps'], SUM], [['episodes', 'heat'], SUM],
  ],
  alert: (id) => [[['alerts', 'list'], LIST], [['alerts', 'one', id], SOON]],
  delivery: (id) => [[['deliveries', 'list'], LIST], [['deliveries', 'one', id], SOON], [['alerts', 'one'], LIST]],
  request: () => [[['requests'], SOON]],
  // a phone that walks says so every few seconds: lists hear that themselves
  'inspection.point': (id) => [[['inspections', 'route', id], SUM], [['inspections', 'cameras', id], SUM]],
  'inspection.photo': (id) => [
    [['inspections', 'one', id], SOON], [['inspections', 'photos', id], SOON], [['inspections', 'list'], LIST],
    [['inspections', 'running'], LIST], [['inspections', 'statistics'], SUM],
  ],
  inspection: (id) => [
    ...['one', 'photos', 'cameras', 'route'].map((what): Old => [['inspections', what, id], SOON]),
    [['inspections', 'list'], LIST], [['inspections', 'running'], LIST], [['inspections', 'due'], LIST], [['inspections', 'statistics'], SUM],
  ],
  'replay.progress': () => [],
  replay: (id) => [[['replays', 'list'], LIST], [['replays', 'one', id], SOON], [['replays', 'done'], LIST]],
  person: () => [[['recognised'], LIST]],
  watchlist: () => [[['recognised'], LIST]],
  'chat.people': () => [],
  chat: () => [[['rooms'], LIST]],
  grants: () => [[[], SOON]], // other rights, other answers
}
const GATHER = 700 // ms: a burst of events asks the server once

export function makeQueries(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 15_000,
        networkMode: 'always', // the server may be on this machine, or on a network without the internet
        retry: (count, error) => count < 2 && !(error instanceof Problem && error.status >= 400 && error.status < 500),
        retryDelay: (count) => 1_000 * 2 ** count,
      },
      mutations: { networkMode: 'always' },
    },
  })
}

/** Lets the live feed invalidate what it has made old, each part after its pause. Once for the page. */
export function followLive(queries: QueryClient): () => void {
  const waiting = new Map<string, ReturnType<typeof setTimeout>>()
  const done = new Map<string, number>() // ms, when last
  function later([queryKey, gap]: Old): void {
    const name = hashKey(queryKey)
    if (waiting.has(name)) return
    const wait = Math.max(GATHER, (done.get(name) ?? 0) + gap - Date.now())
    waiting.set(name, setTimeout(() => {
      waiting.delete(name)
      done.set(name, Date.now())
      for (const [other, at] of done) if (at < Date.now() - SUM) done.delete(other) // of ids that are no more
      // a page that nobody looks at asks once somebody does
      void queries.invalidateQueries({ queryKey, refetchType: document.hidden ? 'none' : 'active' })
    }, wait))
  }
  return useLive().on('*', ({ kind, data }: LiveEvent) => {
    if (kind === 'lost') return void queries.invalidateQueries()
    const id = typeof data.id === 'string' ? data.id : ''
    const old = OLD[kind] ?? OLD[kind.split('.')[0] ?? '']
    for (const one of old?.(id) ?? []) later(one)
  })
}

/** What one user was shown is not there for the next. Once for the page. */
export function followUser(queries: QueryClient): void {
  const session = useSession()
  watch(() => session.me?.id ?? '', (now, before) => {
    if (now && before) {
      // another one, with this page open: what is on it is asked for anew
      queries.removeQueries({ type: 'inactive' })
      void queries.resetQueries()
    } else {
      queries.clear()
    }
  }, { flush: 'sync' })
}

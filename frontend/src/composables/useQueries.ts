// How server data is held: one cache, thrown away by what the live feed says.
import { QueryClient, type QueryKey } from '@tanstack/vue-query'

import { Problem } from '@/api/client'

import { useLive } from './useLive'

/** First words of query keys (`['episodes', …]`) that are old news once such an event came. */
const TOUCHED: Record<string, QueryKey[]> = {
  camera: [['cameras']],
  site: [['sites'], ['plans']],
  policy: [['policies']],
  episode: [['episodes']],
  alert: [['alerts']],
  delivery: [['deliveries']],
  request: [['requests']],
  inspection: [['inspections']],
  replay: [['replays']],
  grants: [['me'], ['users']],
}
const GATHER = 700 // ms: a burst of events asks the server once

export function makeQueries(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 15_000,
        retry: (count, error) => count < 2 && !(error instanceof Problem && error.status >= 400 && error.status < 500),
        retryDelay: (count) => 1_000 * 2 ** count,
      },
    },
  })
}

/** Lets the live feed invalidate what it has made old. Once for the page. */
export function followLive(queries: QueryClient): void {
  const waiting = new Set<string>()
  let timer: ReturnType<typeof setTimeout> | undefined
  useLive().on('*', ({ kind }) => {
    const noun = kind.split('.')[0] ?? ''
    if (kind === 'lost') void queries.invalidateQueries()
    if (kind === 'camera.status' || !(noun in TOUCHED)) return // statuses come every second: pages hear them directly
    waiting.add(noun)
    timer ??= setTimeout(() => {
      timer = undefined
      for (const noun of waiting) for (const queryKey of TOUCHED[noun] ?? []) void queries.invalidateQueries({ queryKey })
      waiting.clear()
    }, GATHER)
  })
}

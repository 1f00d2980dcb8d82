import { QueryClient } from '@tanstack/vue-query'
import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { computed } from 'vue'

import { useLive } from './useLive'
import { usePlace } from './usePlace'
import { followLive, followUser, makeQueries } from './useQueries'
import { useSession } from './useSession'
import { loggedIn, serve, within } from '@/testing'

const MINUTE = 60_000
const say = (kind: string, data: object = {}): void => useLive().take(kind, JSON.stringify({ data }))
/** Keys and how often each is fetched, all of them on the page. */
function watched(keys: string[][]) {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity, gcTime: Infinity } } })
  const asked: Record<string, number> = {}
  for (const queryKey of keys) {
    const name = queryKey.join(' ')
    asked[name] = 0
    void queries.ensureQueryData({ queryKey, queryFn: () => Promise.resolve((asked[name] = (asked[name] ?? 0) + 1)) })
    // somebody looks at it
    const query = queries.getQueryCache().find({ queryKey })
    vi.spyOn(query as object as { isActive: () => boolean }, 'isActive').mockReturnValue(true)
    vi.spyOn(query as object as { isDisabled: () => boolean }, 'isDisabled').mockReturnValue(false)
  }
  return { queries, asked }
}

beforeEach(() => {
  vi.useFakeTimers()
  loggedIn([])
})
afterEach(() => vi.useRealTimers())

it('asks anew for exactly what an event made old', async () => {
  const { queries, asked } = watched([['episodes', 'list'], ['episodes', 'one', 'e1'], ['episodes', 'one', 'e2'], ['inspections', 'list'], ['inspections', 'photos', 'i1'], ['replays', 'one', 'r1'], ['cameras', 'names']])
  await vi.advanceTimersByTimeAsync(1)
  followLive(queries)
  say('episode.changed', { id: 'e1' })
  say('inspection.point', { id: 'i1', at: 5 })
  say('replay.progress', { id: 'r1', done: 3 })
  say('camera.status', { id: 'gate' })
  say('chat.message', { room: 'site:a' })
  await vi.advanceTimersByTimeAsync(MINUTE)
  expect(asked).toEqual({
    'episodes list': 2, 'episodes one e1': 2, 'episodes one e2': 1, 'inspections list': 1, 'inspections photos i1': 1, 'replays one r1': 1, 'cameras names': 1,
  })
  say('inspection.photo', { id: 'i1' })
  await vi.advanceTimersByTimeAsync(MINUTE)
  expect([asked['inspections list'], asked['inspections photos i1']]).toEqual([2, 2])
})

it('does not hammer the server nor grow while events come all day', async () => {
  const { queries, asked } = watched([['episodes', 'list'], ['episodes', 'counts'], ['episodes', 'heat'], ['replays', 'list']])
  await vi.advanceTimersByTimeAsync(1)
  followLive(queries)
  const before = vi.getTimerCount()
  for (let second = 0; second < 600; second++) {
    for (let n = 0; n < 5; n++) say('episode.changed', { id: `e${second}-${n}` })
    say('replay.progress', { id: 'r1', done: second })
    await vi.advanceTimersByTimeAsync(1_000)
  }
  expect(asked['episodes list']).toBeLessThanOrEqual(1 + 600 / 3 + 1)
  expect(asked['episodes list']).toBeGreaterThan(100)
  for (const sum of ['episodes counts', 'episodes heat']) {
    expect(asked[sum]).toBeLessThanOrEqual(1 + 600 / 20 + 1)
    expect(asked[sum]).toBeGreaterThan(20)
  }
  expect(asked['replays list']).toBe(1)
  await vi.advanceTimersByTimeAsync(MINUTE)
  expect(vi.getTimerCount()).toBeLessThanOrEqual(before)
  expect(queries.getQueryCache().getAll()).toHaveLength(4)
})

it('asks for nothing while the page is hidden, and for everything after a lost connection', async () => {
  const { queries, asked } = watched([['alerts', 'list'], ['sites', 'u1']])
  await vi.advanceTimersByTimeAsync(1)
  followLive(queries)
  const hidden = vi.spyOn(document, 'hidden', 'get').mockReturnValue(true)
  say('alert.made', { id: 'a' })
  await vi.advanceTimersByTimeAsync(MINUTE)
  expect(asked['alerts list']).toBe(1)
  expect(queries.getQueryState(['alerts', 'list'])?.isInvalidated).toBe(true) // once somebody looks
  hidden.mockRestore()
  say('lost')
  await vi.advanceTimersByTimeAsync(MINUTE)
  expect(asked).toEqual({ 'alerts list': 2, 'sites u1': 2 })
})

it('leaves nothing of a user for the next', async () => {
  const queries = makeQueries()
  followUser(queries)
  queries.setQueryData(['people', 'one', 'p1'], { name: 'Wang' })
  serve({ 'POST /v1/logout': {} })
  await useSession().logout()
  expect(queries.getQueryCache().getAll()).toHaveLength(0)

  // and when another one logs in elsewhere, with this page open
  loggedIn([], {}, 'u1')
  queries.setQueryData(['people', 'one', 'p1'], { name: 'Wang' })
  loggedIn([], {}, 'u2')
  expect(queries.getQueryData(['people', 'one', 'p1'])).toBeUndefined()
})

it('asks for the sites once somebody has logged in, and anew for the next one', async () => {
  vi.useRealTimers()
  useSession().me = null
  const server = serve({ 'GET /v1/sites': { items: [{ id: 'a', name: 'Hall' }], next: null } })
  const names = () => {
    const place = usePlace()
    return { names: computed(() => place.sites.map((one) => one.name)) }
  }
  const place = within(names, { queries: makeQueries() })
  await flushPromises()
  expect(server.asked).toEqual([])
  loggedIn(['cameras.view'])
  await vi.waitFor(() => expect(place.names.value).toEqual(['Hall']))
  useSession().me = null
  await flushPromises()
  expect(place.names.value).toEqual([])
  loggedIn(['cameras.view'], {}, 'u2')
  await vi.waitFor(() => expect(server.asked).toHaveLength(2))
})

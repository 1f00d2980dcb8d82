import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { computed } from 'vue'

import { breaches, decided, useNow, useSeries } from './useCompliance'
import { useLive } from './useLive'
import { loggedIn, serve, within } from '@/testing'

const NOW = Date.UTC(2026, 10, 23, 12)
const row = (id: string, more: object = {}) => ({ id, site: 'a', at: NOW * 1_000, looking: true, people: { worn: 2, none: 1 }, minute: 0, people_in_minute: { worn: 9 }, seconds_in_minute: {}, ...more })

beforeEach(() => {
  vi.useFakeTimers({ now: NOW })
  loggedIn(['compliance.view'])
})
afterEach(() => vi.useRealTimers())
const passes = async (ms: number): Promise<void> => {
  await vi.advanceTimersByTimeAsync(ms)
  useLive().now = Date.now() // as its own clock does once a second
  await flushPromises()
}

it('says that nobody knows, not that nobody is there, once a camera is silent', async () => {
  let answers = 0
  serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/compliance/now': () => (answers++ ? new Response('', { status: 503 }) : [row('gate'), row('dock', { looking: false, people: {} })]) })
  const { cameras } = within(() => ({ cameras: useNow().cameras }))
  await passes(10)
  expect(cameras.value.map((one) => [one.id, one.looking, one.people, one.people_in_minute])).toEqual([['gate', true, { worn: 2, none: 1 }, { worn: 9 }], ['dock', false, null, null]])
  useLive().take('counts', JSON.stringify({ site: 'a', data: { id: 'gate', at: NOW * 1_000 + 1, people: { none: 3 }, people_in_minute: { none: 4 } } }))
  expect(cameras.value[0]?.people).toEqual({ none: 3 })
  await passes(11_000)
  expect(cameras.value[0]?.looking).toBe(true)
  await passes(2_000)
  expect([cameras.value[0]?.looking, cameras.value[0]?.people, cameras.value[0]?.people_in_minute]).toEqual([false, null, null])
  useLive().take('counts', JSON.stringify({ site: 'a', data: { id: 'gate', at: NOW * 1_000 + 2, people: {}, people_in_minute: {} } }))
  expect([cameras.value[0]?.looking, cameras.value[0]?.people]).toEqual([true, {}]) // it looks, and nobody is there
})

it('does not take an older count for a newer one, nor what is none', async () => {
  serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/compliance/now': [row('gate')] })
  const { cameras } = within(() => ({ cameras: useNow().cameras }))
  await passes(10)
  const say = (data: object) => useLive().take('counts', JSON.stringify({ data }))
  say({ id: 'gate', at: NOW * 1_000 - 5e6, people: { none: 7 }, people_in_minute: {} })
  say({ id: 'gate', at: NOW * 1_000 + 5e6, people: 'many', people_in_minute: {} })
  expect(cameras.value[0]?.people).toEqual({ worn: 2, none: 1 })
})

it('asks for a stretch that ends now as it is now, each time', async () => {
  const server = serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/compliance': [] })
  within(() => ({ data: useSeries(computed(() => ({ range: 'hour' as const, bucket: 'minute' as const }))).data }))
  await passes(10)
  await passes(61_000)
  const since = server.asked.filter(({ call }) => call.startsWith('GET /v1/compliance?')).map(({ call }) => Number(new URLSearchParams(call.split('?')[1]).get('since')))
  expect(since.length).toBe(2)
  expect((since[1] ?? 0) - (since[0] ?? 0)).toBeGreaterThanOrEqual(60e6)
})

it('counts breaches and those of whom it could be told', () => {
  const counts = { worn: 5, none: 2, incorrect: 1, unknown: 9, exempt: 4 }
  expect([breaches(counts), decided(counts), breaches(null), decided(undefined)]).toEqual([3, 8, 0, 0])
})

import { flushPromises } from '@vue/test-utils'
import { beforeEach, expect, it, vi } from 'vitest'
import { createMemoryHistory, createRouter } from 'vue-router'

import { isMissingPart, renew, renewWhenReplaced, wasRenewed } from './renew'

beforeEach(() => {
  sessionStorage.clear()
  vi.stubGlobal('fetch', () => Promise.resolve(new Response(null, { status: 405 })))
})

function open(parts: Record<string, () => Promise<unknown>>) {
  const router = createRouter({
    history: createMemoryHistory(),
    routes: [{ path: '/', component: { template: '<i />' } }, ...Object.entries(parts).map(([path, component]) => ({ path, component }))] as never,
  })
  const went: string[] = []
  const sorry = vi.fn()
  renewWhenReplaced(router, sorry, (to) => went.push(to))
  return { router, went, sorry }
}
const gone = () => Promise.reject(new TypeError('Failed to fetch dynamically imported module: /assets/Map-old.js'))

it('loads the page anew where one was going, once, when a part of the old one is gone', async () => {
  const { router, went, sorry } = open({ '/map': gone })
  await router.push('/')
  await router.push('/map?plan=2').catch(() => undefined)
  await flushPromises()
  expect([went, sorry.mock.calls.length]).toEqual([['/map?plan=2'], 0])
  expect([wasRenewed(), wasRenewed()]).toEqual([true, false]) // said once after it
})

it('says so when loading anew did not help', async () => {
  expect(renew('/map', () => undefined)).toBe(true)
  const { router, went, sorry } = open({ '/map': gone })
  await router.push('/map').catch(() => undefined)
  await flushPromises()
  expect([went, sorry.mock.calls.length]).toEqual([[], 1])
})

it('waits for a server that does not answer, and then goes where one was going last', async () => {
  vi.useFakeTimers()
  const answers: (() => Promise<Response>)[] = [
    () => Promise.reject(new TypeError('Failed to fetch')),
    () => Promise.resolve(new Response(null, { status: 502 })), // a proxy before it
    () => Promise.resolve(new Response(null, { status: 200 })),
  ]
  const asked = vi.fn(() => answers.shift()!())
  vi.stubGlobal('fetch', asked)
  const { router, went, sorry } = open({ '/map': gone, '/live': () => Promise.resolve({ template: '<b />' }) })
  await router.push('/')
  await router.push('/map').catch(() => undefined)
  await vi.advanceTimersByTimeAsync(3_000)
  expect([went, asked.mock.calls.length]).toEqual([[], 2])
  await router.push('/live')
  await vi.advanceTimersByTimeAsync(2_000)
  expect([went, sorry.mock.calls.length]).toEqual([['/live'], 0])
  vi.useRealTimers()
})

it('hears of parts that no route asked for, and of no other faults', async () => {
  const { router, went } = open({ '/broken': () => Promise.reject(new Error('a bug')) })
  await router.push('/')
  await router.push('/broken').catch(() => undefined)
  expect(went).toEqual([])
  dispatchEvent(new Event('vite:preloadError'))
  await flushPromises()
  expect(went).toEqual(['/'])
  expect(isMissingPart(new Error('error loading dynamically imported module: x'))).toBe(true) // Firefox
  expect(isMissingPart(new Error('Importing a module script failed.'))).toBe(true) // Safari
})

it('does not load anew for ever where the browser keeps nothing', () => {
  vi.stubGlobal('sessionStorage', undefined)
  const go = vi.fn()
  expect(renew('/', go)).toBe(false)
  expect(go).not.toHaveBeenCalled()
})

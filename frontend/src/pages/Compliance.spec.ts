import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import Compliance from './Compliance.vue'
import { loggedIn, serve, shown } from '@/testing'

const DAY = 86_400e6
beforeEach(() => vi.useFakeTimers({ now: Date.UTC(2026, 10, 23, 15, 59), toFake: ['Date', 'setTimeout', 'setInterval', 'clearTimeout', 'clearInterval'] }))
afterEach(() => vi.useRealTimers())

async function view() {
  serve({ 'GET /v1/sites': { items: [{ id: 'a', name: 'Hall', time_zone: 'Asia/Shanghai' }], next: null }, 'GET /v1/cameras': { items: [], next: null }, 'GET /v1/compliance': [], 'GET /v1/compliance/ranking': [], 'GET /v1/compliance/gaps': { items: [], next: null } })
  loggedIn(['compliance.view', 'compliance.export'])
  const wrapper = shown(Compliance, { site: 'a' })
  await vi.advanceTimersByTimeAsync(20)
  const file = () => {
    const query = new URLSearchParams(wrapper.get<HTMLAnchorElement>('[data-test=csv]').attributes('href')?.split('?')[1])
    return { since: Number(query.get('since')), until: Number(query.get('until')) }
  }
  return { wrapper, file }
}

it('takes out as a file what is shown now, not when the page was opened', async () => {
  const { file } = await view()
  const before = file()
  expect(before.until - before.since).toBe(DAY)
  await vi.advanceTimersByTimeAsync(3 * 3_600_000)
  const after = file()
  expect(after.until - after.since).toBe(DAY)
  expect(after.until - before.until).toBeGreaterThan(3 * 3_600e6 - 20e6)
})

it('begins today anew at midnight where the cameras are', async () => {
  const { wrapper, file } = await view()
  await wrapper.get('[data-test=range-today] input').setValue(true)
  await flushPromises()
  expect(new Date(file().since / 1_000).toISOString()).toBe('2026-11-22T16:00:00.000Z')
  await vi.advanceTimersByTimeAsync(5 * 60_000)
  expect(new Date(file().since / 1_000).toISOString()).toBe('2026-11-23T16:00:00.000Z')
})

import { flushPromises } from '@vue/test-utils'
import { afterEach, expect, it, vi } from 'vitest'

import SavingsLedger from './SavingsLedger.vue'
import { loggedIn, serve, shown } from '@/testing'

const numbers = { seen: 1_200, kept: 300, saved: 0.75, still: 800, same_faces: 100, cpu_seconds: 3_725, audited: 40, missed: 1, missed_share: 0.025, missed_interval: [0.004, 0.129], missed_expected: 22 }
const ledger = { since: 0, look_cost: 70, total: numbers, cameras: [{ ...numbers, camera: 'gate', name: 'Gate', site: 'a', missed_share: null, missed_interval: null, missed_expected: null }] }
const since = (call: string): number => Number(new URLSearchParams(call.split('?')[1]).get('since'))

afterEach(() => vi.useRealTimers())

it('shows what was saved, and what cannot be told as a dash', async () => {
  serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/stream/savings': ledger })
  loggedIn(['system.view'])
  const wrapper = shown(SavingsLedger)
  await flushPromises()
  const [total, gate] = wrapper.findAll('tbody tr').map((row) => row.findAll('th, td').map((cell) => cell.text()))
  expect(total).toEqual(['All cameras', '1,200', '300', '75%', '800', '100', '1 h 2 min', '40', '2.5% (0.4% – 12.9%)', '22'])
  expect(gate?.slice(-2)).toEqual(['–', '–'])
})

it('asks for the hour that ends now, however long the page is open', async () => {
  vi.useFakeTimers({ now: Date.UTC(2026, 10, 23, 12) })
  const { asked } = serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/stream/savings': ledger })
  loggedIn(['system.view'])
  const wrapper = shown(SavingsLedger)
  await vi.advanceTimersByTimeAsync(10)
  await wrapper.find<HTMLInputElement>('input[value=hour]').setValue(true)
  await vi.advanceTimersByTimeAsync(4 * 3_600_000)
  const last = asked.at(-1)?.call ?? ''
  expect(Date.now() * 1_000 - since(last)).toBeLessThanOrEqual(3_600e6 + 31e6)
})

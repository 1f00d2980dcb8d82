import { QueryClient } from '@tanstack/vue-query'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import Chart from './Chart.vue'
import { shown } from '@/testing'

vi.mock('./ChartDrawn.vue', () => ({ __esModule: true, default: { template: '<canvas />' } }))
beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

it('waits until what else the page shows is there', async () => {
  const queries = new QueryClient()
  let answer: (value: string) => void = () => undefined
  void queries.fetchQuery({ queryKey: ['figures'], queryFn: () => new Promise<string>((yes) => (answer = yes)) })
  const wrapper = shown(Chart, { props: { option: {}, label: 'Rate' }, queries })
  await vi.advanceTimersByTimeAsync(1_000)
  expect(wrapper.find('canvas').exists()).toBe(false)
  answer('90 %')
  await vi.advanceTimersByTimeAsync(200)
  expect(wrapper.find('canvas').exists()).toBe(true)
})

it('does not wait for ever', async () => {
  const queries = new QueryClient()
  void queries.fetchQuery({ queryKey: ['slow'], queryFn: () => new Promise(() => undefined) })
  const wrapper = shown(Chart, { props: { option: {}, label: 'Rate' }, queries })
  await vi.advanceTimersByTimeAsync(2_200)
  expect(wrapper.find('canvas').exists()).toBe(true)
})

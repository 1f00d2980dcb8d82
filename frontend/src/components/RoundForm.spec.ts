import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import { loggedIn, serve, shown } from '@/testing'

import RoundForm from './RoundForm.vue'

const point = (name: string, east: number) => ({ id: name.toLowerCase(), name, note: '', lat: null, lon: null, plan: '', east, north: 2, radius: 15 })
const round = { id: 'r', site: 'hall', name: 'Night', about: '', active: true, ordered: true, days: [5, 6], times: ['22:00'], zone: 'Asia/Shanghai', within: 30, positions: true, checkpoints: [point('Door', 1), point('Yard', 9)] }
const body = (): HTMLElement => document.body

it('keeps what a round is, in the order its checkpoints were put', async () => {
  serve({ 'GET /v1/plans': { items: [], next: null }, 'GET /v1/sites': { items: [{ id: 'hall', name: 'Hall', time_zone: 'Asia/Shanghai' }], next: null } })
  loggedIn(['inspections.review'])
  const page = shown(RoundForm, { props: { open: true, round } })
  await vi.waitFor(() => expect(body().querySelectorAll('[data-test=checkpoint]')).toHaveLength(2))
  body().querySelector<HTMLButtonElement>('[aria-label="Further up"], [data-test=checkpoint]:nth-child(2) .moves button')?.click()
  await flushPromises()
  body().querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  const [plan] = page.emitted<[{ checkpoints: { name: string }[] }]>('save')?.[0] ?? []
  expect(plan?.checkpoints.map((one) => one.name)).toEqual(['Yard', 'Door'])
  expect(plan).toMatchObject({ site: 'hall', name: 'Night', ordered: true, days: [5, 6], times: ['22:00'], zone: 'Asia/Shanghai', within: 30 })
})

it('sends nothing while a checkpoint has no name or half a place', async () => {
  serve({ 'GET /v1/plans': { items: [], next: null }, 'GET /v1/sites': { items: [], next: null } })
  loggedIn(['inspections.review'])
  const page = shown(RoundForm, { props: { open: true, round: { ...round, checkpoints: [{ ...point('Door', 1), north: null }] } } })
  await vi.waitFor(() => expect(body().querySelectorAll('[data-test=checkpoint]')).toHaveLength(1))
  body().querySelector('form')?.dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  expect(page.emitted('save')).toBeUndefined()
})

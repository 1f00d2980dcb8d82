import { flushPromises } from '@vue/test-utils'
import { expect, test } from 'vitest'
import { nextTick } from 'vue'

import type { Schema } from '@/api/client'
import { useSession } from '@/composables/useSession'
import { serve, shown } from '@/testing'

import RequestCard from './RequestCard.vue'

const ASKED: Schema<'Asked'> = {
  id: 'a1', user: 'u2', user_name: 'li.na', kind: 'role', state: 'open', site: 'gate', camera: '', role: 'reviewer', instead: '', wish: {},
  until: null, reason: 'evening shift', created: '2026-11-23T10:00:00Z', decided: null, by: '', by_name: '', answer: '', granted: {}, holds: false,
}
const ANSWERS = {
  'GET /v1/sites': { items: [{ id: 'gate', name: 'North gate' }], next: null },
  'GET /v1/roles': [{ name: 'reviewer', about: '', built_in: true, patrol_radius: null, permissions: [] }],
  'GET /v1/cameras': { items: [], next: null },
}
function decider(): void {
  useSession().me = {
    id: 'u1', name: 'boss', full_name: '', language: 'en', permissions: ['requests.review', 'cameras.view'],
    rights: [{ role: 'manager', site: 'gate', camera: '', permissions: ['requests.review', 'cameras.view'] }],
  }
}

test('it says who asks for what where, and who decides may grant it as it was asked for', async () => {
  const server = serve({ ...ANSWERS, 'POST /v1/requests/a1/grant': { ...ASKED, state: 'granted' } })
  decider()
  const card = shown(RequestCard, { props: { request: ASKED, inbox: true } })
  await flushPromises()
  expect(card.text()).toContain('Reviewer for North gate')
  expect(card.text()).toContain('li.na')

  await card.get('[data-test=grant]').trigger('click')
  await flushPromises()
  await nextTick()
  document.querySelector<HTMLElement>('[data-test=grant-now]')?.click()
  await flushPromises()
  expect(server.asked.find((one) => one.call.startsWith('POST'))).toEqual({
    call: 'POST /v1/requests/a1/grant', body: { role: 'reviewer', site: 'gate', camera: '', until: null, answer: '' },
  })
}, 30_000) // the first dialog fetches half of the components

test('refusing takes words', async () => {
  const server = serve({ ...ANSWERS, 'POST /v1/requests/a1/refuse': { ...ASKED, state: 'refused' } })
  decider()
  const card = shown(RequestCard, { props: { request: ASKED, inbox: true } })
  await card.get('[data-test=refuse]').trigger('click')
  await flushPromises()
  const button = () => document.querySelector<HTMLButtonElement>('[data-test=words-done]')
  expect(button()?.disabled).toBe(true)
  const words = document.querySelector<HTMLTextAreaElement>('textarea[data-test=words], [data-test=words] textarea')
  if (!words) throw new Error('expected a field for words')
  words.value = 'not this year'
  words.dispatchEvent(new Event('input'))
  await nextTick()
  expect(button()?.disabled).toBe(false)
  document.querySelector('form')?.dispatchEvent(new Event('submit'))
  await flushPromises()
  expect(server.asked.filter((one) => one.call.startsWith('POST'))).toEqual([
    { call: 'POST /v1/requests/a1/refuse', body: { answer: 'not this year' } },
  ])
})

test('one’s own request has no way to grant it', async () => {
  serve(ANSWERS)
  decider()
  const card = shown(RequestCard, { props: { request: ASKED, inbox: false } })
  await flushPromises()
  expect(card.find('[data-test=grant]').exists()).toBe(false)
})

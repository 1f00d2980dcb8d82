import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import RetentionTable from './RetentionTable.vue'
import { loggedIn, serve, shown } from '@/testing'

const kept = (kind: string, days: number, site = '', own = false) => ({ kind, site, days, own, default: days, about: `about ${kind}` })

function view(permissions: string[], site = '') {
  localStorage.clear()
  const server = serve({
    'GET /v1/sites': { items: [{ id: 'a', name: 'Hall', time_zone: 'UTC' }], next: null }, 'GET /v1/cameras': { items: [], next: null },
    'GET /v1/retention': [kept('chat', 365), kept('audit', 730), kept('chat', 30, 'a', true), kept('audit', 730, 'a')],
    'PUT /v1/retention/chat': [], 'GET /v1/roles': [],
  })
  loggedIn(permissions, { site })
  return { server, wrapper: shown(RetentionTable, { site }) }
}

it('sets how long a kind is kept at the chosen site, and gives it back to what holds everywhere', async () => {
  const { server, wrapper } = view(['people.view', 'people.edit'], 'a')
  await flushPromises()
  const row = wrapper.findAll('tbody tr')[0]
  expect(row?.text()).toContain('365') // of every site, beside
  const field = wrapper.get<HTMLInputElement>('[data-test=keep-chat] input')
  expect(field.element.value).toBe('30')
  await field.setValue('60')
  await field.trigger('change')
  const buttons = row?.findAll('button') ?? []
  const [save, back] = buttons.filter((one) => ['Save', 'As every site'].includes(one.text()))
  await save?.trigger('click')
  await flushPromises()
  await back?.trigger('click')
  await flushPromises()
  expect(server.asked.filter(({ call }) => call.startsWith('PUT')).map(({ call, body }) => [call, body])).toEqual([
    ['PUT /v1/retention/chat', { days: 60, site: 'a' }], ['PUT /v1/retention/chat', { days: null, site: 'a' }],
  ])
})

it('lets nobody shorten the audit log who does not run the system', async () => {
  const { wrapper } = view(['people.view', 'people.edit'], 'a')
  await flushPromises()
  const disabled = (kind: string) => wrapper.get<HTMLInputElement>(`[data-test=keep-${kind}] input`).element.disabled
  expect([disabled('chat'), disabled('audit')]).toEqual([false, true])
  const { wrapper: other } = view(['people.view', 'people.edit', 'system.edit'])
  await flushPromises()
  expect(other.get<HTMLInputElement>('[data-test=keep-audit] input').element.disabled).toBe(false)
})

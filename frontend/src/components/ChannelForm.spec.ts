import { flushPromises } from '@vue/test-utils'
import { afterEach, expect, it } from 'vitest'
import type { VueWrapper } from '@vue/test-utils'

import ChannelForm from './ChannelForm.vue'
import { loggedIn, serve, shown } from '@/testing'

const open: VueWrapper[] = []
afterEach(() => open.splice(0).forEach((one) => one.unmount()))
async function view(channel?: object, site = '') {
  localStorage.clear()
  serve({ 'GET /v1/sites': { items: [{ id: 'a', name: 'Hall' }], next: null } })
  loggedIn(['compliance.edit'], { site })
  const wrapper = shown(ChannelForm, { props: { modelValue: true, channel } })
  open.push(wrapper)
  await flushPromises()
  return wrapper
}
const field = (id: string) => document.querySelector<HTMLInputElement>(`#channel-${id}`) as HTMLInputElement
async function write(id: string, value: string) {
  field(id).value = value
  field(id).dispatchEvent(new Event(field(id).tagName === 'SELECT' ? 'change' : 'input'))
  await flushPromises()
}
async function saved(wrapper: VueWrapper) {
  document.querySelector('form#channel')?.dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  return wrapper.emitted('save')?.at(-1)?.[0]
}

it('asks for what a kind needs, and sends that alone', async () => {
  const wrapper = await view()
  await write('name', ' Ward ')
  await write('url', 'https://hooks.example.org/x')
  expect(await saved(wrapper)).toEqual({ name: 'Ward', site: '', language: 'zh-CN', pictures: false, enabled: true, options: { kind: 'webhook', url: 'https://hooks.example.org/x', secret: null } })
  await write('kind', 'smtp')
  expect([field('port')?.querySelector('input')?.value ?? field('port').value, field('security').value]).toEqual(['587', 'starttls'])
  await write('host', 'mail.example.org')
  await write('sender', 'a@example.org')
  await write('to', 'b@example.org, c@example.org；d@example.org')
  expect(await saved(wrapper)).toMatchObject({ options: { kind: 'smtp', host: 'mail.example.org', port: 587, to: ['b@example.org', 'c@example.org', 'd@example.org'], password: null } })
  await write('kind', 'mqtt')
  expect([field('port')?.querySelector('input')?.value ?? field('port').value, field('security').value]).toEqual(['8883', 'tls'])
})

it('sends no pictures by what cannot carry them', async () => {
  const wrapper = await view()
  const pictures = () => [...document.querySelectorAll<HTMLLabelElement>('#channel label')].find((one) => one.textContent?.includes('Send pictures of faces'))?.querySelector('input') as HTMLInputElement
  pictures().click()
  await flushPromises()
  expect(pictures().checked).toBe(true)
  await write('kind', 'dingtalk')
  expect([pictures().checked, pictures().disabled]).toEqual([false, true])
  await write('token', 'MASKWATCH_SECRET_ROBOT')
  expect(await saved(wrapper)).toMatchObject({ pictures: false, options: { kind: 'dingtalk', token: 'MASKWATCH_SECRET_ROBOT', secret: null, address: undefined } })
})

it('shows a channel as it is, and keeps its kind', async () => {
  const wrapper = await view({ id: 'c1', name: 'Mail', kind: 'smtp', site: 'a', language: 'en', pictures: true, enabled: false, options: { kind: 'smtp', host: 'm', port: 25, security: 'none', sender: 'a@b.c', to: ['x@y.z', 'v@w.x'], user: '', password: null } })
  expect([field('name').value, field('to').value, field('kind').disabled, field('security').value]).toEqual(['Mail', 'x@y.z, v@w.x', true, 'none'])
  expect(await saved(wrapper)).toEqual({ name: 'Mail', site: 'a', language: 'en', pictures: true, enabled: false, options: { kind: 'smtp', host: 'm', port: 25, security: 'none', sender: 'a@b.c', to: ['x@y.z', 'v@w.x'], user: '', password: null } })
})

it('offers every site only to who may edit everywhere', async () => {
  await view()
  const sites = () => [...field('site').querySelectorAll('option')].map((one) => one.textContent)
  expect(sites()).toEqual(['All sites', 'Hall'])
  open.splice(0).forEach((one) => one.unmount())
  document.body.innerHTML = ''
  await view(undefined, 'a')
  expect(sites()).toEqual(['Hall'])
})

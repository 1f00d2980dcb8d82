import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import { serve, shown } from '@/testing'

import Login from './Login.vue'

const ME = { id: 'u', name: 'li', full_name: 'Li', language: 'en', permissions: [], rights: [] }
async function page(at: string, answers: Record<string, unknown> = {}) {
  const server = serve({ 'GET /v1/login/ways': { single_sign_on: true }, 'POST /v1/login': { token: 't', me: ME }, ...answers })
  const wrapper = shown(Login, { at })
  await flushPromises()
  return { wrapper, ...server, path: () => wrapper.vm.$route.fullPath }
}
async function enter(wrapper: ReturnType<typeof shown>, name: string, password: string): Promise<void> {
  await wrapper.get('#name').setValue(name)
  await wrapper.get('#password').setValue(password)
  await wrapper.get('form').trigger('submit')
  await flushPromises()
}

it('goes where one wanted to go, by single sign-on too', async () => {
  const { wrapper, asked, path } = await page('/login?to=/episodes?state=none')
  expect(wrapper.get('a').attributes('href')).toBe('/v1/login/oidc?after=%2Fepisodes%3Fstate%3Dnone')
  await enter(wrapper, ' li ', 'secret words')
  expect(asked.find((one) => one.call === 'POST /v1/login')?.body).toMatchObject({ name: 'li', password: 'secret words' })
  expect(path()).toBe('/episodes?state=none')
})

it.each(['//elsewhere.example', '/\\elsewhere.example', 'https://elsewhere.example'])('leads to no other place: %s', async (to) => {
  const { wrapper, path } = await page(`/login?to=${encodeURIComponent(to)}`)
  expect(wrapper.get('a').attributes('href')).toBe('/v1/login/oidc?after=%2F')
  await enter(wrapper, 'li', 'x')
  expect(path()).toBe('/')
})

it('says that the password is wrong, and what else went wrong in the words of the server', async () => {
  const { wrapper, path } = await page('/login', { 'POST /v1/login': () => Response.json({ status: 401, title: 'no', detail: 'no' }, { status: 401 }) })
  await enter(wrapper, 'li', 'wrong')
  expect(wrapper.get('[role=alert]').text()).toBe('Name or password is wrong')
  expect(path()).toBe('/login')
  wrapper.unmount()
  const slow = await page('/login?ended=1', { 'POST /v1/login': () => Response.json({ status: 429, title: 'too many', detail: 'try again in 30 seconds' }, { status: 429 }) })
  expect(slow.wrapper.get('[role=status]').text()).toContain('ended')
  await enter(slow.wrapper, 'li', 'x')
  expect(slow.wrapper.get('[role=alert]').text()).toContain('try again in 30 seconds')
})

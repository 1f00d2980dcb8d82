import { flushPromises, type VueWrapper } from '@vue/test-utils'
import { afterEach, expect, it } from 'vitest'

import RuleForm from './RuleForm.vue'
import { loggedIn, serve, shown } from '@/testing'

const open: VueWrapper[] = []
afterEach(() => open.splice(0).forEach((one) => one.unmount()))
const channels = [{ id: 'c1', name: 'Ward', site: '' }, { id: 'c2', name: 'Lab only', site: 'b' }]
const rule = {
  id: 'r1', by: 'u1', changed: '', since: '', name: 'Nobody unmasked', kind: 'episode', site: 'a', cameras: ['gate'], zones: ['ward'], states: ['none'], lists: ['l1'], seconds: 10, hours: [{ days: [1], begin: '08:00', end: '20:00' }],
  timezone: 'UTC', cooldown: 60, cooldown_by: 'camera', tell_end: true, latest: 3600, enabled: true, position: 1, steps: [{ channels: ['c1'], after: 0 }],
}

async function view(props: object) {
  localStorage.clear()
  serve({ 'GET /v1/sites': { items: [{ id: 'a', name: 'Hall' }, { id: 'b', name: 'Lab' }], next: null }, 'GET /v1/cameras': { items: [], next: null }, 'GET /v1/watch-lists': [] })
  loggedIn(['compliance.edit', 'people.view', 'cameras.view'])
  const wrapper = shown(RuleForm, { props: { modelValue: true, channels, ...props } })
  open.push(wrapper)
  await flushPromises()
  return wrapper
}
const save = () => document.querySelector('[data-test=rule-save]') as HTMLButtonElement
async function sent(wrapper: VueWrapper) {
  document.querySelector('form#alert-rule')?.dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  return wrapper.emitted('save')?.at(-1)?.[0]
}
async function kind(value: string) {
  const choice = document.querySelector('#rule-kind') as HTMLSelectElement
  choice.value = value
  choice.dispatchEvent(new Event('change'))
  await flushPromises()
}

it('gives a rule back as it was, without what is not its own to set', async () => {
  const wrapper = await view({ rule })
  const { id: _id, by: _by, changed: _changed, since: _since, ...wish } = rule
  expect(await sent(wrapper)).toEqual({ ...wish, lists: [] }) // an episode is of no watch-list
})

it('drops what belongs to another kind', async () => {
  const wrapper = await view({ rule })
  await kind('person')
  expect(await sent(wrapper)).toMatchObject({ kind: 'person', zones: [], states: [], lists: ['l1'] })
  await kind('camera')
  expect(await sent(wrapper)).toMatchObject({ kind: 'camera', zones: [], states: [], lists: [] })
})

it('is no rule without a name and somebody to tell at every step', async () => {
  const wrapper = await view({})
  expect(save().disabled).toBe(true)
  expect(await sent(wrapper)).toBeUndefined()
  open.splice(0).forEach((one) => one.unmount())
  document.body.innerHTML = ''
  const other = await view({ rule })
  expect(save().disabled).toBe(false)
  ;[...document.querySelectorAll('button')].find((one) => one.textContent?.includes('Add a step'))?.click()
  await flushPromises()
  expect(save().disabled).toBe(true) // nobody hears of the second step yet
  expect(await sent(other)).toBeUndefined()
})

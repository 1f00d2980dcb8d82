import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import PolicyList from './PolicyList.vue'
import { loggedIn, serve, shown } from '@/testing'

const rule = { name: 'ICU', cameras: ['gate'], zone: 'ward', hours: [{ days: [1, 2], begin: '08:00', end: '18:00' }], except_hours: [], required: 'worn', breach: ['none'], grace: 3, except_roles: ['surgeon', 'patient'], roles: ['nurse'] }
const version = (number: number, active: boolean, rules: object[] = [rule]) => ({ id: `p${number}`, site: 'a', number, name: 'Masks', note: '', active, rules, otherwise: 'worn', created: '2026-11-23T10:00:00Z', by: 'u1' })
const zones = [{ name: 'ward', outline: [] }]
const cameras = [{ id: 'gate', name: 'Gate', zones }]

async function view(editable: boolean, versions = [version(2, false), version(1, true)]) {
  const server = serve({
    'GET /v1/sites': { items: [], next: null }, 'GET /v1/policies': { items: versions, next: null }, 'POST /v1/policies': version(3, true),
    'POST /v1/policies/p2/activate': version(2, true), 'POST /v1/policies/p1/retire': version(1, false),
  })
  loggedIn(['cameras.view', 'cameras.edit'])
  const wrapper = shown(PolicyList, { props: { site: 'a', cameras, editable } })
  await flushPromises()
  return { server, wrapper }
}
const posts = (server: { asked: { call: string; body: unknown }[] }) => server.asked.filter(({ call }) => call.startsWith('POST'))

it('says what each version requires, and which is in force', async () => {
  const { wrapper } = await view(false)
  const [draft, active] = wrapper.findAll('section')
  expect(draft?.text()).toContain('Draft')
  expect(active?.text()).toContain('Active')
  expect(draft?.get('li').text()).toBe('ICU · ward · Mask worn · Grace, s 3 · surgeon, patient · only for nurse · Mon Tue 08:00–18:00')
  expect(wrapper.find('[data-test=new-policy]').exists()).toBe(false)
})

it('puts a version in force, and makes a new one from another with all that stands in it', async () => {
  const { server, wrapper } = await view(true)
  await wrapper.get('[data-test=activate]').trigger('click')
  await flushPromises()
  await wrapper.findAll('button').find((one) => one.text() === 'New version from this')?.trigger('click')
  await flushPromises()
  const dialog = document.querySelector('.el-dialog') as HTMLElement
  const save = [...dialog.querySelectorAll('button')].find((one) => one.dataset.test === 'save-draft') as HTMLButtonElement
  save.click()
  await flushPromises()
  expect(posts(server)).toMatchObject([
    { call: 'POST /v1/policies/p2/activate' },
    { call: 'POST /v1/policies', body: { site: 'a', name: 'Masks', note: '', otherwise: 'worn', rules: [rule], activate: false } },
  ])
})

it('keeps what was written when it could not be saved', async () => {
  const { wrapper } = await view(true, [])
  expect(wrapper.text()).toContain('No policy yet: a mask is required everywhere and always')
  serve({ 'POST /v1/policies': () => Response.json({ title: 'policy cannot be taken', detail: 'expected hours that end after they begin' }, { status: 422 }) })
  await wrapper.get('[data-test=new-policy]').trigger('click')
  await flushPromises()
  const name = document.querySelector<HTMLInputElement>('[data-test=policy-name]')?.closest('.el-input')?.querySelector('input') ?? document.querySelector<HTMLInputElement>('input[data-test=policy-name]')
  if (name) {
    name.value = 'Night'
    name.dispatchEvent(new Event('input'))
  }
  await flushPromises()
  document.querySelector<HTMLButtonElement>('[data-test=save-draft]')?.click()
  await flushPromises()
  expect(document.body.textContent).toContain('Policy cannot be taken: expected hours that end after they begin')
  expect(document.querySelector('.el-dialog')).not.toBeNull()
})

import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import RoleMatrix from './RoleMatrix.vue'
import { loggedIn, serve, shown } from '@/testing'

const role = (name: string, permissions: string[], built_in = true) => ({ name, permissions, built_in, about: '', patrol_radius: null })

async function view(permissions: string[]) {
  const server = serve({
    'GET /v1/sites': { items: [], next: null }, 'GET /v1/cameras': { items: [], next: null },
    'GET /v1/permissions': [{ name: 'cameras', actions: ['view', 'edit'] }, { name: 'chat', actions: ['view'] }],
    'GET /v1/roles': [role('admin', ['cameras.view', 'cameras.edit', 'chat.view']), role('viewer', ['cameras.view']), role('night', ['chat.view'], false)],
    'PUT /v1/roles/viewer': role('viewer', []), 'PUT /v1/roles/day': role('day', []),
  })
  loggedIn(permissions)
  const wrapper = shown(RoleMatrix)
  await flushPromises()
  return { server, wrapper }
}
const box = (wrapper: Awaited<ReturnType<typeof view>>['wrapper'], permission: string) => wrapper.get<HTMLInputElement>(`[data-test="${permission}"]`).element

it('shows what a role allows, and saves what is ticked', async () => {
  const { server, wrapper } = await view(['users.view', 'users.edit'])
  expect([box(wrapper, 'cameras.view').checked, box(wrapper, 'cameras.edit').checked, box(wrapper, 'chat.view').checked]).toEqual([true, false, false])
  expect(wrapper.find('[data-test="chat.edit"]').exists()).toBe(false) // there is no such permission
  await wrapper.get('[data-test="chat.view"]').setValue(true)
  await wrapper.get('[data-test="cameras.view"]').setValue(false)
  await wrapper.get('[data-test=role-save]').trigger('click')
  await flushPromises()
  expect(server.asked.find(({ call }) => call.startsWith('PUT'))).toEqual({ call: 'PUT /v1/roles/viewer', body: { permissions: ['chat.view'], about: '', patrol_radius: null } })
})

it('makes a new role of what is ticked, under a name that is one', async () => {
  const { server, wrapper } = await view(['users.view', 'users.edit'])
  const name = wrapper.get<HTMLInputElement>('input[placeholder="name-of-a-new-role"]')
  const make = wrapper.findAll('button').find((one) => one.text() === 'Save as a new role')
  for (const bad of ['Day', 'viewer', '']) {
    await name.setValue(bad)
    expect(make?.attributes('disabled')).toBeDefined()
  }
  await name.setValue('day')
  await make?.trigger('click')
  await flushPromises()
  expect(server.asked.find(({ call }) => call.startsWith('PUT'))?.call).toBe('PUT /v1/roles/day')
})

it('changes nothing for who may not, and never the administrators', async () => {
  const { wrapper } = await view(['users.view'])
  expect(box(wrapper, 'cameras.view').disabled).toBe(true)
  expect(wrapper.find('[data-test=role-save]').exists()).toBe(false)
  const { wrapper: mine } = await view(['users.view', 'users.edit'])
  await mine.get<HTMLInputElement>('[data-test=role-admin] input').setValue(true)
  expect([box(mine, 'cameras.edit').checked, box(mine, 'cameras.edit').disabled]).toEqual([true, true])
})

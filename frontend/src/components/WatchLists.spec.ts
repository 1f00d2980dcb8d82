import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import WatchLists from './WatchLists.vue'
import { loggedIn, serve, shown } from '@/testing'

const list = (id: string, site: string, people: object[] = []) => ({ id, name: `List ${id}`, site, about: '', people })
const wang = { person: 'p1', name: 'Wang', reason: 'visits', until: '2026-12-01T22:59:59Z', by: 'u1', added: '' }

async function view(permissions: string[], at: { site?: string } = {}) {
  localStorage.clear()
  const server = serve({
    'GET /v1/sites': { items: [{ id: 'a', name: 'Hall', time_zone: 'UTC' }], next: null }, 'GET /v1/watch-lists': [list('l1', 'a', [wang]), list('l2', 'b')],
    'DELETE /v1/watch-lists/l1/people/p1': () => new Response(null, { status: 204 }), 'DELETE /v1/watch-lists/l1': () => new Response(null, { status: 204 }), 'POST /v1/watch-lists': list('l3', 'a'),
  })
  loggedIn(permissions, at)
  const wrapper = shown(WatchLists)
  await flushPromises()
  return { server, wrapper }
}
const writes = (server: { asked: { call: string; body: unknown }[] }) => server.asked.filter(({ call }) => !call.startsWith('GET'))

it('takes somebody off a list, and asks for the lists anew', async () => {
  const { server, wrapper } = await view(['people.view', 'people.edit'])
  expect(wrapper.get('[data-test=list]').text()).toContain('Wang')
  await wrapper.get('[data-test=unwatch]').trigger('click')
  await flushPromises()
  expect(writes(server).map(({ call }) => call)).toEqual(['DELETE /v1/watch-lists/l1/people/p1'])
  expect(server.asked.filter(({ call }) => call.startsWith('GET /v1/watch-lists'))).toHaveLength(2)
})

it('shows to who may only look no way to change, and to others only at their site', async () => {
  const { wrapper } = await view(['people.view'])
  expect(wrapper.find('[data-test=unwatch]').exists()).toBe(false)
  expect(wrapper.find('[data-test=list-new]').exists()).toBe(false)
  const { wrapper: own } = await view(['people.view', 'people.edit', 'people.remove', 'people.add'], { site: 'a' })
  const [mine, theirs] = own.findAll('[data-test=list]')
  expect([mine?.findAll('button').length, theirs?.findAll('button').length]).toEqual([2, 0])
})

it('removes a list only after a second thought', async () => {
  const { server, wrapper } = await view(['people.view', 'people.remove'])
  const remove = () => wrapper.findAll('[data-test=list] button')[0]?.trigger('click')
  const answer = async (word: string) => {
    const button = () => [...document.querySelectorAll<HTMLButtonElement>('.el-message-box button')].findLast((one) => one.textContent?.trim() === word)
    await vi.waitFor(() => expect(button()).toBeDefined())
    button()?.click()
    await flushPromises()
    await vi.waitFor(() => expect(document.querySelector('.el-message-box')).toBeNull())
  }
  await remove()
  await answer('Cancel')
  expect(writes(server)).toEqual([])
  await remove()
  await answer('Remove')
  expect(writes(server).map(({ call }) => call)).toEqual(['DELETE /v1/watch-lists/l1'])
})

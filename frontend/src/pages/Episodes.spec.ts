import { flushPromises, type VueWrapper } from '@vue/test-utils'
import { afterEach, expect, it, vi } from 'vitest'

import Episodes from './Episodes.vue'
import { useSession } from '@/composables/useSession'
import { serve, shown } from '@/testing'

const review = { status: 'new', assigned: '', action: '', note: '', acknowledged_by: '', acknowledged_at: null, closed_by: '', closed_at: null }
const episode = (n: number, more: object = {}) => ({
  id: `cam@1#${n}`, site: 'a', person: `p${n}`, state: 'none', status: 'closed', start: 1_795_000_000_000_000 - n * 1e6, end: 1_795_000_002_000_000, at: 1_795_000_002_000_000,
  cameras: ['cam'], place: null, score: 0.9, looks: 4, reason: 'mask on', zone: '', policy: '', rule: '', exempt: '', review, ...more,
})
const me = { id: 'u1', name: 'li', full_name: 'Li', language: 'en', permissions: ['compliance.view', 'compliance.review'], rights: [{ role: 'lead', site: '', camera: '', permissions: ['compliance.view', 'compliance.review'], until: null }] }

vi.setConfig({ testTimeout: 30_000 })
const pages: VueWrapper[] = []
afterEach(() => pages.splice(0).forEach((one) => one.unmount())) // with their keys

function page(items: object[], id?: string, answers: Record<string, unknown> = {}) {
  const server = serve({
    'GET /v1/sites': { items: [], next: null },
    'GET /v1/episodes': { items, next: null },
    'GET /v1/episodes/counts': { step: 1, episodes: items.length, items: [] },
    'GET /v1/compliance/gaps': { items: [{ camera: 'cam', site: 'a', start: 1, end: 2, why: 'silent' }], next: null },
    'GET /v1/episodes/cam%401%230': { episode: episode(0), evidence: [], legs: [], history: [] },
    ...answers,
  })
  useSession().me = me as never
  const wrapper = shown(Episodes, { props: { id }, at: '/episodes?review=new&camera=cam' })
  pages.push(wrapper)
  return { wrapper, server }
}
const press = (key: string, on: EventTarget = document.body) => on.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))

it('asks for what the address says and shows a row for each', async () => {
  const { wrapper, server } = page([episode(0), episode(1, { state: 'incorrect' })])
  await flushPromises()
  expect(wrapper.findAll('[data-test=episode]')).toHaveLength(2)
  expect(wrapper.text()).toContain('Worn wrongly')
  const list = () => server.asked.findLast(({ call }) => call.startsWith('GET /v1/episodes?') && call.includes('limit=50'))?.call ?? ''
  await vi.waitFor(() => expect(list()).toContain('review=new'))
  expect(list()).toContain('camera=cam')
})

it('says that there is nothing, and what went wrong', async () => {
  const { wrapper } = page([])
  await flushPromises()
  expect(wrapper.text()).toContain('No episodes fit the filters')
  const other = page([], undefined, { 'GET /v1/episodes': () => Response.json({ title: 'no', detail: 'the table burns' }, { status: 422 }) })
  await flushPromises()
  expect(other.wrapper.text()).toContain('the table burns')
})

it('takes a step for all that are chosen and keeps those that were left', async () => {
  const { wrapper, server } = page([episode(0), episode(1)], undefined, {
    'POST /v1/episodes/steps': { done: ['cam@1#0'], left: [{ id: 'cam@1#1', status: 409, detail: 'closed already' }] },
  })
  await flushPromises()
  await wrapper.get('[data-test=check-all]').trigger('change')
  await wrapper.get('[data-test=bulk-acknowledge]').trigger('click')
  await flushPromises()
  expect(server.asked.find(({ call }) => call === 'POST /v1/episodes/steps')?.body).toEqual({ verb: 'acknowledge', episodes: ['cam@1#0', 'cam@1#1'] })
  expect(document.body.textContent).toContain('closed already')
  expect(wrapper.findAll<HTMLInputElement>('[data-test=episode-check]').map((box) => box.element.checked)).toEqual([false, true])
})

it('acknowledges by a key, but not while somebody types', async () => {
  const { wrapper, server } = page([episode(0)], 'cam@1#0', { 'POST /v1/episodes/cam%401%230/steps': episode(0) })
  await flushPromises()
  const steps = () => server.asked.filter(({ call }) => call.startsWith('POST')).length
  press('a', wrapper.get('[data-test=comment]').element)
  await flushPromises()
  expect(steps()).toBe(0)
  press('a')
  await flushPromises()
  expect(server.asked.find(({ call }) => call.startsWith('POST'))?.body).toEqual({ verb: 'acknowledge' })
})

it('shows a page of 100,000 episodes at a time, by keys too, and counts for the strip', async () => {
  const ALL = 100_000
  const asks: string[] = []
  const answers = {
    'GET /v1/episodes/counts': { step: 540_000_000, episodes: ALL, items: [{ camera: 'cam', start: 1_795_000_000_000_000, none: 90_000, incorrect: 10_000, closed: 5 }] },
    'GET /v1/episodes': (url: URL) => {
      asks.push(url.searchParams.get('cursor') ?? '')
      const limit = Number(url.searchParams.get('limit'))
      const from = Number(url.searchParams.get('cursor') ?? 0)
      return { items: Array.from({ length: limit }, (_, n) => episode(from + n)), next: from + limit < ALL ? String(from + limit) : null }
    },
  }
  const { wrapper } = page([], undefined, answers)
  await flushPromises()
  const rows = () => wrapper.findAll('[data-episode]')
  await vi.waitFor(() => expect(rows()).toHaveLength(50))
  expect(wrapper.get('[data-test=counted]').text()).toContain('100,000')
  expect(wrapper.findAll('[data-test=pile]')).toHaveLength(2)
  for (let turn = 0; turn < 5; turn++) {
    await wrapper.get('[data-test=page-more]').trigger('click')
    await flushPromises()
    expect(rows()).toHaveLength(50) // however far one goes
  }
  await vi.waitFor(() => expect(rows()[0]?.attributes('data-episode')).toBe('cam@1#250'))
  expect([...new Set(asks)]).toEqual(['', '50', '100', '150', '200', '250']) // none for the strip
  await wrapper.get('[data-test=check-all]').trigger('change')
  await wrapper.get('[data-test=page-less]').trigger('click')
  await flushPromises()
  await wrapper.get('[data-test=check-all]').trigger('change')
  expect(wrapper.get('.all').text()).toContain('100 chosen') // of two pages
})

it('chooses all that match by a key, however many pages that is, and takes them on', async () => {
  const ALL = 120
  const { wrapper, server } = page([], undefined, {
    'GET /v1/episodes/counts': { step: 1, episodes: ALL, items: [] },
    'GET /v1/episodes': (url: URL) => {
      const [from, limit] = [Number(url.searchParams.get('cursor') ?? 0), Math.min(100, Number(url.searchParams.get('limit')))]
      return { items: Array.from({ length: Math.min(limit, ALL - from) }, (_, n) => episode(from + n)), next: from + limit < ALL ? String(from + limit) : null }
    },
    'POST /v1/episodes/steps': (_: URL, body: { episodes: string[] }) => ({ done: body.episodes, left: [] }),
  })
  await vi.waitFor(() => expect(wrapper.findAll('[data-episode]')).toHaveLength(50))
  press('X')
  await flushPromises()
  expect(wrapper.get('[data-test=check-matching]').text()).toBe('Choose all 120 that match')
  press('*')
  await vi.waitFor(() => expect(wrapper.get('.all').text()).toContain('120 chosen'))
  press('m')
  await flushPromises()
  const told = server.asked.filter(({ call }) => call === 'POST /v1/episodes/steps')
  expect(told.map(({ body }) => body)).toEqual([{ verb: 'assign', user: 'me', episodes: Array.from({ length: ALL }, (_, n) => `cam@1#${n}`) }])
})

it('does not take on more at once than one can answer for', async () => {
  const { wrapper, server } = page([episode(0)], undefined, { 'GET /v1/episodes/counts': { step: 1, episodes: 5_001, items: [] } })
  await vi.waitFor(() => expect(wrapper.findAll('[data-episode]')).toHaveLength(1))
  const before = server.asked.length
  press('*')
  await flushPromises()
  expect(document.body.textContent).toContain('5,001 episodes match; narrow the filters to 5,000 at most')
  expect(server.asked.slice(before).filter(({ call }) => call.includes('limit=500'))).toEqual([])
})

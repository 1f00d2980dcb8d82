import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import { useRoutes } from './useTrajectories'
import { loggedIn, serve, within } from '@/testing'

const route = (id: string) => ({ id, site: 'a', person: id, start: Number.parseInt(id.split('@')[1] ?? ''), end: 0, at: 0, cameras: [], legs: [], gaps: [], state: 'none' })

it('draws the newest routes of somebody who has very many, and says of how many', async () => {
  // by id, as the server gives them: first by camera
  const ids = ['dock', 'gate'].flatMap((camera) => Array.from({ length: 80 }, (_, n) => `${camera}@${1_000 + 2 * n + (camera === 'gate' ? 1 : 0)}#0`)).sort()
  const answers = Object.fromEntries(ids.map((id) => [`GET /v1/trajectories/${encodeURIComponent(id)}`, route(id)]))
  const { asked } = serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/people/p1/history': { trajectories: ids }, ...answers })
  loggedIn(['people.view'])
  const { data } = within(() => useRoutes({ kind: 'person', id: 'p1' }))
  await vi.waitFor(() => expect(data.value).toBeDefined())
  expect([data.value?.routes.length, data.value?.of]).toEqual([100, 160])
  const starts = data.value?.routes.map((one) => one.start) ?? []
  expect([Math.min(...starts), Math.max(...starts)]).toEqual([1_060, 1_159])
  expect(starts).toEqual([...starts].sort((a, b) => a - b))
  expect(asked.filter(({ call }) => call.startsWith('GET /v1/trajectories/'))).toHaveLength(100)
})

it('looks for a visitor where there is no enrolled person', async () => {
  serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/visitors/v1': { trajectories: ['gate@5#0'] }, 'GET /v1/trajectories/gate%405%230': route('gate@5#0') })
  loggedIn(['people.view'])
  const { data } = within(() => useRoutes({ kind: 'person', id: 'v1' }))
  await flushPromises()
  await vi.waitFor(() => expect(data.value?.routes.map((one) => one.id)).toEqual(['gate@5#0']))
})

import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import Inspections from './Inspections.vue'
import { serve, shown } from '@/testing'

vi.setConfig({ testTimeout: 30_000 })
const one = { id: 'i1', user: 'u1', user_name: 'li', site: 'a', round: 'r1', state: 'running', started: 1_795_000_000_000_000, ended: null, note: 'east door', photos: 2, waiting: 1, points: 9, worn: 1, incorrect: 0, none: 3, unknown: 0, far: 1, unproven: 2 }
const answers = {
  'GET /v1/sites': { items: [], next: null },
  'GET /v1/inspections': { items: [one], next: null },
  'GET /v1/rounds': { items: [{ id: 'r1', site: 'a', name: 'Morning', checkpoints: [], days: [], times: [], zone: 'UTC', within: 60, active: true }], next: null },
  'GET /v1/statistics/inspections': [{ start: 1, end: 2, inspections: 4, states: { finished: 2 }, photos: 7 }],
  'GET /v1/statistics/users': [],
}

it('shows who is out, on which round, and what the photos say; filters come from the address', async () => {
  const { asked } = serve(answers)
  const page = shown(Inspections, { at: '/inspections?state=open' })
  await flushPromises()
  await vi.waitFor(() => expect(page.findAll('[data-test=inspection]')).toHaveLength(1))
  const row = page.get('[data-test=inspection]').text()
  for (const word of ['li', 'Morning', 'Running', '1 not judged yet', '1 too far away', '2 without a position', '3 without', 'east door']) expect(row).toContain(word)
  expect(page.get('[data-test=inspection-strip]').text()).toContain('50%')
  expect(asked.some(({ call }) => call.startsWith('GET /v1/inspections?') && call.includes('state=open'))).toBe(true)
  page.unmount()
})

it('says that nothing fits, and what went wrong', async () => {
  serve({ ...answers, 'GET /v1/inspections': { items: [], next: null } })
  const page = shown(Inspections)
  await vi.waitFor(() => expect(page.text()).toContain('No inspections fit the filters'))
  page.unmount()
  serve({ ...answers, 'GET /v1/inspections': () => Response.json({ title: 'no', detail: 'the table burns' }, { status: 422 }) })
  const broken = shown(Inspections)
  await vi.waitFor(() => expect(broken.text()).toContain('the table burns'))
  broken.unmount()
})

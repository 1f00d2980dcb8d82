import { flushPromises } from '@vue/test-utils'
import { beforeEach, expect, it, vi } from 'vitest'

import { loggedIn, serve, shown } from '@/testing'

import Camera from './Camera.vue'

const AT = 1_800_000_000_000_000
const camera = {
  id: 'gate', name: 'Gate', site: 'hall', running: true, sources: [], zones: [{ name: 'Lobby', outline: [] }], hidden: [[[0, 0], [1, 0], [1, 1]]], place: null, direction: null, view: null, privacy: 'anonymous', calibrated: false,
  status: { state: 'down', since: AT, at: AT, fps_in: 24.5, fps_analysed: 5, width: 1_280, height: 720, analysed_width: 640, analysed_why: '', published: 1_234, dropped: 7, reconnects: 3, error: 'connection refused' },
}
class Nothing {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}
beforeEach(() => {
  vi.stubGlobal('IntersectionObserver', Nothing)
  vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockReturnValue(null)
  loggedIn(['cameras.view'])
})
const answers = {
  'GET /v1/cameras/gate': camera, 'GET /v1/sites': { items: [], next: null }, 'GET /v1/compliance/gaps': { items: [], next: null }, 'GET /v1/cameras/gate/footage': { frames: [], gaps: [], next: null },
  'GET /v1/episodes': { items: [], next: null },
  'GET /v1/compliance/now': [{ id: 'gate', site: 'hall', at: AT, looking: true, people: { worn: 4, none: 2, incorrect: 1, unknown: 0 }, people_in_minute: { none: 5, worn: 9 } }],
}

it('says how a camera does, why it does not, and who is in front of it', async () => {
  serve(answers)
  const page = shown(Camera, { props: { id: 'gate' } })
  await vi.waitFor(() => expect(page.get('h1').text()).toBe('Gate'))
  await flushPromises()
  expect(page.get('[data-test=state]').text()).toContain('Down')
  for (const words of ['1280 × 720', '24.5', '1,234', 'connection refused', 'Lobby']) expect(page.text()).toContain(words)
  expect(page.get('[data-test=now]').text()).toContain('4 worn · 3 unmasked')
  expect(page.find('#hour').exists()).toBe(true) // where the wall's clock leads
})

it('says that there is no such camera', async () => {
  serve({ ...answers, 'GET /v1/cameras/gate': () => Response.json({ status: 404, title: 'no such camera', detail: 'expected a camera one may see' }, { status: 404 }) })
  const page = shown(Camera, { props: { id: 'gate' } })
  await vi.waitFor(() => expect(page.get('[role=alert]').text()).toContain('expected a camera one may see'))
  expect(page.find('[data-test=player]').exists()).toBe(false)
})

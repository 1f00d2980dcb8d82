import { flushPromises } from '@vue/test-utils'
import { beforeEach, expect, it, vi } from 'vitest'

import { loggedIn, serve, shown } from '@/testing'

import InspectionDetail from './InspectionDetail.vue'

const AT = 1_800_000_000_000_000
const one = {
  id: 'i1', user: 'u2', user_name: 'Wang', site: 'hall', round: 'r', state: 'finished', started: AT, ended: AT + 600e6, note: '', photos: 2, waiting: 0, points: 40, worn: 1, incorrect: 0, none: 1,
  unknown: 0, far: 0, unproven: 0, skew: 0, device: 'Phone', radius: 30, steps: [{ state: 'running', at: AT, clock: AT }],
  checkpoints: [{ id: 'c1', number: 1, name: 'Door', visited: true, at: AT + 60e6, photos: 1, distance: 4, in_turn: true, unproven: 0 }, { id: 'c2', number: 2, name: 'Yard', visited: false, at: null, photos: 0, distance: null, in_turn: true, unproven: 0 }],
}
const photo = (id: string, worst: string, width: number, height: number) => ({
  id, inspection: 'i1', frame: id, taken: AT, taken_clock: AT, taken_from: 'phone', received: AT, lat: null, lon: null, accuracy: null, place_from: '', east: null, north: null, checkpoint: 'c1', distance: null,
  far: false, visit: null, note: '', width, height, picture: `/v1/inspections/i1/photos/${id}/picture`, camera: '', against: [], unproven: false,
  verdict: { state: 'done', worst, refused: '', none: Number(worst === 'none'), worn: Number(worst === 'worn'), incorrect: 0, unknown: 0, seconds: 1, faces: [{ id: `${id}#0`, box: [10, 20, 30, 40], score: 0.9, look: worst, look_score: 0.97 }] },
})
const answers = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  'GET /v1/inspections/i1': one, 'GET /v1/inspections/i1/photos': [photo('p1', 'none', 720, 1_280), photo('p2', 'worn', 640, 360)], 'GET /v1/inspections/i1/cameras': [], ...more,
})
const props = { id: 'i1', roundName: () => 'Night', siteName: () => 'Hall' }
beforeEach(() => vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockReturnValue(null))

it('shows what was walked and found, and each photo whole with its faces where they are', async () => {
  serve(answers())
  loggedIn(['inspections.view'])
  const page = shown(InspectionDetail, { props })
  await flushPromises()
  for (const words of ['Wang', 'Hall', 'Night', '1 / 2', '✓ Door', '✕ Yard']) expect(page.text()).toContain(words)
  const [tall, wide] = page.findAll('[data-test=inspection-photo]')
  expect(tall?.get('.frame').attributes('style')).toContain('--ratio: 0.5625')
  expect(wide?.get('.box').attributes('style')).toContain(`left: ${(10 / 640) * 100}%`)
  expect(page.find('[data-test=inspection-remove]').exists()).toBe(false)
})

it('goes through the photos that fit, large', async () => {
  serve(answers())
  loggedIn(['inspections.view'])
  const page = shown(InspectionDetail, { props })
  await flushPromises()
  await page.findAll('[data-test=inspection-photo] button')[1]?.trigger('click')
  await flushPromises()
  const dialog = (): Element | null => document.querySelector('.el-dialog')
  expect(dialog()?.textContent).toContain('Photo 2 of 2')
  const next = [...(dialog()?.querySelectorAll('button') ?? [])].find((button) => button.textContent?.includes('Next'))
  next?.click()
  await flushPromises()
  expect(dialog()?.textContent).toContain('Photo 1 of 2')
  expect(dialog()?.querySelector('figure')?.classList.contains('large')).toBe(true)
})

it('lets go on a round that is over only who may remove it, and asks before', async () => {
  const { asked } = serve(answers({ 'DELETE /v1/inspections/i1': {} }))
  loggedIn(['inspections.view', 'inspections.remove'])
  const page = shown(InspectionDetail, { props })
  await flushPromises()
  expect(page.find('[data-test=inspection-abandon]').exists()).toBe(false) // it has ended
  await page.get('[data-test=inspection-remove]').trigger('click')
  await flushPromises()
  expect(asked.some((call) => call.call.startsWith('DELETE'))).toBe(false)
  document.querySelector<HTMLButtonElement>('.el-message-box__btns .el-button--primary')?.click()
  await vi.waitFor(() => expect(asked.some((call) => call.call === 'DELETE /v1/inspections/i1')).toBe(true))
})

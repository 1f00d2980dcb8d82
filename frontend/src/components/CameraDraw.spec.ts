import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import { serve, shown } from '@/testing'

import CameraDraw from './CameraDraw.vue'

const camera = { id: 'gate', name: 'Gate', site: 's', zones: [{ name: 'Door', outline: [[0, 0], [1, 0], [1, 1]] }], hidden: [], calibrated: false, status: null }
const button = (name: string): HTMLButtonElement => document.querySelector(`[data-test=${name}]`) as HTMLButtonElement

it('sends all zones, and none that has no name', async () => {
  const { asked } = serve({ 'PUT /v1/cameras/gate/zones': {} })
  const page = shown(CameraDraw, { props: { camera, plans: [], what: 'zones' } })
  await flushPromises()
  expect(document.body.textContent).toContain('no answer for POST /v1/cameras/gate/snapshot') // one may draw by numbers
  button('new-shape').click()
  await flushPromises()
  expect(button('save-drawing').disabled).toBe(true)
  page.unmount()
  document.body.innerHTML = ''
  shown(CameraDraw, { props: { camera, plans: [], what: 'zones' } })
  await flushPromises()
  button('save-drawing').click()
  await flushPromises()
  expect(asked.find((one) => one.call.startsWith('PUT'))?.body).toEqual({ zones: [{ name: 'Door', outline: [[0, 0], [1, 0], [1, 1]] }] })
})

it('says by how much a calibration misses before it is saved', async () => {
  const pairs = [[0, 0], [1, 0], [1, 1], [0, 1]].map((point) => ({ picture: point, metres: point }))
  const { asked } = serve({
    'GET /v1/cameras/gate/calibration': { matrix: [], residual: 0.5, worst: 1, pairs, plan: null, created: null },
    'PUT /v1/cameras/gate/calibration': { matrix: [], residual: 0.12, worst: 0.34, pairs, plan: null, created: null },
  })
  shown(CameraDraw, { props: { camera, plans: [], what: 'calibration' } })
  await flushPromises()
  button('check').click()
  await flushPromises()
  expect(document.querySelector('[data-test=residual]')?.textContent).toContain('0.12')
  expect(asked.at(-1)?.body).toEqual({ pairs, plan: null, save: false })
})

const areas = { ...camera, zones: [], hidden: [[[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4]]] }
const corners = (): SVGCircleElement[] => [...document.querySelectorAll<SVGCircleElement>('[data-test=draw-picture] circle')]
const press = (at: Element | undefined, key: string, more = {}): boolean | undefined => at?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...more }))

it('takes away any corner by its key and brings it back', async () => {
  const { asked } = serve({ 'PUT /v1/cameras/gate/hidden': {} })
  shown(CameraDraw, { props: { camera: areas, plans: [], what: 'hidden' } })
  await flushPromises()
  corners()[1]?.focus()
  press(corners()[1], 'Delete')
  await flushPromises()
  expect(corners()).toHaveLength(3)
  expect(document.activeElement).toBe(corners()[1]) // one goes on at its neighbour
  press(corners()[1], 'ArrowRight')
  press(corners()[1], 'ArrowRight') // two steps of one way
  await flushPromises()
  press(corners()[1], 'z', { ctrlKey: true })
  button('undo').click()
  await flushPromises()
  expect(corners()).toHaveLength(4)
  expect(button('undo').disabled).toBe(true)
  button('redo').click()
  await flushPromises()
  button('save-drawing').click()
  await flushPromises()
  expect(asked.at(-1)?.body).toEqual({ areas: [[[0.1, 0.1], [0.4, 0.4], [0.1, 0.4]]] })
})

it('makes no address of a picture that comes when it is closed', async () => {
  let come: (answer: Response) => void = () => undefined
  vi.stubGlobal('fetch', () => new Promise<Response>((done) => (come = done)))
  const made = vi.fn(() => 'blob:x')
  vi.stubGlobal('URL', Object.assign(class extends URL {}, { createObjectURL: made, revokeObjectURL: vi.fn() }))
  const page = shown(CameraDraw, { props: { camera, plans: [], what: 'zones' } })
  await flushPromises()
  page.unmount()
  come(new Response(new Blob(['jpeg']), { headers: { 'content-type': 'image/jpeg' } }))
  await flushPromises()
  expect(made).not.toHaveBeenCalled()
})

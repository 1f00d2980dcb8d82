import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import { serve, shown } from '@/testing'

import CameraForm from './CameraForm.vue'

const plan = { id: 'p', site: 'hall', name: 'Ground', floor: 0, kind: 'image', west: 0, south: 0, east: 40, north: 20, digest: '', width: 0, height: 0 }
const camera = { id: 'gate', name: 'Gate', site: 'hall', fps: 5, width: 960, privacy: 'anonymous', loop: false, sources: [{ url: 'rtsp://gate/1', kind: 'main', width: 0 }], place: [10, 5], direction: 90, view: 60 }
const at = <T extends Element>(selector: string): T => document.querySelector(selector) as T
const submit = (): boolean => at<HTMLFormElement>('form').dispatchEvent(new Event('submit', { cancelable: true }))

it('sends a camera as it stands, and its place where the plan was clicked', async () => {
  const { asked } = serve({ 'PATCH /v1/cameras/gate': camera })
  const page = shown(CameraForm, { props: { camera, site: 'hall', plans: [plan] } })
  await flushPromises()
  submit()
  await flushPromises()
  expect(asked[0]?.body).toEqual({ name: 'Gate', fps: 5, width: 960, loop: false, sources: camera.sources, place: [10, 5], direction: 90, view: 60, privacy: 'anonymous' })
  const picture = at<SVGSVGElement>('svg.points')
  picture.getBoundingClientRect = () => ({ left: 0, top: 0, width: 400, height: 200, right: 400, bottom: 200, x: 0, y: 0, toJSON: () => ({}) })
  picture.dispatchEvent(new MouseEvent('click', { clientX: 100, clientY: 50 }))
  await flushPromises()
  submit()
  await flushPromises()
  expect((asked[1]?.body as { place: number[] }).place).toEqual([10, 15]) // a quarter from the west, a quarter from the north
  expect(page.emitted('close')).toHaveLength(2)
})

it('wants an id and an address of a new one, and leaves its privacy to the site', async () => {
  const { asked } = serve({ 'POST /v1/cameras': camera })
  shown(CameraForm, { props: { camera: null, site: 'hall', plans: [] } })
  await flushPromises()
  const save = at<HTMLButtonElement>('[data-test=save-camera]')
  expect(save.disabled).toBe(true)
  const id = at<HTMLInputElement>('#camera-id')
  id.value = 'dock'
  id.dispatchEvent(new Event('input'))
  await flushPromises()
  expect(save.disabled).toBe(true)
  const address = at<HTMLInputElement>('input[data-test=source-0]')
  address.value = 'rtsp://dock/1'
  address.dispatchEvent(new Event('input'))
  await flushPromises()
  expect(save.disabled).toBe(false)
  submit()
  await flushPromises()
  const body = asked.find((one) => one.call === 'POST /v1/cameras')?.body as Record<string, unknown>
  expect(body).toMatchObject({ id: 'dock', site: 'hall', sources: [{ url: 'rtsp://dock/1', kind: 'main' }], place: null, direction: null, view: null })
  expect('privacy' in body).toBe(false)
})

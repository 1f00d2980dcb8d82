import { flushPromises } from '@vue/test-utils'
import { beforeEach, expect, it, vi } from 'vitest'

import { loggedIn, serve, shown } from '@/testing'

import EvidencePlayer from './EvidencePlayer.vue'

const S = 1e6
const START = 1_800_000_000 * S
const episode = { id: 'gate@1#0', start: START + 10 * S, end: START + 20 * S, state: 'none', cameras: ['gate'] }
const footage = (cameras: object[]) => ({ cameras })
const gate = {
  camera: 'gate', since: START, until: START + 30 * S, begins: START,
  boxes: [{ at: START + 9 * S, box: [0.1, 0.2, 0.3, 0.4], look: 'worn', state: 'worn' }, { at: START + 10 * S, box: [0.9, 0.01, 0.95, 0.1], look: 'none', state: 'none' }],
}
const FILM = 'GET /v1/cameras/gate/footage/clip'
const revoked: string[] = []
beforeEach(() => {
  loggedIn(['compliance.view', 'cameras.export'])
  revoked.length = 0
  vi.stubGlobal('URL', Object.assign(class extends URL {}, { createObjectURL: () => 'blob:film', revokeObjectURL: (one: string) => revoked.push(one) }))
})
const film = (): Response => new Response(new Blob(['mp4']), { headers: { 'content-type': 'video/mp4', 'x-footage-start': String(START) } })

async function player(answers: Record<string, unknown>) {
  const server = serve(answers)
  const page = shown(EvidencePlayer, { props: { episode, nameOf: (id: string) => id.toUpperCase() } })
  await flushPromises()
  await flushPromises()
  return { page, ...server }
}
/** As a browser does once it knows the film. */
async function known(page: ReturnType<typeof shown>, width: number, height: number): Promise<HTMLVideoElement> {
  const video = page.get<HTMLVideoElement>('[data-test=film]').element
  for (const [name, value] of Object.entries({ videoWidth: width, videoHeight: height, duration: 30 })) Object.defineProperty(video, name, { value })
  video.dispatchEvent(new Event('loadedmetadata'))
  await page.vm.$nextTick()
  return video
}

it('begins a second before the breach, in the shape of the film', async () => {
  const { page, asked } = await player({ 'GET /v1/episodes/gate%401%230/footage': footage([gate]), [FILM]: film() })
  expect(new URLSearchParams(asked.find((one) => one.call.startsWith(FILM))?.call.split('?')[1]).get('episode')).toBe('gate@1#0')
  const video = await known(page, 480, 640)
  expect(video.currentTime).toBe(9)
  expect(page.get('.screen').attributes('style')).toContain('--ratio: 0.75')
  expect(page.get('[data-test=box]').text()).toBe('Worn')
})

it('keeps the words of a box inside the picture', async () => {
  const { page } = await player({ 'GET /v1/episodes/gate%401%230/footage': footage([gate]), [FILM]: film() })
  const video = await known(page, 640, 360)
  expect(page.get('[data-test=box]').classes()).not.toContain('below')
  video.currentTime = 10.1
  video.dispatchEvent(new Event('seeked'))
  await page.vm.$nextTick()
  expect(page.get('[data-test=box]').text()).toBe('No mask')
  expect(page.get('[data-test=box]').classes()).toEqual(expect.arrayContaining(['below', 'leftwards']))
})

it('gives its film back when it goes', async () => {
  const { page } = await player({ 'GET /v1/episodes/gate%401%230/footage': footage([gate]), [FILM]: film() })
  page.unmount()
  expect(revoked).toEqual(['blob:film'])
})

it('says what there is no film of, and why', async () => {
  const gone = await player({ 'GET /v1/episodes/gate%401%230/footage': footage([{ ...gate, since: 5, until: 5 }]) })
  expect(gone.page.get('[data-test=footage-gone]').text()).not.toBe('')
  const never = await player({ 'GET /v1/episodes/gate%401%230/footage': footage([gate]) }) // 404 for the film
  expect(never.page.get('[data-test=footage-gone]').text()).not.toBe(gone.page.get('[data-test=footage-gone]').text())
})

import { flushPromises } from '@vue/test-utils'
import { afterEach, expect, it, vi } from 'vitest'

import Search from './Search.vue'
import PictureChoice from '@/components/PictureChoice.vue'
import { loggedIn, serve, shown } from '@/testing'

vi.mock('@/components/SearchMap.vue', () => ({ default: { template: '<i />' } })) // it draws with WebGL

const match = (n: number, chance: number) => ({
  visitor: `v${n}`, chance, strangers: 0.01, cosine: chance, masked: 0, face: `f${n}`, pictured: false, site: 'a', camera: 'gate', at: 1_795_000_000_000_000, since: 1_795_000_000_000_000 + n * 1e6,
  until: 1_795_000_001_000_000 + n * 1e6, cameras: ['gate'], tracks: [`t${n}`], looks: 1, trajectories: [], person: null, name: null,
})
afterEach(() => vi.useRealTimers())

async function view(more: object = {}) {
  localStorage.clear()
  vi.useFakeTimers()
  const server = serve({
    'GET /v1/sites': { items: [], next: null }, 'GET /v1/cameras': { items: [], next: null }, 'GET /v1/plans': { items: [], next: null },
    'POST /v1/search/upload': { faces: { width: 1, height: 1, faces: [] }, chosen: 0, searched: 900, matches: [match(1, 0.9), match(2, 0.58)], people: [], ...more },
  })
  loggedIn(['people.run', 'people.view', 'cameras.view'])
  const wrapper = shown(Search)
  wrapper.findComponent(PictureChoice).vm.$emit('chosen', new Blob(['x'], { type: 'image/jpeg' }))
  await vi.advanceTimersByTimeAsync(10)
  await flushPromises()
  const asked = () => server.asked.filter(({ call }) => call === 'POST /v1/search/upload').map(({ body }) => Number(/name="least"\s+([\d.]+)/.exec(String(body))?.[1]))
  const step = async (key: 'ArrowLeft' | 'ArrowRight', times: number) => {
    for (let i = 0; i < times; i++) await wrapper.get('.el-slider__button-wrapper').trigger('keydown', { key, code: key })
    await flushPromises()
  }
  return { wrapper, asked, step }
}

it('finds among what is there what is likelier, without sending the picture again', async () => {
  const { wrapper, asked, step } = await view()
  expect([asked(), wrapper.findAll('[data-test=match]').length]).toEqual([[0.5], 2])
  await step('ArrowRight', 2)
  await vi.advanceTimersByTimeAsync(1_000)
  expect([asked(), wrapper.findAll('[data-test=match]').length]).toEqual([[0.5], 1])
})

it('asks once for what is less likely, when the slider stands still', async () => {
  const { asked, step } = await view()
  await step('ArrowLeft', 4)
  await vi.advanceTimersByTimeAsync(300)
  expect(asked()).toEqual([0.5])
  await step('ArrowLeft', 1)
  await vi.advanceTimersByTimeAsync(500)
  expect(asked()).toEqual([0.5, 0.25])
})

it('says when there were more looks than were looked at', async () => {
  const { wrapper } = await view()
  expect(wrapper.find('[data-test=incomplete]').exists()).toBe(false)
  const short = await view({ complete: false, reason: 'more than 16,384 looks', most: 16_384 })
  expect(short.wrapper.get('[data-test=incomplete]').text()).toContain('more than 16,384 looks are as alike as you asked for')
})

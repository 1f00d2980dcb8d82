import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import { serve, shown } from '@/testing'

import LastHour from './LastHour.vue'

const NOW = 1_800_000_000_000 // ms
const S = 1e6
const END = NOW * 1_000
const frame = (before: number, shown_ = 'whole') => ({ at: END - before * S, shown: shown_ })

beforeEach(() => vi.useFakeTimers({ now: NOW, toFake: ['Date', 'setTimeout', 'clearTimeout'] }))
afterEach(() => vi.useRealTimers())

function page(frames: object[], mayExport = true) {
  const server = serve({
    'GET /v1/cameras/gate/footage': { frames, gaps: [{ start: END - 1_800 * S, end: END - 900 * S }], next: null },
    'GET /v1/episodes': { items: [{ id: 'e', start: END - 600 * S, end: END - 590 * S, state: 'incorrect', cameras: ['gate'] }], next: null },
  })
  return { ...server, wrapper: shown(LastHour, { props: { camera: 'gate', mayExport } }) }
}

it('shows the picture nearest to the moment, none that is withheld, and marks when nobody looked', async () => {
  const { wrapper } = page([frame(70), frame(58, 'withheld'), frame(64)])
  await flushPromises()
  expect(wrapper.get('[data-test=past]').attributes('src')).toBe(`/v1/cameras/gate/footage/${END - 64 * S}`)
  const gap = wrapper.get('.gap').attributes('style') ?? ''
  expect(gap).toContain('left: 50%')
  expect(gap).toContain('width: 25%')
  expect(wrapper.get('.mark').classes()).toContain('incorrect')
})

it('plays a film from the moment, which moving it ends, and gives it away to those alone who may export', async () => {
  const { wrapper } = page([frame(60), frame(600)])
  await flushPromises()
  await wrapper.get('[data-test=play]').trigger('click')
  expect(wrapper.get('[data-test=film]').attributes('src')).toBe(`/v1/cameras/gate/footage/clip?since=${END - 60 * S}&until=${END - 30 * S}&stamp=site`)
  expect(wrapper.get('a[download]').attributes('href')).toContain('&download=true')
  await wrapper.get('[data-test=scrub]').setValue(String(END - 600 * S))
  expect(wrapper.find('[data-test=film]').exists()).toBe(false)
  expect(wrapper.get('[data-test=past]').attributes('src')).toContain(String(END - 600 * S))
  wrapper.unmount()
  const other = page([frame(60)], false).wrapper
  await flushPromises()
  expect(other.find('a[download]').exists()).toBe(false)
})

it('says that nothing is kept there, and plays nothing', async () => {
  const { wrapper } = page([])
  await flushPromises()
  expect(wrapper.get('[role=status]').text()).toBe('There is no picture of this moment')
  expect(wrapper.get<HTMLButtonElement>('[data-test=play]').element.disabled).toBe(true)
})

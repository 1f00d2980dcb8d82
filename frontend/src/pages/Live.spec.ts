import { flushPromises } from '@vue/test-utils'
import { beforeEach, expect, it, vi } from 'vitest'

import { loggedIn, serve, shown } from '@/testing'

import Live from './Live.vue'

const camera = (id: string, running = true) => ({
  id, name: id.toUpperCase(), site: 's', running, status: null, sources: [{ url: 'x', kind: 'main', width: 0 }], zones: [], hidden: [], place: null, direction: null, view: null, privacy: 'pseudonymous', calibrated: false,
})
class Nothing {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}
beforeEach(() => {
  localStorage.clear()
  vi.stubGlobal('IntersectionObserver', Nothing)
  vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockReturnValue(null)
  loggedIn(['cameras.view'])
})
async function wall(ids: string[], at = '/live') {
  serve({ 'GET /v1/cameras': { items: ids.map((id) => camera(id)), next: null }, 'GET /v1/compliance/now': [], 'GET /v1/sites': { items: [], next: null } })
  const page = shown(Live, { at })
  await vi.waitFor(() => expect(page.findAll('[data-test^=tile-]').length).toBeGreaterThan(0))
  return page
}
const cameras = (page: Awaited<ReturnType<typeof wall>>): string[] => page.findAll('[data-test^=tile-] video, [data-test^=tile-] img').map((one) => one.attributes('aria-label') ?? one.attributes('alt') ?? '')

it('fills places that nobody chose for, and invites to choose for those that are left', async () => {
  const page = await wall(['a', 'b', 'c'])
  expect(page.findAll('[data-test^=tile-]')).toHaveLength(4)
  expect(page.findAll('[data-test=player]')).toHaveLength(3)
  const empty = page.get('[data-test=empty]')
  expect(empty.text()).toContain('A') // one of its offers
  await empty.findAll('button').find((button) => button.text() === 'B')?.trigger('click')
  await flushPromises()
  expect(page.findAll('[data-test=player]')).toHaveLength(4)
  expect(page.find('[data-test=empty]').exists()).toBe(false)
})

it('shows the camera of the address alone, and the wall as it was afterwards', async () => {
  const page = await wall(['a', 'b', 'c'], '/live?camera=b')
  expect(page.findAll('[data-test^=tile-]')).toHaveLength(1)
  expect(page.get('h1').text()).toBe('B')
  await page.get('[data-test=back]').trigger('click')
  await vi.waitFor(() => expect(page.findAll('[data-test^=tile-]')).toHaveLength(4))
  expect(page.find('[data-test=back]').exists()).toBe(false)
})

it('knows no camera of the address that one may not see', async () => {
  const page = await wall(['a'], '/live?camera=secret')
  expect(page.findAll('[data-test^=tile-]')).toHaveLength(4)
  expect(cameras(page).join()).not.toContain('secret')
})

it('keeps how many there are side by side', async () => {
  const page = await wall(['a'])
  await page.get('[data-test=size-16] input').setValue(true)
  await flushPromises()
  expect(page.findAll('[data-test^=tile-]')).toHaveLength(16)
  page.unmount()
  expect((await wall(['a'])).findAll('[data-test^=tile-]')).toHaveLength(16)
})

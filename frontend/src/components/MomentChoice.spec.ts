import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'
import { type Component, defineComponent, ref } from 'vue'

import MomentChoice from './MomentChoice.vue'
import StretchChoice from './StretchChoice.vue'
import { loggedIn, serve, shown } from '@/testing'

const AT = Date.UTC(2026, 10, 23, 20, 30) * 1_000 // half past four in the morning in Shanghai

async function view(component: Component, first: unknown, more = '', zone = 'Asia/Shanghai') {
  serve({ 'GET /v1/sites': { items: [{ id: 'a', name: 'Hall', time_zone: zone }], next: null } })
  loggedIn(['cameras.view'])
  const value = ref(first)
  const wrapper = shown(defineComponent({ components: { Choice: component }, setup: () => ({ value }), template: `<Choice v-model="value" label="When" ${more} />` }), { site: 'a' })
  await flushPromises()
  return { value, wrapper, inputs: () => wrapper.findAll<HTMLInputElement>('input').map((one) => one.element.value) }
}

it('shows and takes what the clock of the site says, and names it', async () => {
  const { value, wrapper, inputs } = await view(MomentChoice, AT)
  expect(inputs()).toEqual(['2026-11-24 04:30:00'])
  expect(wrapper.text()).toContain('Asia/Shanghai')
  const field = wrapper.get('input')
  await field.setValue('2026-11-24 05:00:00')
  await field.trigger('change')
  await flushPromises()
  expect(new Date(Number(value.value) / 1_000).toISOString()).toBe('2026-11-23T21:00:00.000Z')
})

it('takes the end of a day there', async () => {
  const { value, wrapper } = await view(MomentChoice, null, 'day')
  const field = wrapper.get('input')
  await field.setValue('2026-12-01')
  await field.trigger('change')
  await flushPromises()
  expect(new Date(Number(value.value) / 1_000).toISOString()).toBe('2026-12-01T15:59:59.000Z')
})

it('does the same for both ends of a stretch', async () => {
  const { value, wrapper, inputs } = await view(StretchChoice, [AT, AT + 3_600e6])
  expect(inputs()).toEqual(['2026-11-24 04:30:00', '2026-11-24 05:30:00'])
  const [from] = wrapper.findAll('input')
  await from?.setValue('2026-11-24 00:00:00')
  await from?.trigger('change')
  await flushPromises()
  expect((value.value as [number, number]).map((at) => new Date(at / 1_000).toISOString())).toEqual(['2026-11-23T16:00:00.000Z', '2026-11-23T21:30:00.000Z'])
})

it('does not name a clock that is the viewer\'s own', async () => {
  const { wrapper } = await view(MomentChoice, AT, '', Intl.DateTimeFormat().resolvedOptions().timeZone)
  expect(wrapper.find('.zone').exists()).toBe(false)
})

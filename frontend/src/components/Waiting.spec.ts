import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'
import { defineComponent, ref } from 'vue'

import Waiting from './Waiting.vue'
import { Problem } from '@/api/client'
import { shown } from '@/testing'

const lost = new Problem(0, 'offline', 'refused')
const at = Date.UTC(2026, 10, 23, 14, 5, 9)
const view = (props: Record<string, unknown>) => shown(Waiting, { props, slots: { default: '<p class="content">12 cameras</p>' } })

it('keeps what was there when it cannot be had anew, and says how old it is', async () => {
  const wrapper = view({ error: lost, since: at })
  expect(wrapper.get('.content').text()).toBe('12 cameras')
  expect(wrapper.get('[data-test=old-notice]').text()).toMatch(/What is shown is of Nov 23, .*:05:09; it could not be fetched anew: The server cannot be reached/)
  expect(wrapper.find('[role=alert]').exists()).toBe(false)
  await wrapper.get('[data-test=old-notice] button').trigger('click')
  expect(wrapper.emitted('again')).toHaveLength(1)
})

it('says what went wrong instead of content when there never was any', () => {
  const wrapper = view({ error: lost, since: 0 })
  expect(wrapper.find('.content').exists()).toBe(false)
  expect(wrapper.get('[role=alert]').text()).toContain('The server cannot be reached')
})

it('shows nothing of what is gone or no longer allowed', () => {
  for (const status of [403, 404]) {
    const wrapper = view({ error: new Problem(status, 'no', 'not yours'), since: at })
    expect(wrapper.find('.content').exists()).toBe(false)
    expect(wrapper.get('[role=alert]').text()).toContain('not yours')
  }
})

it('does not throw away what somebody types inside it', async () => {
  const error = ref<unknown>(null)
  const wrapper = shown(defineComponent({
    components: { Waiting }, setup: () => ({ error, at }),
    template: '<Waiting :error="error" :since="at"><input /></Waiting>',
  }))
  const field = wrapper.get('input')
  await field.setValue('half a sen')
  error.value = lost
  await flushPromises()
  expect(wrapper.find('[data-test=old-notice]').exists()).toBe(true)
  expect(wrapper.get('input').element).toBe(field.element)
  error.value = null
  await flushPromises()
  expect(wrapper.get('input').element.value).toBe('half a sen')
})

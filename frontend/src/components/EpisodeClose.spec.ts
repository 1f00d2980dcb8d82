import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import EpisodeClose from './EpisodeClose.vue'
import { shown } from '@/testing'

const find = <E extends HTMLElement>(what: string): E => document.querySelector(what) as E

it('wants words with a false alarm, and hands on what was done', async () => {
  const wrapper = shown(EpisodeClose, { props: { modelValue: true, count: 1 } })
  await flushPromises()
  const confirm = () => find<HTMLButtonElement>('[data-test=close-confirm]')
  expect(confirm().disabled).toBe(true)
  find<HTMLInputElement>('[data-test=action-false_alarm]').click()
  await flushPromises()
  expect(confirm().disabled).toBe(true)
  find<HTMLInputElement>('[data-test=action-told]').click()
  await flushPromises()
  expect(confirm().disabled).toBe(false)
  find<HTMLFormElement>('#close-episode').dispatchEvent(new Event('submit', { cancelable: true }))
  expect(wrapper.emitted('close')).toEqual([['told', '']])
})

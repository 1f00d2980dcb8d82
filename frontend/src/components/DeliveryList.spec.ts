import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import DeliveryList from './DeliveryList.vue'
import { serve, shown } from '@/testing'

const one = { id: 'd1', alert: '', channel: 'c1', channel_name: 'Ward', what: 'test', step: 0, state: 'failed', attempts: 2, due: null, made: '2026-11-23T20:00:00Z', ended: null, answer: '403 no' }

it('shows the attempts on request and offers to send again only what has not arrived', async () => {
  serve({ 'GET /v1/deliveries/d1': { delivery: one, tries: [{ at: '2026-11-23T20:00:01Z', took: 0.2, sent: false, answer: 'wrong signature' }] } })
  const wrapper = shown(DeliveryList, { props: { deliveries: [one, { ...one, id: 'd2', state: 'sent' }] } })
  expect(wrapper.findAll('[data-test=delivery-again]')).toHaveLength(1)
  await wrapper.get('[aria-expanded=false]').trigger('click')
  await flushPromises()
  expect(wrapper.text()).toContain('wrong signature')
  await wrapper.get('[data-test=delivery-again]').trigger('click')
  expect(wrapper.emitted('again')).toEqual([['d1']])
})

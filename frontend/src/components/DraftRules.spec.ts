import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'
import { defineComponent, ref } from 'vue'

import DraftRules from './DraftRules.vue'
import { shown } from '@/testing'

const rule = (name: string, more: object = {}) => ({ name, cameras: [], zone: '', required: 'worn', breach: ['none', 'incorrect'], grace: null, ...more })

function view(rules: object[]) {
  const draft = ref({ rules, otherwise: 'worn' })
  const wrapper = shown(defineComponent({ components: { DraftRules }, setup: () => ({ draft, cameras: [{ id: 'gate', name: 'Gate' }] }), template: '<DraftRules v-model="draft" :cameras="cameras" />' }))
  return { draft, wrapper }
}
const names = (draft: { rules: object[] }) => draft.rules.map((one) => (one as { name: string }).name)

it('puts rules in another order, adds and drops them, without touching what it does not show', async () => {
  const hours = [{ days: [1], begin: '08:00', end: '12:00' }]
  const { draft, wrapper } = view([rule('first'), rule('second', { hours, except_roles: ['surgeon'] })])
  const before = draft.value
  await wrapper.findAll('button[aria-label="Move up"]')[1]?.trigger('click')
  expect(names(draft.value)).toEqual(['second', 'first'])
  expect(draft.value.rules[0]).toEqual(rule('second', { hours, except_roles: ['surgeon'] }))
  expect(names(before)).toEqual(['first', 'second']) // given on, not changed in place
  expect(wrapper.text()).toContain('With the hours and roles of the version it comes from')
  await wrapper.get('[data-test=rule-add]').trigger('click')
  expect(draft.value.rules[2]).toEqual(rule(''))
  await wrapper.findAll('button[aria-label="Remove"]')[1]?.trigger('click')
  expect(names(draft.value)).toEqual(['second', ''])
})

it('asks for no breach where nothing is required', async () => {
  const { draft, wrapper } = view([rule('canteen', { required: 'nothing' })])
  expect(wrapper.find('.el-checkbox-group').exists()).toBe(false)
  await wrapper.get<HTMLInputElement>('.name input').setValue('hall')
  await flushPromises()
  expect(names(draft.value)).toEqual(['hall'])
})

it('makes a rule one for some roles alone', async () => {
  const { draft, wrapper } = view([rule('gowns')])
  wrapper.findAllComponents({ name: 'ElSelect' }).find((one) => one.attributes('data-test') === 'only-roles')?.vm.$emit('update:modelValue', ['nurse'])
  await flushPromises()
  expect(draft.value.rules).toEqual([rule('gowns', { roles: ['nurse'] })])
})

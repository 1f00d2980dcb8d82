import { expect, it } from 'vitest'

import StateBar from './StateBar.vue'
import { shown } from '@/testing'

const widths = (counts: Record<string, number> | undefined) => shown(StateBar, { props: { counts } }).findAll('.bar > span').map((one) => one.attributes('style')?.match(/width: ([^;]+)/)?.[1])

it('is as wide as there are many, and says so in words', () => {
  expect(widths({ worn: 6, none: 2, incorrect: 1, unknown: 1 })).toEqual(['60%', '10%', '20%', '10%'])
  expect(shown(StateBar, { props: { counts: { worn: 6, none: 2 } } }).get('[role=img]').attributes('aria-label')).toBe('Worn 6, Worn wrongly 0, No mask 2, Can\'t tell 0')
})

it('tells nobody there from not known', () => {
  expect(widths({})).toEqual(['0px', '0px', '0px', '0px'])
  expect(shown(StateBar, { props: { counts: {} } }).get('[role=img]').attributes('aria-label')).toContain('Worn 0')
  expect(shown(StateBar, { props: { counts: undefined } }).get('[role=img]').attributes('aria-label')).toBe('Not known')
})

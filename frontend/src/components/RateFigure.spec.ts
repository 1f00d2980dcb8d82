import { expect, it } from 'vitest'

import RateFigure from './RateFigure.vue'
import { shown } from '@/testing'

const numbers = (worn: number, none: number, more: object = {}) => ({ people: { worn, incorrect: 0, none, unknown: 4, exempt: 0 }, seconds: {}, rate: worn + none ? worn / (worn + none) : null, low: null, high: null, rate_of_time: null, looked: 1, blind: 0, most: 0, ...more })
const compared = (more: object) => ({ site: '', camera: '', zone: '', now: numbers(90, 10, { low: 0.826, high: 0.945 }), before: numbers(80, 20), change: 0.1, change_low: 0.02, change_high: 0.18, ...more })
const view = (props: object) => shown(RateFigure, { props: { title: 'Today', before: 'than before', ...props } })

it('says the share, how sure it is and of how many, and a change that is no chance in colour', () => {
  const wrapper = view({ compared: compared({}) })
  expect(wrapper.get('b').text()).toBe('90%')
  expect(wrapper.text()).toMatch(/82\.6%.*94\.5%.*100/s)
  const change = wrapper.findAll('span').at(-1)
  expect(change?.text()).toContain('▲ 10')
  expect(change?.classes()).toContain('better')
})

it('does not call better or worse what may be chance', () => {
  const wrapper = view({ compared: compared({ change: -0.03, change_low: -0.1, change_high: 0.04 }) })
  const change = wrapper.findAll('span').at(-1)
  expect(change?.text()).toContain('▼ 3')
  expect(change?.classes()).toContain('faint')
  expect(view({ compared: compared({ change: -0.2, change_low: -0.3, change_high: -0.1 }) }).findAll('span').at(-1)?.classes()).toContain('worse')
})

it('says that it is not known, and that nothing was before', () => {
  expect(view({ loading: true }).get('b').text()).toBe('…')
  const wrapper = view({ compared: compared({ now: numbers(0, 0), change: null, change_low: null, change_high: null }) })
  expect(wrapper.get('b').text()).toBe('–')
  expect(wrapper.text()).toContain('nothing before to compare with')
})

import { expect, it } from 'vitest'

import { shown } from '@/testing'

import EpisodeTimeline from './EpisodeTimeline.vue'

const S = 1_000_000
const DAY = 86_400 * S
const SINCE = 1_800_000_000 * S
const episode = (id: string, at: number, camera = 'gate', state = 'none') =>
  ({ id, start: SINCE + at * S, end: SINCE + (at + 30) * S, cameras: [camera], state, status: 'closed', review: { status: 'new' } })
const pile = (at: number, none: number, incorrect = 0, camera = 'gate') => ({ camera, start: SINCE + at * S, none, incorrect, closed: 0 })
const props = (episodes: unknown[], more: object = {}) => ({ since: SINCE, until: SINCE + DAY, episodes, outages: [], nameOf: (id: string) => id, ...more })
const strip = (page: ReturnType<typeof shown>) => page.get('[data-test=strip]')

it('goes from mark to mark by keys and opens the one it stands on', async () => {
  const page = shown(EpisodeTimeline, { props: props([episode('late', 60_000), episode('early', 100), episode('noon', 40_000, 'dock')]) })
  expect(page.findAll('[data-test=mark]')).toHaveLength(3)
  await strip(page).trigger('keydown', { key: 'ArrowRight' })
  await strip(page).trigger('keydown', { key: 'Enter' })
  await strip(page).trigger('keydown', { key: 'End' })
  expect(page.get(`#${strip(page).attributes('aria-activedescendant')}`).attributes('aria-label')).toContain('No mask')
  await strip(page).trigger('keydown', { key: ' ' })
  expect(page.emitted('pick')).toEqual([['early'], ['late']])
})

it('narrows and widens by keys, around where it stands', async () => {
  const page = shown(EpisodeTimeline, { props: props([episode('noon', 43_200)]) })
  await strip(page).trigger('keydown', { key: 'ArrowLeft' })
  await strip(page).trigger('keydown', { key: '+' })
  expect(page.emitted('range')).toEqual([[SINCE + DAY / 4, SINCE + (3 * DAY) / 4]])
  await strip(page).trigger('keydown', { key: '-' })
  expect(page.emitted('range')?.[1]?.[0]).toBe(SINCE - DAY / 2)
})

it('counts what would be a block, and opens a bar of one or narrows to one of several', async () => {
  const many = [...Array.from({ length: 12 }, (_, i) => episode(`e${i}`, i * 60)), episode('alone', 80_000)]
  const piles = { step: 600 * S, episodes: 13, few: true, items: [pile(0, 10), pile(600, 1, 1), pile(79_800, 1)] }
  const page = shown(EpisodeTimeline, { props: props(many, { piles }) })
  expect(page.findAll('[data-test=mark]')).toHaveLength(0)
  const bars = page.findAll('[data-test=pile]')
  expect(bars.map((bar) => bar.classes()).map((names) => names.includes('incorrect'))).toEqual([false, false, true, false])
  const high = bars.map((bar) => Number(bar.attributes('height')))
  expect(high[0]).toBe(Math.max(...high))
  expect(page.get('[data-test=counted]').text()).toContain('13 episodes')
  await bars[0]?.trigger('click')
  await bars[3]?.trigger('click')
  expect(page.emitted('range')).toEqual([[SINCE, SINCE + 600 * S]])
  expect(page.emitted('pick')).toEqual([['alone']])
})

it('draws each where there is room for each', () => {
  const few = [episode('a', 0), episode('b', 20_000), episode('c', 40_000, 'dock')]
  const page = shown(EpisodeTimeline, { props: props(few, { piles: { step: 600 * S, episodes: 3, few: true, items: [pile(0, 1)] } }) })
  expect(page.findAll('[data-test=mark]')).toHaveLength(3)
  expect(page.find('[data-test=counted]').exists()).toBe(false)
})

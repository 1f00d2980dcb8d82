import { expect, it } from 'vitest'

import { shown } from '@/testing'

import SearchStrip from './SearchStrip.vue'

const match = (visitor: string, since: number, until: number, chance = 0.9) =>
  ({ visitor, since: since * 1e6, until: until * 1e6, chance, camera: 'gate', cameras: ['gate', 'dock'] })

it('lays matches along the time, none over another, and hands on the one that is chosen', async () => {
  const page = shown(SearchStrip, {
    props: { matches: [match('late', 900, 1_000), match('early', 100, 500), match('same', 200, 300)], chosen: 'early', nameOf: (id: string) => id.toUpperCase() },
  })
  const marks = page.findAll('[data-test=strip-mark]')
  const styles = marks.map((mark) => mark.attributes('style') ?? '')
  expect(styles.map((style) => /left: ([\d.]+)%/.exec(style)?.[1])).toEqual(['0', expect.stringMatching(/^11\.1/), expect.stringMatching(/^88\.8/)])
  expect(styles.map((style) => /--lane: (\d)/.exec(style)?.[1])).toEqual(['0', '1', '0']) // two at once stand below each other
  expect(marks[0]?.attributes('aria-label')).toContain('GATE → DOCK')
  expect(marks.map((mark) => mark.attributes('tabindex'))).toEqual(['0', '-1', '-1'])
  await marks[2]?.trigger('click')
  await marks[0]?.trigger('keydown', { key: 'ArrowRight' })
  expect(page.emitted('choose')).toEqual([['late'], ['same']])
  expect(document.activeElement).toBe(marks[1]?.element)
})

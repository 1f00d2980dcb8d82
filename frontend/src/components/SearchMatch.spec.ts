import { expect, it } from 'vitest'

import { loggedIn, shown } from '@/testing'

import SearchMatch from './SearchMatch.vue'

const match = {
  visitor: 'v1', person: null, name: null, chance: 0.91, cosine: 0.5, strangers: 0.0002, masked: 1, face: 'gate@1#0', pictured: false, camera: 'gate', cameras: ['gate', 'dock'],
  site: 's', at: 1e15, since: 1e15, until: 1e15 + 60e6, looks: 4, tracks: ['t1'], trajectories: ['a', 'b', 'c', 'd'],
}
const props = { match, nameOf: (id: string) => ({ gate: 'Gate', dock: 'Dock' })[id] ?? id, merging: false }

it('says how likely it is in figures and words, and where', () => {
  loggedIn(['people.run'])
  const page = shown(SearchMatch, { props })
  expect(page.get('[data-test=chance]').text()).toBe('91%')
  for (const words of ['probably the same', 'As alike by chance: < 0.001', 'one with a mask', 'Gate → Dock', 'looks: 4']) expect(page.text()).toContain(words)
  expect(page.findAll('a').map((link) => link.attributes('href'))).toEqual(['a', 'b', 'c'].map((id) => `/map?trajectory=${id}`))
  expect(page.find('[data-test=not]').exists()).toBe(false) // to decide who it is, it takes another right
})

it('lets those decide who may at that camera', async () => {
  loggedIn(['people.review'], { site: 's', camera: 'gate' })
  const page = shown(SearchMatch, { props: { ...props, chosen: true } })
  await page.get('[data-test=not]').trigger('click')
  await page.get('[data-test=show]').trigger('click')
  expect(Object.keys(page.emitted())).toEqual(expect.arrayContaining(['not', 'show']))
  expect(page.get('[data-test=show]').attributes('aria-pressed')).toBe('true')
})

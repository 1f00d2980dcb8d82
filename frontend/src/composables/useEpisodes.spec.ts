import { expect, it } from 'vitest'

import { read, stretch } from './useEpisodes'

it('reads an address and leaves out what makes no sense', () => {
  expect(read({ range: 'week', state: 'blue', review: 'closed', assigned: 'me', camera: 'gate' })).toEqual({
    range: 'week', since: undefined, until: undefined, site: undefined, camera: 'gate', state: undefined, status: undefined, review: 'closed', assigned: 'me', zone: undefined, person: undefined, exempt: undefined,
  })
  expect(read({ since: '5', until: '9' }).range).toBe('own')
  expect(read({ since: '-5' }).range).toBe('day')
})

it('begins today at midnight of the site', () => {
  const now = Date.UTC(2026, 10, 23, 20, 30)
  expect(stretch({ range: 'today' }, now, 'Asia/Shanghai')).toEqual([Date.UTC(2026, 10, 23, 16) * 1_000, now * 1_000])
  expect(stretch({ range: 'own', since: 5, until: 9 }, now, 'UTC')).toEqual([5, 9])
})

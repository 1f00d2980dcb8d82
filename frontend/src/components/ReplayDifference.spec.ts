import { flushPromises } from '@vue/test-utils'
import { expect, test } from 'vitest'

import type { Schema } from '@/api/client'
import { serve, shown } from '@/testing'

import ReplayDifference from './ReplayDifference.vue'

const BREACH: Schema<'ReplayBreach'> = {
  id: 'e1', person: 'p1', state: 'none', status: 'closed', start: 1_795_478_800_000_000, end: 1_795_478_804_000_000, cameras: ['gate'], score: 0.91,
  looks: 4, reason: '', zone: 'ward', policy: '', rule: '', exempt: '', cut: false,
  evidence: [{ picture: '/v1/replays/r1/evidence/k', camera: 'gate', at: 1_795_478_801_000_000, box: [0, 0, 9, 9], look: 'none', look_score: 0.9 }],
}

test('a breach that only the run has is shown with its picture beside an empty side', async () => {
  serve({ 'GET /v1/cameras': { items: [], next: null }, 'GET /v1/sites': { items: [], next: null } })
  const shownAs = shown(ReplayDifference, {
    props: { difference: { kind: 'gained', changed: [], this: BREACH, other: null }, thisName: 'Stricter', otherName: 'What was recorded live' },
  })
  await flushPromises()
  const [mine, theirs] = shownAs.findAll('section')
  expect(mine?.get('img').attributes('src')).toBe('/v1/replays/r1/evidence/k')
  expect(mine?.text()).toContain('No mask')
  expect(theirs?.text()).toContain('Not found on this side')
  expect(shownAs.text()).toContain('Gained')
})

test('what differs between two sides is named', () => {
  serve({})
  const shownAs = shown(ReplayDifference, {
    props: { difference: { kind: 'changed', changed: ['state', 'end'], this: BREACH, other: { ...BREACH, state: 'incorrect' } }, thisName: 'A', otherName: 'B' },
  })
  expect(shownAs.text()).toContain('State, End')
  expect(shownAs.findAll('.mask-state').map((one) => one.classes('marked'))).toEqual([true, true])
})

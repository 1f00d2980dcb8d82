import { describe, expect, it } from 'vitest'

import { stretch } from './useStretch'
import { between } from './useVideo'

const face = (x: number, track?: string) => ({ box: [x, 0, x + 0.1, 0.2], state: 'worn', score: 1, track })

describe('boxes of a picture', () => {
  it('are on the way between two looks at the same track', () => {
    const looks = [{ at: 1_000_000, faces: [face(0.2, 'a'), face(0.5)] }, { at: 1_200_000, faces: [face(0.4, 'a')] }]
    expect(between(looks, 1_100_000)?.faces.map((one) => one.box[0]?.toFixed(2))).toEqual(['0.30', '0.50'])
  })
  it('are none before the first look and when the last is too old', () => {
    const looks = [{ at: 1_000_000, faces: [face(0.2, 'a')] }]
    expect(between(looks, 900_000)).toBeNull()
    expect(between(looks, 3_000_000)).toBeNull()
  })
})

describe('stretches', () => {
  it('begin the day at midnight where the cameras are', () => {
    const now = Date.UTC(2026, 10, 23, 20, 15, 5, 400)
    expect(new Date(stretch('today', 'Asia/Shanghai', now).since / 1_000).toISOString()).toBe('2026-11-23T16:00:00.000Z')
    expect(stretch('hour', 'UTC', now)).toEqual({ since: (now - 3_600_000) * 1_000, until: now * 1_000 })
  })
})

import { describe, expect, it } from 'vitest'

import { fromWall, midnight, wallAt } from './wall'

const iso = (ms: number): string => new Date(ms).toISOString()

describe('clocks on the wall', () => {
  it('show the time of their place, whatever this browser thinks', () => {
    const at = Date.UTC(2026, 10, 23, 20, 30, 5)
    const there = wallAt(at, 'Asia/Shanghai')
    expect([there.getFullYear(), there.getMonth(), there.getDate(), there.getHours(), there.getMinutes(), there.getSeconds()]).toEqual([2026, 10, 24, 4, 30, 5])
    for (const zone of ['Asia/Shanghai', 'Asia/Kolkata', 'America/St_Johns', 'Pacific/Kiritimati', 'UTC']) {
      expect(iso(fromWall(wallAt(at, zone), zone))).toBe('2026-11-23T20:30:05.000Z')
    }
  })
  it('begin a day at midnight, also on the days on which clocks are put on or back', () => {
    expect(iso(midnight(Date.UTC(2026, 2, 29, 12), 'Europe/Berlin'))).toBe('2026-03-28T23:00:00.000Z') // 23 hours long
    expect(iso(midnight(Date.UTC(2026, 9, 25, 12), 'Europe/Berlin'))).toBe('2026-10-24T22:00:00.000Z') // 25 hours long
    expect(iso(midnight(Date.UTC(2026, 9, 25, 22, 59), 'Europe/Berlin'))).toBe('2026-10-24T22:00:00.000Z')
  })
  it('know a time that a change of clocks leaves out', () => {
    // 02:30 is not there on 29 March: clocks go from 02:00 to 03:00
    expect(['2026-03-29T00:30:00.000Z', '2026-03-29T01:30:00.000Z']).toContain(iso(fromWall(new Date(2026, 2, 29, 2, 30), 'Europe/Berlin')))
  })
})

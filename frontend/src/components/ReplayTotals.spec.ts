import { expect, it } from 'vitest'

import { shown } from '@/testing'

import ReplayTotals from './ReplayTotals.vue'

const states = (worn: number, incorrect: number, none: number, unknown = 0) => ({ worn, incorrect, none, unknown })
const theirs = { episodes: 12, frames: 900, people: 40, rate: 0.8, low: 0.7, high: 0.9, rate_time: 0.5, looks: null, seconds: states(600, 30, 90), tracks: states(32, 2, 6), refused: 0, reasons: [] }

it('says what both come to and by how much they differ', () => {
  const page = shown(ReplayTotals, { props: { mine: { ...theirs, episodes: 9, rate: 0.85, people: 1_040 }, theirs, thisName: 'With patience', otherName: 'Recorded' } })
  const rows = new Map(page.findAll('tbody tr').map((row) => [row.get('th').text(), row.findAll('td').map((cell) => cell.text())]))
  expect([...rows.values()][0]).toEqual(['9', '12', '-3'])
  expect([...rows.values()][1]).toEqual(['85% (70% – 90%)', '80% (70% – 90%)', expect.stringContaining('+5.0')])
  expect([...rows.values()][3]).toEqual(['1,040', '40', '+1,000'])
  expect([...rows.values()].at(-1)).toEqual(['900', '900', '='])
})

it('leaves out what is not known, and says what was refused', () => {
  const unknown = { ...theirs, rate: null, low: null, high: null, rate_time: null, frames: null, refused: 3, reasons: ['no such model'] }
  const page = shown(ReplayTotals, { props: { mine: unknown, theirs, thisName: 'a', otherName: 'b' } })
  const rows = page.findAll('tbody tr').map((row) => row.findAll('td').map((cell) => cell.text()))
  expect(rows[1]).toEqual(['–', '80% (70% – 90%)', ''])
  expect(rows.at(-1)).toEqual(['–', '900', ''])
  expect(page.get('.warn').text()).toContain('no such model')
})

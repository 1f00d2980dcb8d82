import { expect, it } from 'vitest'

import { arranged, type Label, type Marked, type Rect } from './labels'

const screen: Rect = { x: 0, y: 0, width: 400, height: 225 }
const face = (x: number, y: number, side = 30): Marked => ({ box: { x, y, width: side, height: side }, full: 110, short: 50 })
const overlaps = (all: (Label | null)[]): number => {
  const there = all.filter((one) => one !== null)
  return there.filter((a, i) => there.slice(i + 1).some((b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height)).length
}

it('puts the words of one face above it, and below where there is no room above', () => {
  expect(arranged([face(100, 100)], 16, screen)).toEqual([{ x: 100, y: 84, width: 110, height: 16, words: 'full' }])
  expect(arranged([face(100, 4)], 16, screen)[0]).toMatchObject({ y: 34, words: 'full' })
})

it('keeps words inside the picture at its right edge', () => {
  expect(arranged([face(380, 100, 20)], 16, screen)[0]).toMatchObject({ x: 290, width: 110 })
})

it('covers no words of a neighbour, and leaves nobody out', () => {
  const row = [60, 95, 130, 165, 200].map((x) => face(x, 90))
  const labels = arranged(row, 16, screen)
  expect(labels.every((one) => one !== null)).toBe(true)
  expect(overlaps(labels)).toBe(0)
})

it('draws no words where nothing is free rather than words over words', () => {
  const crowd = Array.from({ length: 200 }, (_, i) => face((i % 20) * 20, Math.floor(i / 20) * 22, 18))
  const labels = arranged(crowd, 16, screen)
  expect(overlaps(labels)).toBe(0)
  expect(labels.filter((one) => one === null).length).toBeGreaterThan(0)
})

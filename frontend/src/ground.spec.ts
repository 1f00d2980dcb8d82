import { describe, expect, it } from 'vitest'

import { ahead, cone, covering, labelled, landed, projection, routeOf, routeOfRound, shownFloor, whereAt } from './ground'

const S = 1_000_000

describe('the ground', () => {
  it('looks from a camera clockwise from north', () => {
    const [east, north] = ahead([10, 5], 90, 4)
    expect([Math.round(east * 1e6) / 1e6, Math.round(north * 1e6) / 1e6]).toEqual([14, 5])
    const outline = cone([0, 0], 0, 60, 8)
    expect(outline[0]).toEqual([0, 0])
    expect(outline.every(([x, y]) => Math.hypot(x, y) < 8.000001 && y >= 0)).toBe(true)
  })
  it('lies upright without a place on the globe, turned with one', () => {
    expect(projection(null)([0, 0])).toEqual([0, 0])
    const [lon, lat] = projection({ latitude: 0, longitude: 10, bearing: 90 })([0, 111_319.49])
    expect([lon, lat].map((value) => Math.round(value * 1e4) / 1e4)).toEqual([11, 0])
  })
  it('takes a point of the picture to the floor, and none above the horizon', () => {
    expect(landed([10, 0, 0, 0, 20, 0, 0, 0, 1], [0.5, 0.25])).toEqual([5, 5])
    expect(landed([1, 0, 0, 0, 1, 0, 0, 1, -0.5], [0.5, 0.2])).toBeNull()
  })
})

describe('a route', () => {
  const legs = [
    { number: 0, camera: 'a', start: 0, end: 2 * S, place: [0, 0] as [number, number], state: 'none' },
    { number: 1, camera: 'b', start: 6 * S, end: 8 * S, place: [8, 0] as [number, number], state: 'worn' },
  ]
  it('is seen at cameras and inferred between them', () => {
    const route = routeOf('p', legs, [{ after: 0, start: 2 * S, end: 6 * S, probability: 0.9 }], (_, place) => place)
    expect(route.stretches.map((one) => one.kind)).toEqual(['observed', 'inferred', 'observed'])
    expect(whereAt(route, S)).toMatchObject({ place: [0, 0], stretch: { camera: 'a', state: 'none' } })
    expect(whereAt(route, 4 * S)).toMatchObject({ place: [4, 0], stretch: { kind: 'inferred', probability: 0.9 } })
    expect(whereAt(route, 9 * S)).toBeNull()
  })
  it('follows in front of a calibrated camera where they walked, and goes on from there', () => {
    const path = [{ at: S / 2, place: [1, 2] }, { at: 1.5 * S, place: [3, 2] }]
    const route = routeOf('p', [{ ...legs[0]!, path }, legs[1]!], [{ after: 0, start: 2 * S, end: 6 * S, probability: 0.9 }], (_, place) => place)
    expect(whereAt(route, 0)?.place).toEqual([1, 2])
    expect(whereAt(route, S)?.place).toEqual([2, 2])
    expect(whereAt(route, 2 * S)?.place).toEqual([3, 2])
    expect(whereAt(route, 4 * S)).toMatchObject({ place: [5.5, 1], stretch: { kind: 'inferred' } })
  })
  it('is drawn over the floor that the camera shows, no farther than a cone', () => {
    expect(shownFloor([0, 0], [[-6, 8], [6, 8], [1, 2], [-1, 2]], 5)).toEqual([[-3, 4], [3, 4], [1, 2], [-1, 2], [-3, 4]])
    expect(shownFloor([0, 0], [], 5)).toEqual([])
  })
  it('of an inspection follows its points', () => {
    const route = routeOfRound('r', [[[0, 0, 0], [4, 0, 4 * S]], [[4, 6, 10 * S], [4, 8, 12 * S]]])
    expect([route.start, route.end]).toEqual([0, 12 * S])
    expect(whereAt(route, S)?.place).toEqual([1, 0])
    expect(whereAt(route, 7 * S)).toMatchObject({ place: [4, 3], stretch: { kind: 'inferred' } })
  })
})

describe('labels on the map', () => {
  it('stand behind what they name, whichever way it looks', () => {
    expect([null, 0, 90, 180, 270, -90, 359].map((angle) => labelled(angle, 9).anchor)).toEqual(['top', 'top', 'right', 'bottom', 'left', 'left', 'top'])
    expect(labelled(90, 9).offset).toEqual([-9, 0])
  })
  it('give way to those before them', () => {
    const box = (left: number, top: number) => ({ left, top, right: left + 10, bottom: top + 4 })
    expect(covering([box(0, 0), box(5, 2), box(12, 0), box(14, 3)])).toEqual([false, true, false, true])
  })
})

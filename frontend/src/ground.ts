// The ground on a map: a site's metres east and north, as longitude and latitude; view cones; routes along time.
import type { Schema } from './api/client'

export type Place = [east: number, north: number] // metres on the site plan
export type Globe = [longitude: number, latitude: number]

const DEGREE = (6_378_137 * Math.PI) / 180 // metres of a degree of latitude, as web maps have it
const radians = (degrees: number): number => (degrees * Math.PI) / 180

/** Where plan metres lie on the map: at the site's place on the globe, else upright where the equator begins. */
export function projection(origin: Schema<'Origin'> | null): (place: readonly [number, number]) => Globe {
  if (!origin) return ([east, north]) => [east / DEGREE, north / DEGREE]
  const [sin, cos] = [Math.sin(radians(origin.bearing ?? 0)), Math.cos(radians(origin.bearing ?? 0))]
  const wide = DEGREE * Math.cos(radians(origin.latitude))
  return ([east, north]) => [
    origin.longitude + (east * cos + north * sin) / wide,
    origin.latitude + (north * cos - east * sin) / DEGREE,
  ]
}

/** What a camera at `place` looks at: an outline on the ground, `reach` metres far. Degrees clockwise from north. */
export function cone(place: Place, direction: number, view: number, reach: number): Place[] {
  const steps = Math.max(2, Math.ceil(view / 8))
  const arc = Array.from({ length: steps + 1 }, (_, i) => ahead(place, direction - view / 2 + (view * i) / steps, reach))
  return view >= 360 ? arc : [place, ...arc, place]
}
/** What a calibrated camera shows of the floor, as far as a cone would be drawn. */
export function shownFloor(place: Place, footprint: Place[], reach: number): Place[] {
  const near = footprint.map(([east, north]): Place => {
    const part = Math.min(1, reach / Math.max(Math.hypot(east - place[0], north - place[1]), 0.01))
    return [place[0] + (east - place[0]) * part, place[1] + (north - place[1]) * part]
  })
  return near[0] ? [...near, near[0]] : []
}
/** How many metres a view cone is drawn on a plan. */
export function reachOn(plan: { east: number; west: number; north: number; south: number } | null): number {
  const [w, h] = plan ? [plan.east - plan.west, plan.north - plan.south] : [40, 25]
  return Math.min(12, Math.max(2, Math.min(w, h) / 4))
}
export function ahead([east, north]: Place, direction: number, metres: number): Place {
  return [east + metres * Math.sin(radians(direction)), north + metres * Math.cos(radians(direction))]
}

/** Where the floor's point under (x, y) of a picture (0..1) lies; null: at or above the horizon. */
export function landed(matrix: readonly number[], [x, y]: readonly [number, number]): Place | null {
  const row = (i: number): number => (matrix[i] ?? 0) * x + (matrix[i + 1] ?? 0) * y + (matrix[i + 2] ?? 0)
  const depth = row(6)
  return depth > 1e-6 ? [row(0) / depth, row(3) / depth] : null
}

/** A part of a route: seen, or concluded from what was seen before and after. */
export interface Stretch {
  kind: 'observed' | 'inferred'
  start: number // µs UTC
  end: number
  path: [...Place, at: number][] // in order of time
  camera: string // that saw it; empty: a phone, or nobody
  state: string
  probability: number | null // that both ends are the same person
}
export interface Route {
  id: string
  start: number
  end: number
  stretches: Stretch[]
}

type Leg = {
  number: number; camera: string; start: number; end: number; place: Place | null; state: string
  path?: { at: number; place: number[] }[] // where in the camera's view they walked, where it is calibrated
}
type Gap = { after: number; start: number; end: number; probability: number }

/** Of somebody whom cameras saw; `spot`: where in front of a camera somebody is drawn. */
export function routeOf(id: string, legs: Leg[], gaps: Gap[], spot: (camera: string, place: Place) => Place): Route {
  const ways = new Map(legs.map((leg): [number, Stretch['path']] => {
    const walked = (leg.path ?? []).map(({ at, place }): [number, number, number] => [place[0] ?? 0, place[1] ?? 0, at])
    const [first, last] = [walked[0], walked.at(-1)]
    if (first && last) return [leg.number, [[first[0], first[1], leg.start], ...walked, [last[0], last[1], leg.end]]]
    const at = leg.place && spot(leg.camera, leg.place)
    return [leg.number, at ? [[...at, leg.start], [...at, leg.end]] : []]
  }))
  const stretches: Stretch[] = []
  for (const leg of legs) {
    stretches.push({
      kind: 'observed', start: leg.start, end: leg.end, camera: leg.camera, state: leg.state, probability: null,
      path: ways.get(leg.number) ?? [],
    })
  }
  for (const gap of gaps) {
    const place = (point?: [number, number, number]): Place | undefined => point && [point[0], point[1]]
    const [from, to] = [place(ways.get(gap.after)?.at(-1)), place(ways.get(gap.after + 1)?.[0])]
    stretches.push({
      kind: 'inferred', start: gap.start, end: gap.end, camera: '', state: '', probability: gap.probability,
      path: from && to ? [[...from, gap.start], [...to, gap.end]] : [],
    })
  }
  return routed(id, stretches)
}

/** Of an inspection: what a phone knew on the plan, one list a stretch without silence. */
export function routeOfRound(id: string, legs: [number, number, number][][]): Route {
  const walked = legs.filter((leg) => leg.length)
  const stretches: Stretch[] = walked.map((leg) => part('observed', leg))
  walked.forEach((leg, i) => {
    const before = walked[i - 1]?.at(-1)
    if (before && leg[0]) stretches.push(part('inferred', [before, leg[0]]))
  })
  return routed(id, stretches)
}
function part(kind: Stretch['kind'], path: [number, number, number][]): Stretch {
  return { kind, start: path[0]?.[2] ?? 0, end: path.at(-1)?.[2] ?? 0, path, camera: '', state: '', probability: null }
}
function routed(id: string, stretches: Stretch[]): Route {
  stretches.sort((a, b) => a.start - b.start || a.end - b.end)
  return { id, stretches, start: Math.min(...stretches.map((one) => one.start)), end: Math.max(...stretches.map((one) => one.end)) }
}

/** Where somebody was at a time: in a stretch that was seen before one that was concluded. */
export function whereAt(route: Route, at: number): { place: Place; stretch: Stretch } | null {
  const held = route.stretches.filter((one) => one.path.length && one.start <= at && at <= one.end)
  const stretch = held.find((one) => one.kind === 'observed') ?? held[0]
  if (!stretch) return null
  const after = stretch.path.findIndex((point) => point[2] >= at)
  const [a, b] = [stretch.path[Math.max(0, after - 1)], stretch.path[Math.max(0, after)]]
  if (!a || !b) return null
  const part = b[2] > a[2] ? Math.min(1, Math.max(0, (at - a[2]) / (b[2] - a[2]))) : 1
  return { place: [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part], stretch }
}

/** Where the label of what looks towards `angle` (degrees clockwise from up on the screen) stands: behind it, `gap` px away. */
export function labelled(angle: number | null, gap: number): { anchor: 'top' | 'right' | 'bottom' | 'left'; offset: [number, number] } {
  const quarter = angle === null ? 0 : Math.round((((angle % 360) + 360) % 360) / 90) % 4
  return ([
    { anchor: 'top', offset: [0, gap] }, { anchor: 'right', offset: [-gap, 0] }, { anchor: 'bottom', offset: [0, -gap] }, { anchor: 'left', offset: [gap, 0] },
  ] as const)[quarter] as ReturnType<typeof labelled>
}

type Box = Pick<DOMRectReadOnly, 'left' | 'right' | 'top' | 'bottom'>
/** Which of these boxes, the more important ones first, lie over one that stays. */
export function covering(boxes: readonly Box[]): boolean[] {
  const kept: Box[] = []
  return boxes.map((one) => {
    const over = kept.some((other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom)
    if (!over) kept.push(one)
    return over
  })
}

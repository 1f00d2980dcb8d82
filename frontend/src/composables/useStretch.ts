// Stretches of time by name, counted from now or from midnight where the cameras are.
export const RANGES = ['hour', 'today', 'day', 'week', 'month'] as const
export type Range = (typeof RANGES)[number]
export interface Stretch {
  since: number // µs UTC
  until: number
}

const SECONDS: Record<Exclude<Range, 'today'>, number> = { hour: 3_600, day: 86_400, week: 7 * 86_400, month: 30 * 86_400 }

export const viewerZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'

/** When the day of `now` (ms) began in a time zone, ms. */
export function midnight(zone: string, now = Date.now()): number {
  const parts = new Intl.DateTimeFormat('en-US', { timeZone: zone, hourCycle: 'h23', hour: 'numeric', minute: 'numeric', second: 'numeric' }).formatToParts(now)
  const part = (type: string): number => Number(parts.find((one) => one.type === type)?.value ?? 0)
  // by the wall clock: on the two days a year on which clocks are put on or back, an hour off at most
  return Math.floor(now / 1_000) * 1_000 - (part('hour') * 3_600 + part('minute') * 60 + part('second')) * 1_000
}

export function stretch(range: Range, zone: string, now = Date.now()): Stretch {
  const since = range === 'today' ? midnight(zone, now) : now - SECONDS[range] * 1_000
  // at midnight itself a day has no length yet
  return { since: Math.min(since, now - 60_000) * 1_000, until: now * 1_000 }
}

// Stretches of time by name, counted from now or from midnight where the cameras are.
import { midnight } from '@/wall'

export const RANGES = ['hour', 'today', 'day', 'week', 'month'] as const
export type Range = (typeof RANGES)[number]
export interface Stretch {
  since: number // µs UTC
  until: number
}

const SECONDS: Record<Exclude<Range, 'today'>, number> = { hour: 3_600, day: 86_400, week: 7 * 86_400, month: 30 * 86_400 }

export const viewerZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'

export function stretch(range: Range, zone: string, now = Date.now()): Stretch {
  const since = range === 'today' ? midnight(now, zone) : now - SECONDS[range] * 1_000
  // at midnight itself a day has no length yet
  return { since: Math.min(since, now - 60_000) * 1_000, until: now * 1_000 }
}

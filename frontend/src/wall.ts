// Clocks on the wall of a site. A date picker knows the clock of this browser alone: what the site's clock shows is given to
// it, and taken from it, as a date whose own fields say the same.
interface Fields {
  year: number
  month: number // from 1
  day: number
  hour: number
  minute: number
  second: number
}

const clocks = new Map<string, Intl.DateTimeFormat>()
function clock(zone: string): Intl.DateTimeFormat {
  let found = clocks.get(zone)
  if (!found) {
    found = new Intl.DateTimeFormat('en-US', {
      timeZone: zone, hourCycle: 'h23', era: 'short', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric',
    })
    clocks.set(zone, found)
  }
  return found
}

/** What a clock in a time zone shows at `ms`. */
function shown(ms: number, zone: string): Fields {
  const parts = new Map(clock(zone).formatToParts(ms).map(({ type, value }) => [type, value]))
  const of = (name: keyof Fields): number => Number(parts.get(name) ?? 0)
  return { year: of('year'), month: of('month'), day: of('day'), hour: of('hour'), minute: of('minute'), second: of('second') }
}
const utc = (at: Fields): number => Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second)

/** When a clock in a time zone shows this, ms. In the hour that a change of clocks leaves out: as if it had not. */
function when(at: Fields, zone: string): number {
  const ahead = (ms: number): number => utc(shown(ms, zone)) - Math.floor(ms / 1_000) * 1_000
  const first = utc(at) - ahead(utc(at))
  return utc(at) - ahead(first)
}

/** A date of this browser that shows what the clock in `zone` shows at `ms`. */
export function wallAt(ms: number, zone: string): Date {
  const { year, month, day, hour, minute, second } = shown(ms, zone)
  return new Date(year, month - 1, day, hour, minute, second)
}

/** When the clock in `zone` shows what `date` shows here, ms. */
export function fromWall(date: Date, zone: string): number {
  return when({
    year: date.getFullYear(), month: date.getMonth() + 1, day: date.getDate(), hour: date.getHours(), minute: date.getMinutes(), second: date.getSeconds(),
  }, zone)
}

/** When the day of `ms` began in `zone`. */
export function midnight(ms: number, zone: string): number {
  return when({ ...shown(ms, zone), hour: 0, minute: 0, second: 0 }, zone)
}

// Times, numbers and shares as the viewer's language writes them. Times of the stream are µs since 1970, UTC.
import { useI18n } from 'vue-i18n'

import { usePlace } from './usePlace'

export type When = number | string | null | undefined // µs, or ISO 8601

/** As milliseconds since 1970; null when there is none. */
export function millis(when: When): number | null {
  if (when === null || when === undefined || when === '' || when === 0) return null
  return typeof when === 'number' ? when / 1_000 : Date.parse(when)
}
/** µs as the API has them where it wants ISO 8601. */
export const iso = (when: number): string => new Date(when / 1_000).toISOString()
export const micros = (date: Date | number): number => Math.round(Number(date) * 1_000)

// what writes is slow to make and asked for by every row of every list
const writers = new Map<string, unknown>()
function made<Options, Writer>(kind: new (locale: string, options: Options) => Writer, locale: string, options: Options): Writer {
  const key = `${kind.name} ${locale} ${JSON.stringify(options)}`
  if (!writers.has(key)) writers.set(key, new kind(locale, options))
  return writers.get(key) as Writer
}

export function useFormat() {
  const { locale, t } = useI18n()
  const place = usePlace()
  const written = (when: When, options: Intl.DateTimeFormatOptions): string => {
    const ms = millis(when)
    return ms === null ? '–' : made(Intl.DateTimeFormat, locale.value, { timeZone: place.zone, hourCycle: 'h23', ...options }).format(ms)
  }
  const listed = (type: 'conjunction' | 'disjunction') => (words: readonly string[]): string =>
    made(Intl.ListFormat, locale.value, { type, style: type === 'conjunction' ? 'narrow' : 'long' }).format(words)
  return {
    /** a, b, c */
    joined: listed('conjunction'),
    /** a, b or c */
    either: listed('disjunction'),
    /** 23 Nov, 14:05:09 */
    moment: (when: When) =>
      written(when, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' }),
    /** 14:05:09 */
    clock: (when: When) => written(when, { hour: '2-digit', minute: '2-digit', second: '2-digit' }),
    /** 14:05 */
    minute: (when: When) => written(when, { hour: '2-digit', minute: '2-digit' }),
    /** 11-23 */
    date: (when: When) => written(when, { month: '2-digit', day: '2-digit' }),
    /** 2026-11-23 */
    day: (when: When) => written(when, { year: 'numeric', month: '2-digit', day: '2-digit' }),
    /** 1,234 */
    count: (value: number | null | undefined) => (value == null ? '–' : made(Intl.NumberFormat, locale.value, {}).format(value)),
    /** 0.934 -> 93.4 % */
    share: (value: number | null | undefined, digits = 1) =>
      value == null || Number.isNaN(value)
        ? '–'
        : made(Intl.NumberFormat, locale.value, { style: 'percent', maximumFractionDigits: digits }).format(value),
    /** seconds -> 1 h 02 min, 2 min 05 s, 4.2 s */
    span: (seconds: number | null | undefined) => {
      if (seconds == null) return '–'
      if (seconds >= 3_600) return t('common.hours', { h: Math.floor(seconds / 3_600), m: Math.floor((seconds % 3_600) / 60) })
      if (seconds >= 60) return t('common.minutes', { m: Math.floor(seconds / 60), s: Math.floor(seconds % 60) })
      return t('common.seconds', { s: seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds) })
    },
  }
}

// Times, numbers and shares as the viewer's language writes them. Times of the stream are µs since 1970, UTC.
import { useI18n } from 'vue-i18n'

import { usePlace } from './usePlace'

export type When = number | string | null | undefined // µs, or ISO 8601

/** As milliseconds since 1970; null when there is none. */
export function millis(when: When): number | null {
  if (when === null || when === undefined || when === '' || when === 0) return null
  return typeof when === 'number' ? when / 1_000 : Date.parse(when)
}
export const micros = (date: Date | number): number => Math.round(Number(date) * 1_000)

export function useFormat() {
  const { locale, t } = useI18n()
  const place = usePlace()
  // a site's clock is the one its people read; without a chosen site, the viewer's own
  const zone = (): string | undefined => place.current?.time_zone || undefined
  const written = (when: When, options: Intl.DateTimeFormatOptions): string => {
    const ms = millis(when)
    return ms === null ? '–' : new Intl.DateTimeFormat(locale.value, { timeZone: zone(), hour12: false, ...options }).format(ms)
  }
  return {
    /** 23 Nov, 14:05:09 */
    moment: (when: When) =>
      written(when, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' }),
    /** 14:05:09 */
    clock: (when: When) => written(when, { hour: '2-digit', minute: '2-digit', second: '2-digit' }),
    /** 2026-11-23 */
    day: (when: When) => written(when, { year: 'numeric', month: '2-digit', day: '2-digit' }),
    /** 1,234 */
    count: (value: number | null | undefined) => (value == null ? '–' : new Intl.NumberFormat(locale.value).format(value)),
    /** 0.934 -> 93.4 % */
    share: (value: number | null | undefined, digits = 1) =>
      value == null || Number.isNaN(value)
        ? '–'
        : new Intl.NumberFormat(locale.value, { style: 'percent', maximumFractionDigits: digits }).format(value),
    /** seconds -> 1 h 02 min, 2 min 05 s, 4.2 s */
    span: (seconds: number | null | undefined) => {
      if (seconds == null) return '–'
      if (seconds >= 3_600) return t('common.hours', { h: Math.floor(seconds / 3_600), m: Math.floor((seconds % 3_600) / 60) })
      if (seconds >= 60) return t('common.minutes', { m: Math.floor(seconds / 60), s: Math.floor(seconds % 60) })
      return t('common.seconds', { s: seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds) })
    },
  }
}

import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import { iso, micros, millis, useFormat } from './useFormat'
import { loggedIn, serve, within } from '@/testing'

const AT = Date.UTC(2026, 10, 23, 16, 0, 9) * 1_000 // midnight in Shanghai

async function format(language: 'en' | 'zh-CN') {
  localStorage.clear()
  serve({ 'GET /v1/sites': { items: [{ id: 'a', name: 'Hall', time_zone: 'Asia/Shanghai' }], next: null } })
  loggedIn(['cameras.view'])
  const given = within(() => useFormat(), { language, site: 'a' })
  await flushPromises()
  return given
}

it('writes times by the clock of the chosen site, midnight as 00', async () => {
  const { clock, minute, date, day, moment } = await format('en')
  expect([clock(AT), minute(AT), date(AT), day(AT)]).toEqual(['00:00:09', '00:00', '11/24', '11/24/2026'])
  expect(moment(AT)).toBe('Nov 24, 00:00:09')
  expect(clock(iso(AT))).toBe('00:00:09')
  expect([clock(null), clock(0), clock('')]).toEqual(['–', '–', '–'])
})

it('writes lists, numbers and spans as the language does', async () => {
  const english = await format('en')
  expect([english.joined(['a', 'b', 'c']), english.either(['a', 'b', 'c']), english.joined([])]).toEqual(['a, b, c', 'a, b, or c', ''])
  expect([english.count(12_345), english.share(0.9341), english.share(null), english.count(undefined), english.share(Number.NaN)]).toEqual(['12,345', '93.4%', '–', '–', '–'])
  expect([english.span(3_725), english.span(65), english.span(4.24), english.span(null)]).toEqual(['1 h 2 min', '1 min 5 s', '4.2 s', '–'])
  english.gone()
  const chinese = await format('zh-CN')
  expect([chinese.joined(['甲', '乙', '丙']), chinese.either(['甲', '乙'])]).toEqual(['甲、乙、丙', '甲或乙'])
  expect(chinese.span(3_725)).toBe('1 小时 2 分')
  expect(chinese.moment(AT)).toBe('11月24日 00:00:09')
})

it('takes microseconds and ISO 8601 for the same', () => {
  expect([millis(AT), millis('2026-11-23T16:00:09Z'), micros(AT / 1_000), iso(AT)]).toEqual([AT / 1_000, AT / 1_000, AT, '2026-11-23T16:00:09.000Z'])
})

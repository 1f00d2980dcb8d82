import { afterEach, beforeEach, expect, it, vi } from 'vitest'

import { shown } from '@/testing'

import RoutePlayer from './RoutePlayer.vue'

const S = 1e6
const START = 1_800_000_000 * S
let frame: ((now: number) => void) | undefined
beforeEach(() => {
  vi.stubGlobal('requestAnimationFrame', (step: (now: number) => void) => ((frame = step), 1))
  vi.stubGlobal('cancelAnimationFrame', () => (frame = undefined))
})
afterEach(() => vi.unstubAllGlobals())

function player(seconds: number, at: number) {
  const told: number[] = []
  const page = shown(RoutePlayer, {
    props: { start: START, end: START + seconds * S, modelValue: START + at * S, 'onUpdate:modelValue': (value: number) => (told.push((value - START) / S), void page.setProps({ modelValue: value })) },
  })
  const tick = async (now: number): Promise<void> => {
    frame?.(now)
    await page.vm.$nextTick()
  }
  return { page, told, tick }
}

it('plays a route of minutes in about twenty seconds, and stops at its end', async () => {
  const { page, told, tick } = player(100, 100)
  await page.get('[data-test=play]').trigger('click') // at the end: from the beginning
  await tick(1_000)
  await tick(2_000) // a second later
  expect(told).toEqual([0, 5])
  await tick(60_000)
  expect(told.at(-1)).toBe(100)
  await tick(60_016) // it is told where it is by whoever shows it
  expect(page.get('[data-test=play]').attributes('aria-label')).toBe('Play')
  expect(told.at(-1)).toBe(100)
})

it('stops when its slider is moved', async () => {
  const { page, told } = player(60, 0)
  await page.get('[data-test=play]').trigger('click')
  await page.get('[data-test=route-slider]').setValue('30')
  expect(told.at(-1)).toBe(30)
  expect(frame).toBeUndefined()
})

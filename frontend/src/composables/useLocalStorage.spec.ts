import { beforeEach, expect, it, vi } from 'vitest'
import { nextTick } from 'vue'

import { useLocalStorage } from './useLocalStorage'

const isNumber = (value: unknown): boolean => typeof value === 'number'
beforeEach(() => localStorage.clear())

it('remembers, and takes from the browser only what makes sense', async () => {
  const rows = useLocalStorage<number>('rows', 50, isNumber)
  rows.value = 100
  await nextTick()
  expect(useLocalStorage<number>('rows', 50, isNumber).value).toBe(100)
  for (const bad of ['"many"', 'no JSON', 'null', '']) {
    localStorage.setItem('rows', bad)
    expect(useLocalStorage<number>('rows', 50, isNumber).value).toBe(50)
  }
})

it('sees a change inside a value, and remembers nothing under no name', async () => {
  const shows = useLocalStorage('shows', { heat: true }, (value) => typeof value === 'object')
  shows.value.heat = false
  await nextTick()
  expect(localStorage.getItem('shows')).toBe('{"heat":false}')
  const none = useLocalStorage('', 1, isNumber)
  none.value = 2
  await nextTick()
  expect(localStorage.length).toBe(1)
})

it('lasts as long as the page where the browser refuses', async () => {
  vi.stubGlobal('localStorage', { getItem: () => { throw new Error('no') }, setItem: () => { throw new Error('no') } })
  const rows = useLocalStorage<number>('rows', 50, isNumber)
  rows.value = 25
  await nextTick()
  expect(rows.value).toBe(25)
})

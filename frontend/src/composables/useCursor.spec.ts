import { flushPromises } from '@vue/test-utils'
import { QueryClient } from '@tanstack/vue-query'
import { beforeEach, expect, it, vi } from 'vitest'
import { computed, ref } from 'vue'

import { everyPage, useCursor } from './useCursor'
import { within } from '@/testing'

/** 100,000 rows, the newest first; the cursor is the number of the last one. */
const ALL = 100_000
let asked: string[] = []
let broken = false
let added = 0
async function page(cursor: string | undefined, limit: number): Promise<{ items: number[]; next: string | null }> {
  asked.push(`${cursor ?? ''}/${limit}`)
  if (broken) throw new Error('refused')
  const from = cursor === undefined ? -added : Number(cursor) + 1
  const items = Array.from({ length: Math.max(0, Math.min(limit, ALL - from)) }, (_, i) => from + i)
  const last = items.at(-1)
  return { items, next: last !== undefined && last < ALL - 1 ? String(last) : null }
}
beforeEach(() => {
  localStorage.clear()
  asked = []
  broken = false
  added = 0
})
const client = (): QueryClient => new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: 15_000 } } })

it('holds one page of 100,000 rows however far one goes, and makes old that one alone', async () => {
  const queries = client()
  const list = within(() => useCursor<number>(computed(() => ['rows']), page), { queries })
  await flushPromises()
  expect([list.items.value.length, list.items.value[0], list.number.value]).toEqual([50, 0, 1])
  for (let i = 0; i < 60; i++) expect(await list.more()).toBe(true)
  await flushPromises()
  expect([list.items.value.length, list.items.value[0], list.number.value]).toEqual([50, 3_000, 61])
  expect(asked).toHaveLength(61) // each page once
  await queries.invalidateQueries({ queryKey: ['rows'] })
  expect(asked.slice(61)).toEqual(['2999/50'])
  list.less()
  await flushPromises()
  expect(list.items.value[0]).toBe(2_950)
  list.first()
  await flushPromises()
  expect([list.number.value, list.items.value[0]]).toEqual([1, 0])
})

it('forgets pages that one has left', async () => {
  vi.useFakeTimers()
  try {
    const queries = client()
    const list = within(() => useCursor<number>(computed(() => ['rows']), page), { queries })
    await vi.advanceTimersByTimeAsync(10)
    for (let i = 0; i < 30; i++) await list.more()
    expect(queries.getQueryCache().getAll().length).toBeGreaterThan(30)
    await vi.advanceTimersByTimeAsync(120_000)
    expect(queries.getQueryCache().getAll()).toHaveLength(1)
  } finally {
    vi.useRealTimers()
  }
})

it('keeps the rows when the next page cannot be had, and says so', async () => {
  const list = within(() => useCursor<number>(computed(() => ['rows']), page))
  await flushPromises()
  broken = true
  expect(await list.more()).toBe(false)
  expect([list.items.value.length, list.number.value, (list.turnError.value as Error).message]).toEqual([50, 1, 'refused'])
  broken = false
  expect(await list.more()).toBe(true)
  await flushPromises()
  expect([list.items.value[0], list.turnError.value]).toEqual([50, null])
})

it('begins with the first page when another list, or pages of another size, are asked for', async () => {
  const filter = ref('a')
  const list = within(() => useCursor<number>(computed(() => ['rows', filter.value]), page))
  await flushPromises()
  await list.more()
  await list.more()
  filter.value = 'b'
  await flushPromises()
  expect([list.number.value, list.items.value[0]]).toEqual([1, 0])
  await list.more()
  if (list.size) list.size.value = 100
  await flushPromises()
  expect([list.number.value, list.items.value.length]).toEqual([1, 100])
  if (list.size) list.size.value = 50
})

it('shows what is new on the first page alone', async () => {
  const queries = client()
  const list = within(() => useCursor<number>(computed(() => ['rows']), page), { queries })
  await flushPromises()
  await list.more()
  await flushPromises()
  added = 3
  await queries.invalidateQueries({ queryKey: ['rows'] })
  expect(list.items.value[0]).toBe(50) // what one reads stays where it is
  list.first()
  await flushPromises()
  expect(list.items.value[0]).toBe(-3)
})

it('goes a page back when the last one is empty now', async () => {
  let rows = 51
  const few = async (cursor: string | undefined) => (cursor ? { items: rows > 50 ? [50] : [], next: null } : { items: Array.from({ length: 50 }, (_, i) => i), next: rows > 50 ? '49' : null })
  const queries = client()
  const list = within(() => useCursor<number>(computed(() => ['rows']), few), { queries })
  await flushPromises()
  await list.more()
  await flushPromises()
  expect([list.number.value, list.items.value]).toEqual([2, [50]])
  rows = 50
  await queries.invalidateQueries({ queryKey: ['rows'] })
  await flushPromises()
  expect([list.number.value, list.items.value.length]).toEqual([1, 50])
})

it('asks for all of a short list page by page', async () => {
  let calls = 0
  const all = await everyPage(async (cursor: string | undefined) => ({ items: [calls++], next: cursor === '2' ? null : String(Number(cursor ?? 0) + 1) }))
  expect(all).toEqual([0, 1, 2])
})

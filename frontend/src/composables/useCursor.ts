// A list that the API gives a page at a time. One page is held and shown, however long the list: what the live feed makes
// old is that page alone.
import { hashKey, type QueryKey, useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, ref, type Ref, toValue, watch } from 'vue'

import { useLocalStorage } from './useLocalStorage'

export interface Page<T> {
  items: T[]
  next?: string | null
}
export const SIZES = [25, 50, 100, 200]
const size = useLocalStorage<number>('maskwatch.rows', 50, (value) => SIZES.includes(Number(value)))
const KEPT = 60_000 // ms that a page one has left is kept

export type Cursor<T> = ReturnType<typeof useCursor<T>>

/** `page` asks for `limit` items after a cursor; with `fixed` always so many, else as many as the viewer wants. */
export function useCursor<T>(
  key: Ref<QueryKey>, page: (cursor: string | undefined, limit: number) => Promise<Page<T>>, enabled: MaybeRefOrGetter<boolean> = true, fixed = 0,
  often: number | false = false, // ms, after which the page that is shown is asked for again
) {
  const queries = useQueryClient()
  const limit = computed(() => fixed || size.value)
  const name = computed(() => hashKey([...key.value, limit.value]))
  // the cursors of the pages one came by; of another list, or of pages of another size, one begins with the first
  const way = ref<{ of: string; cursors: string[] }>({ of: '', cursors: [] })
  const cursors = computed(() => (way.value.of === name.value ? way.value.cursors : []))
  const asking = (cursor: string | undefined) => ({
    queryKey: [...key.value, { limit: limit.value, cursor: cursor ?? '' }],
    queryFn: () => page(cursor, limit.value),
    gcTime: KEPT,
  })
  const query = useQuery(computed(() => ({
    ...asking(cursors.value.at(-1)),
    enabled: toValue(enabled),
    refetchInterval: often,
    // while a page is turned what was there stays; when another list is asked for it goes
    placeholderData: (before: Page<T> | undefined, of?: { queryKey: QueryKey }) =>
      of && hashKey(of.queryKey.slice(0, -1)) === hashKey(key.value) ? before : undefined,
  })))
  const items = computed<T[]>(() => query.data.value?.items ?? [])

  const turning = ref(false)
  const turnError = ref<unknown>(null)
  watch(name, () => (turnError.value = null))
  /** The next page; the one that is shown stays until it is there, also when it cannot be had. True: it is there. */
  async function more(): Promise<boolean> {
    const next = query.data.value?.next
    if (!next || turning.value) return false
    const of = name.value
    turning.value = true
    turnError.value = null
    try {
      await queries.fetchQuery(asking(next))
      if (of !== name.value) return false // another list is asked for meanwhile
      way.value = { of, cursors: [...cursors.value, next] }
      return true
    } catch (error) {
      if (of === name.value) turnError.value = error
      return false
    } finally {
      turning.value = false
    }
  }
  function less(): void {
    turnError.value = null
    way.value = { of: name.value, cursors: cursors.value.slice(0, -1) }
  }
  // somebody removed the last of a page: the one before is the end now
  watch(() => query.isSuccess.value && !query.isPlaceholderData.value && !query.isFetching.value && !items.value.length && cursors.value.length > 0,
    (beyond) => beyond && less())

  return {
    items,
    loading: query.isLoading,
    error: query.error,
    dataUpdatedAt: query.dataUpdatedAt,
    again: () => void query.refetch(),
    /** Of the page that is shown, from 1. */
    number: computed(() => cursors.value.length + 1),
    hasMore: computed(() => !!query.data.value?.next),
    size: fixed ? null : size,
    turning,
    turnError,
    more,
    less,
    first: (): void => void (way.value = { of: name.value, cursors: [] }),
  }
}

/** All of a list, for those that are never long: names, floor plans, rounds. */
export async function everyPage<T>(page: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const all: T[] = []
  let cursor: string | undefined
  do {
    const some = await page(cursor)
    all.push(...some.items)
    cursor = some.next ?? undefined
  } while (cursor)
  return all
}

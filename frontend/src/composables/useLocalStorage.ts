// A ref that this browser remembers; what it finds there is checked, because anybody can write to it.
import { ref, watch, type Ref } from 'vue'

import { keep, kept } from '@/kept'

/** An empty key remembers nothing. */
export function useLocalStorage<T>(key: string, first: T, good: (value: unknown) => boolean): Ref<T> {
  const state = ref(read(key, first, good)) as Ref<T>
  if (key) watch(state, (value) => keep(key, JSON.stringify(value)), { deep: true }) // refused: it lasts as long as the page
  return state
}

function read<T>(key: string, first: T, good: (value: unknown) => boolean): T {
  if (!key) return first
  try {
    const value: unknown = JSON.parse(kept(key) ?? 'null')
    return value !== null && good(value) ? (value as T) : first
  } catch {
    return first
  }
}

// A ref that this browser remembers; what it finds there is checked, because anybody can write to it.
import { ref, watch, type Ref } from 'vue'

/** An empty key remembers nothing. */
export function useLocalStorage<T>(key: string, first: T, good: (value: unknown) => boolean): Ref<T> {
  const state = ref(read(key, first, good)) as Ref<T>
  if (key) {
    watch(state, (value) => {
      try {
        localStorage.setItem(key, JSON.stringify(value))
      } catch {
        // private windows refuse; the choice then lasts as long as the page
      }
    }, { deep: true })
  }
  return state
}

function read<T>(key: string, first: T, good: (value: unknown) => boolean): T {
  if (!key) return first
  try {
    const value: unknown = JSON.parse(localStorage.getItem(key) ?? 'null')
    return value !== null && good(value) ? (value as T) : first
  } catch {
    return first
  }
}

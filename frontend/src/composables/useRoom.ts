// How much room an element has, in px of the usual letter (style.css), as it changes.
import { onBeforeUnmount, ref, type ShallowRef, watch } from 'vue'

import { useScale } from './useScale'

export function useRoom(element: Readonly<ShallowRef<HTMLElement | null>>) {
  const letter = useScale()
  const room = ref({ width: 0, height: 0 })
  const watcher = new ResizeObserver(([entry]) => {
    if (entry) room.value = { width: entry.contentRect.width / letter.value, height: entry.contentRect.height / letter.value }
  })
  watch(element, (now, before) => {
    if (before) watcher.unobserve(before)
    if (now) watcher.observe(now)
  }, { immediate: true })
  onBeforeUnmount(() => watcher.disconnect())
  return room
}

// A page on a wall: `?wall` in the address takes the frame away and fills the screen; Escape brings it back.
import { computed, onBeforeUnmount, onMounted, ref, watch } from 'vue'
import { useRoute, useRouter } from 'vue-router'

import { useTheme } from './useTheme'

const IDLE = 3_000 // ms without the mouse after which it is not shown

export function useWall() {
  const route = useRoute()
  const router = useRouter()
  const root = document.documentElement
  const here = route.name
  const wall = computed(() => route.name === here && route.query.wall !== undefined)
  const { walled } = useTheme()
  watch(wall, (on) => {
    walled.value = on
    root.classList.toggle('on-wall', on)
  }, { immediate: true })

  async function show(): Promise<void> {
    await router.replace({ query: { ...route.query, wall: '1' } })
    await root.requestFullscreen?.().catch(() => undefined) // refused: it still fills the window
  }
  async function leave(): Promise<void> {
    if (document.fullscreenElement) await document.exitFullscreen().catch(() => undefined)
    const { wall: _, ...rest } = route.query
    await router.replace({ query: rest })
  }
  const left = (): void => void (!document.fullscreenElement && wall.value && leave())
  const escape = (event: KeyboardEvent): void => void (event.key === 'Escape' && !event.defaultPrevented && wall.value && leave())

  // a wall has no hand on the mouse
  const idle = ref(false)
  let timer: ReturnType<typeof setTimeout> | undefined
  function moved(): void {
    idle.value = false
    clearTimeout(timer)
    timer = setTimeout(() => (idle.value = true), IDLE)
  }
  watch(() => wall.value && idle.value, (on) => root.classList.toggle('idle', on))

  onMounted(() => {
    document.addEventListener('fullscreenchange', left)
    document.addEventListener('keydown', escape)
    document.addEventListener('pointermove', moved)
    moved()
  })
  onBeforeUnmount(() => {
    document.removeEventListener('fullscreenchange', left)
    document.removeEventListener('keydown', escape)
    document.removeEventListener('pointermove', moved)
    clearTimeout(timer)
    walled.value = false
    root.classList.remove('on-wall', 'idle')
    if (document.fullscreenElement) void document.exitFullscreen()
  })
  return { wall, show, leave }
}

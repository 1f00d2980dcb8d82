// Dark or light: the viewer's choice, else the system's; on a wall always dark, it is looked at from afar all day.
import { computed, ref, watchEffect } from 'vue'

import { useLocalStorage } from './useLocalStorage'

export type Theme = 'dark' | 'light' | 'system'
const THEMES: unknown[] = ['dark', 'light', 'system']
const choice = useLocalStorage<Theme>('maskwatch.theme', 'system', (value) => THEMES.includes(value))
const media = globalThis.matchMedia?.('(prefers-color-scheme: dark)')
const system = ref(media?.matches ?? false)
media?.addEventListener('change', (event) => (system.value = event.matches))
const walled = ref(false)
const dark = computed(() => walled.value || (choice.value === 'system' ? system.value : choice.value === 'dark'))

export const useTheme = () => ({ choice, dark, walled })

/** Keeps the page in it. Once for the page. */
export function followTheme(): void {
  watchEffect(() => document.documentElement.classList.toggle('dark', dark.value))
}

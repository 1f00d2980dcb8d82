// Keyboard shortcuts of a page: single keys, never while somebody types or a dialog is open.
import { onBeforeUnmount, onMounted } from 'vue'

/** True when the key belongs to what has the focus. */
export function typing(event: KeyboardEvent): boolean {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return true
  const at = event.target
  if (!(at instanceof HTMLElement)) return false
  if (at.isContentEditable || at.matches('textarea, select, [role="combobox"], [role="textbox"], [role="listbox"]')) return true
  // a box to tick takes no letters
  return at instanceof HTMLInputElement && !['checkbox', 'radio', 'button', 'submit'].includes(at.type)
}

export function useKeys(keys: Record<string, () => void>): void {
  function press(event: KeyboardEvent): void {
    const act = keys[event.key]
    if (!act || event.defaultPrevented || event.repeat && event.key !== 'j' && event.key !== 'k' || typing(event)) return
    if ([...document.querySelectorAll('[role="dialog"]')].some((dialog) => dialog.getClientRects().length > 0)) return
    event.preventDefault()
    act()
  }
  onMounted(() => document.addEventListener('keydown', press))
  onBeforeUnmount(() => document.removeEventListener('keydown', press))
}

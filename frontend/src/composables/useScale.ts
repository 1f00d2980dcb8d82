// How large the page's letter is against a browser's usual one: what is drawn on a canvas follows it (style.css).
import { readonly, ref } from 'vue'

const scale = ref(1)
let probe: HTMLElement | undefined

export function useScale() {
  if (!probe) {
    probe = document.createElement('div')
    probe.style.cssText = 'position: absolute; width: 1rem; height: 0; visibility: hidden; pointer-events: none'
    probe.ariaHidden = 'true'
    document.body.append(probe)
    const measured = probe
    const measure = (): void => void (scale.value = measured.getBoundingClientRect().width / 16 || 1)
    new ResizeObserver(measure).observe(measured)
    measure()
  }
  return readonly(scale)
}

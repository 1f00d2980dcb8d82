// A page that stays open while the dashboard is replaced: parts of the old one are gone from the server. Then it is loaded
// anew, once; what helps as little is said. A server that does not answer at all is waited for: loading anew meanwhile
// would leave a browser's own page of faults, from which nothing comes back.
import type { Router } from 'vue-router'

import { keep, kept } from './kept'

const KEY = 'maskwatch.renewed' // ms, of this tab
const AGAIN = 60_000 // ms in which a second time would not help either
const ASK = 2_000 // ms between two questions to a server that does not answer

/** A part of the page could not be fetched, whoever asked for it; browsers say so each in words of their own. */
export const isMissingPart = (error: unknown): boolean =>
  error instanceof Error && /dynamically imported module|module script failed|preload CSS|Failed to fetch module/i.test(error.message)

/** False: it was loaded anew just now. */
export function renew(to: string, go: (to: string) => void = (address) => location.assign(address)): boolean {
  const last = Number(kept(KEY, 'sessionStorage') ?? 0)
  if (Date.now() - last < AGAIN || !keep(KEY, String(Date.now()), 'sessionStorage')) return false
  go(to)
  return true
}

/** Resolves once the server answers, whatever it says. */
export async function answering(): Promise<void> {
  for (;;) {
    try {
      const { status } = await fetch('/', { method: 'HEAD', cache: 'no-store' })
      if (status < 500) return // a proxy answers for a server that does not
    } catch {
      // asked again
    }
    await new Promise((wake) => setTimeout(wake, ASK))
  }
}

/** Whether this page was loaded anew for that; true once. */
export function wasRenewed(): boolean {
  const said = `${KEY}.said`
  const last = kept(KEY, 'sessionStorage')
  if (last === null || last === kept(said, 'sessionStorage')) return false
  keep(said, last, 'sessionStorage')
  return true
}

/** Once for the page. `sorry` is told when loading anew did not help. */
export function renewWhenReplaced(router: Router, sorry: () => void, go?: (to: string) => void): void {
  let going = '' // where one is on the way to
  let on = true
  router.beforeEach((to) => void (going = to.fullPath))
  router.afterEach(() => void (going = ''))
  async function replaced(): Promise<void> {
    if (!on) return // two parts were missing
    on = false
    await answering()
    if (renew(going || router.currentRoute.value.fullPath, go)) return
    sorry()
    setTimeout(() => (on = true), 5_000)
  }
  addEventListener('vite:preloadError', () => void replaced())
  router.onError((error) => {
    if (isMissingPart(error)) void replaced() // where one was going stays known, unless one goes elsewhere meanwhile
    else going = ''
  })
}

// What this browser keeps for the page. Private windows refuse, full ones too: then nothing was kept, and nothing fails.
const MINE = 'maskwatch.mine.' // of one user, by id: gone with a logout and with the next user

export function kept(key: string, store: 'localStorage' | 'sessionStorage' = 'localStorage'): string | null {
  try {
    return globalThis[store].getItem(key)
  } catch {
    return null
  }
}

/** null forgets it. False: it could not be kept. */
export function keep(key: string, value: string | null, store: 'localStorage' | 'sessionStorage' = 'localStorage'): boolean {
  try {
    if (value === null) globalThis[store].removeItem(key)
    else globalThis[store].setItem(key, value)
    return true
  } catch {
    return false
  }
}

export const mine = (user: string, what: string): string => `${MINE}${user}.${what}`

function keys(): string[] {
  try {
    return Object.keys(globalThis.localStorage)
  } catch {
    return []
  }
}
/** Keys of what is kept for a user and begins so. */
export const keptOf = (user: string, beginning: string): string[] => keys().filter((key) => key.startsWith(mine(user, beginning)))

/** Forgets what is kept for every user but this one; '': for everybody. */
export function forgetOthers(user: string): void {
  for (const key of keys()) if (key.startsWith(MINE) && !(user && key.startsWith(mine(user, '')))) keep(key, null)
}

// The live feed: one connection for the whole page, its state, and who wants to hear of what.
import { defineStore } from 'pinia'
import { computed, onScopeDispose, ref } from 'vue'

/** An event of `/v1/live`; what `data` holds depends on the kind. */
export interface LiveEvent {
  kind: string
  data: Record<string, unknown>
  site?: string
  camera?: string
}
type Hear = (event: LiveEvent) => void

// every kind that the API tells (tests/api/test_live.py holds this list against it)
const KINDS = [
  'counts', 'camera.status', 'camera.changed', 'camera.removed', 'site.changed', 'policy.changed',
  'episode.opened', 'episode.changed', 'episode.closed', 'episode.reviewed', 'episode.exempt',
  'alert.made', 'alert.acknowledged', 'alert.ended', 'delivery.changed', 'request.changed', 'grants.changed',
  'inspection.changed', 'inspection.point', 'inspection.photo', 'inspection.removed',
  'chat.message', 'chat.removed', 'chat.people', 'chat.mention', 'person.recognised', 'watchlist.hit',
  'replay.changed', 'replay.progress', 'replay.removed',
] as const
const STALE = 25_000 // ms without a sign of life; the server sends one every ten seconds
const FIRST_WAIT = 1_000 // ms before connecting again, doubled up to LAST_WAIT
const LAST_WAIT = 15_000

export const useLive = defineStore('live', () => {
  const state = ref<'off' | 'connecting' | 'live' | 'lost'>('off')
  const heard = ref(0) // ms, when the last sign of life came
  const now = ref(Date.now())
  const since = ref(Date.now()) // ms, since when the state is what it is
  const stale = computed(() => state.value === 'live' && now.value - heard.value > STALE)
  const ears = new Map<string, Set<Hear>>()
  let source: EventSource | null = null
  let wait = FIRST_WAIT
  let again: ReturnType<typeof setTimeout> | undefined
  let clock: ReturnType<typeof setInterval> | undefined

  function become(next: typeof state.value): void {
    if (state.value !== next) since.value = Date.now()
    state.value = next
  }
  function tell(event: LiveEvent): void {
    for (const kind of [event.kind, '*']) for (const hear of ears.get(kind) ?? []) hear(event)
  }
  function take(kind: string, text: string): void {
    heard.value = now.value = Date.now()
    if (kind === 'hello') {
      const first = state.value === 'connecting' && wait === FIRST_WAIT
      become('live')
      wait = FIRST_WAIT
      if (!first) tell({ kind: 'lost', data: {} }) // what happened while nobody listened is not known
      return
    }
    if (kind === 'beat') return
    if (kind === 'ended') {
      stop()
      tell({ kind: 'ended', data: {} })
      return
    }
    const event = JSON.parse(text) as Partial<LiveEvent>
    tell({ ...event, kind, data: event.data ?? {} })
  }

  function open(): void {
    become(state.value === 'lost' ? 'lost' : 'connecting')
    source = new EventSource('/v1/live')
    for (const kind of ['hello', 'beat', 'lost', 'ended', ...KINDS]) {
      source.addEventListener(kind, (event) => take(kind, (event as MessageEvent<string>).data))
    }
    source.onerror = () => {
      // the browser's own retry gives up for good on an error page of a proxy: connect anew ourselves
      source?.close()
      source = null
      become('lost')
      clearTimeout(again)
      again = setTimeout(open, wait)
      wait = Math.min(wait * 2, LAST_WAIT)
    }
  }
  function start(): void {
    if (source || state.value === 'lost') return
    clock = setInterval(() => {
      now.value = Date.now()
      if (source && state.value === 'live' && now.value - heard.value > 2 * STALE) source.onerror?.(new Event('error'))
    }, 1_000)
    open()
  }
  function stop(): void {
    clearInterval(clock)
    clearTimeout(again)
    source?.close()
    source = null
    become('off')
    wait = FIRST_WAIT
  }
  /** Hears a kind of event (`*`: every one; `lost`: fetch everything anew) until the caller's scope ends. */
  function on(kinds: string | string[], hear: Hear): () => void {
    const all = Array.isArray(kinds) ? kinds : [kinds]
    for (const kind of all) ears.set(kind, (ears.get(kind) ?? new Set()).add(hear))
    return () => all.forEach((kind) => ears.get(kind)?.delete(hear))
  }
  return { state, stale, heard, since, now, start, stop, on, take }
})

/** `useHear('counts', event => …)` in a component: ends with it. */
export function useHear(kinds: string | string[], hear: Hear): void {
  const off = useLive().on(kinds, hear)
  onScopeDispose(off)
}

// Live video of a camera: WebSocket -> Media Source Extensions, kept at the live edge, connected anew when it breaks; where
// there is a media server and nothing is to be drawn upon the picture, WebRTC from that.
import { onScopeDispose, reactive, type ShallowRef, watch } from 'vue'

import { api, got, socketAddress } from '@/api/client'
import { whep } from '@/api/whep'

import { useSession } from './useSession'

export interface Look {
  at: number // µs UTC, of the picture
  faces: { box: number[]; state: string; score: number; track?: string }[]
}
export interface Wanted {
  camera: string
  source: number | null // null: the best fitting
  boxes: boolean
  on: boolean // false: nobody looks, nothing is fetched
}
type Code = 'login' | 'right' | 'missing' | 'changed' | 'busy' | 'camera' | 'stopped' | 'broken' | 'unplayable' | ''

const EDGE = 0.1 // s that one stays behind the newest picture
const LOOKING = 0.7 // s that one stays behind it with boxes: where the faces are comes that much later than the picture
const BEHIND = 0.9 // s more than that, and one jumps
const SLOW = 0.4 // s more, and one plays a little faster
const KEEP = 10 // s of what was shown that are kept
const LOOKS = 10e6 // µs of boxes that are kept
const FRESH = 1.5e6 // µs after which a box is not true any more
const WAITS = [1, 2, 4, 8, 15] // s before each next attempt

/** What holds at a moment, of looks in order of time; null: nothing does. */
export function between(looks: Look[], at: number): Look | null {
  const index = looks.findLastIndex((one) => one.at <= at)
  const look = looks[index]
  if (!look || at - look.at > FRESH) return null
  const next = looks[index + 1]
  if (!next || next.at - look.at > FRESH) return look
  const part = (at - look.at) / (next.at - look.at)
  return {
    at,
    faces: look.faces.map((face) => {
      const later = face.track ? next.faces.find((one) => one.track === face.track) : undefined
      return later ? { ...face, box: face.box.map((value, i) => value + ((later.box[i] ?? value) - value) * part) } : face
    }),
  }
}

/** Whether this browser can play the stream at all; else there are JPEGs. */
export const canStream = (): boolean => typeof MediaSource !== 'undefined'

export function useVideo(video: Readonly<ShallowRef<HTMLVideoElement | null>>, wanted: () => Wanted) {
  const session = useSession()
  const state = reactive({
    phase: 'off' as 'off' | 'opening' | 'playing' | 'waiting' | 'ended',
    code: '' as Code,
    detail: '',
    retryAt: 0, // ms
    behind: 0, // s behind the newest picture that is here
    skipped: 0,
    width: 0,
    height: 0,
    source: null as number | null,
    transcoded: false,
    why: '',
    hidden: 0,
    boxes: false,
    fallback: !canStream(), // this browser cannot play what comes
    direct: false, // from the media server, not through ours
  })
  let ends: (() => void) | null = null // of what comes from the media server
  let indirect = false // it has failed: this camera comes through our server
  let turn = 0 // how often it was opened or closed
  let socket: WebSocket | null = null
  let media: MediaSource | null = null
  let buffer: SourceBuffer | null = null
  let address = ''
  let queue: ArrayBuffer[] = []
  let clocks: { time: number; at: number }[] = []
  let looks: Look[] = []
  let tries = 0
  let again: ReturnType<typeof setTimeout> | undefined
  let told: { code: Code; detail: string; retry: number | null } | null = null

  function feed(): void {
    const player = video.value
    if (!buffer || buffer.updating || media?.readyState !== 'open' || !player) return
    const ranges = buffer.buffered
    const first = ranges.length ? ranges.start(0) : 0
    if (first < player.currentTime - 2 * KEEP) return buffer.remove(0, player.currentTime - KEEP)
    const next = queue.shift()
    if (!next) return
    try {
      buffer.appendBuffer(next)
    } catch (error) {
      if (error instanceof DOMException && error.name === 'QuotaExceededError' && ranges.length && player.currentTime > first + 1) {
        queue.unshift(next)
        buffer.remove(0, player.currentTime - 1)
      } else {
        broke({ code: 'broken', detail: String(error), retry: null })
      }
    }
  }
  /** Stays at the newest picture. */
  function follow(): void {
    const player = video.value
    const ranges = player?.buffered
    if (!player || !ranges?.length || state.phase === 'off') return
    const end = ranges.end(ranges.length - 1)
    const start = ranges.start(ranges.length - 1)
    const edge = state.boxes ? LOOKING : EDGE
    state.behind = Math.max(0, end - player.currentTime)
    if (player.currentTime < start || state.behind > edge + BEHIND) {
      player.currentTime = Math.max(start, end - edge)
    }
    player.playbackRate = state.behind > edge + SLOW ? 1.1 : state.behind < edge - SLOW ? 0.9 : 1
    if (player.paused) void player.play().catch(() => undefined)
  }
  function played(): void {
    tries = 0
    state.phase = 'playing'
    state.code = ''
    state.detail = ''
  }

  async function begin(mime: string): Promise<void> {
    const player = video.value
    if (!player) return
    if (!MediaSource.isTypeSupported(mime)) {
      state.fallback = true
      return close('off')
    }
    const mine = (media = new MediaSource())
    address = URL.createObjectURL(mine)
    player.src = address
    await new Promise((done) => mine.addEventListener('sourceopen', done, { once: true }))
    if (media !== mine) return
    buffer = mine.addSourceBuffer(mime)
    buffer.addEventListener('updateend', () => {
      if (media !== mine) return
      if (state.phase === 'opening') follow()
      feed()
    })
    feed()
  }
  function take(text: string): void {
    const message = JSON.parse(text) as {
      mime?: string; width?: number; height?: number; source?: number; transcoded?: boolean; why?: string; hidden?: number; boxes?: boolean
      time?: number; at?: number; faces?: Look['faces']; skipped?: number; error?: { code: Code; detail: string; retry: number | null }
    }
    if (message.mime) {
      Object.assign(state, {
        width: message.width ?? 0, height: message.height ?? 0, source: message.source ?? null, transcoded: message.transcoded ?? false,
        why: message.why ?? '', hidden: message.hidden ?? 0, boxes: message.boxes ?? false,
      })
      void begin(message.mime)
    } else if (message.time !== undefined && message.at !== undefined) {
      clocks.push({ time: message.time, at: message.at })
      if (clocks.length > 200) clocks = clocks.slice(-100)
    } else if (message.faces && message.at !== undefined) {
      const at = message.at
      looks.push({ at, faces: message.faces })
      looks = looks.filter((one) => one.at > at - LOOKS)
    } else if (message.boxes === false) {
      looks = [] // the right to them has ended
      state.boxes = false
    } else if (message.skipped) {
      state.skipped += message.skipped
    } else if (message.error) {
      told = message.error
    }
  }

  function open(): void {
    close('opening')
    const { camera, boxes, on } = wanted()
    if (!on || !camera || !video.value || state.fallback) return void (state.phase = 'off')
    if (boxes || indirect || typeof RTCPeerConnection === 'undefined') stream()
    else void direct(video.value, turn)
  }
  /** By WebRTC from the media server; where that is not to be had, as the stream. */
  async function direct(player: HTMLVideoElement, mine: number): Promise<void> {
    const { camera, source } = wanted()
    const fallen = (): void => {
      if (mine !== turn) return
      indirect = true
      open()
    }
    try {
      const told = await got(api.GET('/v1/cameras/{camera}/video', { params: { path: { camera } } }))
      const one = told.sources.find((each) => (source === null ? each.first : each.source === source))
      if (!told.running || told.hidden || !one?.whep) throw new Error('expected an address at the media server, got none')
      if (mine !== turn) return
      const end = await whep(one.whep, (picture) => {
        if (mine === turn) player.srcObject = picture
      }, fallen)
      if (mine !== turn) return end()
      ends = end
      Object.assign(state, { direct: true, source: one.source, transcoded: false, why: '', hidden: 0, boxes: false })
      again = setTimeout(() => { if (state.phase === 'opening') fallen() }, 8_000) // connected, and no picture
    } catch {
      fallen()
    }
  }
  function stream(): void {
    const { camera, source, boxes } = wanted()
    const query = new URLSearchParams({ boxes: String(boxes), ...(source === null ? {} : { source: String(source) }) })
    const mine = (socket = new WebSocket(socketAddress(`/v1/cameras/${encodeURIComponent(camera)}/video/stream?${query}`)))
    mine.binaryType = 'arraybuffer'
    mine.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (socket !== mine) return
      if (typeof data === 'string') return take(data)
      queue.push(data)
      feed()
    }
    mine.onclose = () => {
      if (socket === mine) broke(told ?? { code: 'broken', detail: '', retry: null }, !told)
    }
  }
  function broke(why: { code: Code; detail: string; retry: number | null }, retried = why.code === 'broken'): void {
    const wait = retried ? (WAITS[Math.min(tries, WAITS.length - 1)] ?? 15) : why.retry
    tries += 1
    close(wait === null ? 'ended' : 'waiting')
    state.code = why.code
    state.detail = why.detail
    // a refused connection says nothing of the login: ask who is logged in
    if (why.code === 'login' || (why.code === 'broken' && tries === 2)) void session.ask().catch(() => undefined)
    if (wait === null) return
    // a source that breaks at once each time is not asked without a pause
    const pause = Math.max(wait, tries > 3 ? 2 : 0) * 1_000
    state.retryAt = Date.now() + pause
    again = setTimeout(open, pause)
  }
  function close(phase: typeof state.phase): void {
    clearTimeout(again)
    turn += 1
    ends?.()
    ends = null
    if (video.value?.srcObject) video.value.srcObject = null
    state.direct = false
    const old = socket
    socket = null
    told = null
    old?.close()
    media = null
    buffer = null
    queue = []
    clocks = []
    looks = []
    if (address) URL.revokeObjectURL(address)
    address = ''
    state.phase = phase
    state.retryAt = 0
    state.behind = 0
  }

  const timer = setInterval(follow, 250)
  watch([() => ({ ...wanted() }), video], ([now], [before]) => {
    if (before && video.value && JSON.stringify(now) === JSON.stringify(before) && state.phase !== 'off') return
    tries = 0
    // another camera, another kind of film: what could not be played of the one before says nothing of this one
    if (now.camera !== before?.camera || now.source !== before?.source) {
      Object.assign(state, { fallback: !canStream(), skipped: 0 })
      indirect = false
    }
    open()
  }, { immediate: true, flush: 'post' })
  onScopeDispose(() => {
    clearInterval(timer)
    close('off')
  })

  return {
    state,
    played,
    retry: open,
    /** When the picture that is shown was taken, µs UTC; null: not known. */
    taken(): number | null {
      const time = video.value?.currentTime ?? 0
      for (let i = clocks.length - 1; i >= 0; i--) {
        const clock = clocks[i]
        if (clock && clock.time <= time + 0.02) return clock.at + (time - clock.time) * 1e6
      }
      return null
    },
    /** The boxes of that picture: between two looks where their tracks were on the way, else of the newest that holds. */
    boxesAt(taken: number): Look | null {
      return between(looks, taken)
    },
  }
}

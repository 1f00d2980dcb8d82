// The chat: one WebSocket for the page, rooms that are taken up again where they were, and what is said while it is away:
// that this browser keeps for its user until the server has it, whatever becomes of the page.
import { defineStore } from 'pinia'
import { computed, reactive, ref, watch } from 'vue'

import { api, got, multipart, type Schema, socketAddress } from '@/api/client'
import { keep, kept, keptOf, mine as mineAs } from '@/kept'

import { useLive } from './useLive'
import { useSession } from './useSession'

export type Message = Schema<'ChatMessage'>
export interface Said {
  id: string // made here: said again it is said once
  room: string
  text: string
  pictures: string[]
  mentions: string[]
  at: number // µs, when it was typed
  fault: string // why the server did not take it; empty: it is on its way
  title?: string // what kind of problem that is
  status?: number
}
export interface Room {
  name: string
  users: number // views that show it
  messages: Message[] // by seq
  people: Schema<'Person'>[]
  joined: boolean
  loaded: boolean
  older: boolean // the server has earlier ones
  back: boolean // somebody has gone back to earlier ones
  fault: unknown
}
interface Heard {
  message?: Message
  joined?: string
  room?: string
  people?: Schema<'Person'>[]
  more?: boolean
  last?: number
  problem?: { title: string; status: number; detail: string; id?: string | null; room?: string | null }
}

const PAGE = 50
const HELD = 300 // messages of a room, unless one goes back
const FIRST_WAIT = 1_000 // ms before connecting again, doubled up to LAST_WAIT
const LAST_WAIT = 15_000
const BUSY = 5_000 // ms until a server that was busy is told again

export const useChat = defineStore('chat', () => {
  const session = useSession()
  const live = useLive()
  const state = ref<'off' | 'connecting' | 'live' | 'lost'>('off')
  const rooms = reactive(new Map<string, Room>())
  const waiting = ref<Said[]>([]) // what the server has not repeated yet, in order
  let socket: WebSocket | null = null
  let wait = FIRST_WAIT
  let again: ReturnType<typeof setTimeout> | undefined

  /** Whether a connection is of use: somebody looks at a room, or something is to be said. */
  const wanted = (): boolean => rooms.size > 0 || waiting.value.some((one) => !one.fault)

  // -- what waits -----------------------------------------------------------------------------------------------------
  const at = (user: string, id: string): string => mineAs(user, `chat.${id}`)
  function noted(one: Said): void {
    if (session.me) keep(at(session.me.id, one.id), JSON.stringify(one)) // refused: it waits as long as the page
  }
  /** The server has it, or nobody wants it sent any more. */
  function dropped(id: string): void {
    if (!waiting.value.some((one) => one.id === id)) return
    waiting.value = waiting.value.filter((one) => one.id !== id)
    if (session.me) keep(at(session.me.id, id), null)
    if (!wanted()) hangUp()
  }
  function found(user: string): Said[] {
    return keptOf(user, 'chat.').flatMap((key) => {
      try {
        const one: unknown = JSON.parse(kept(key) ?? '')
        return isSaid(one) ? [one] : []
      } catch {
        return []
      }
    }).sort((a, b) => a.at - b.at)
  }

  // -- the socket -----------------------------------------------------------------------------------------------------
  function send(content: object): boolean {
    if (socket?.readyState !== WebSocket.OPEN) return false
    socket.send(JSON.stringify(content))
    return true
  }
  function connect(): void {
    clearTimeout(again)
    if (socket || !session.me) return
    state.value = state.value === 'lost' ? 'lost' : 'connecting'
    const mine = (socket = new WebSocket(socketAddress('/v1/chat/socket')))
    mine.onopen = () => {
      if (socket !== mine) return
      state.value = 'live'
      wait = FIRST_WAIT
      for (const room of rooms.values()) if (room.loaded) join(room)
      // of rooms that nobody looks at any more; the others once they are joined
      for (const one of waiting.value) if (!one.fault && !rooms.has(one.room)) pass(one)
    }
    mine.onmessage = (event) => {
      if (socket === mine) take(JSON.parse(String(event.data)) as Heard)
    }
    mine.onclose = () => {
      if (socket !== mine) return
      socket = null
      for (const room of rooms.values()) room.joined = false
      if (!wanted()) {
        state.value = 'off'
        return
      }
      state.value = 'lost'
      again = setTimeout(connect, wait)
      wait = Math.min(wait * 2, LAST_WAIT)
    }
  }
  function hangUp(): void {
    clearTimeout(again)
    const old = socket
    socket = null
    old?.close()
    for (const room of rooms.values()) room.joined = false
    state.value = 'off'
    wait = FIRST_WAIT
  }
  // the live feed notices first when the server is back, and when a login has ended
  watch(() => live.state, (now, before) => {
    if (now === 'live' && before === 'lost' && !socket && wanted()) connect()
  })
  watch(() => session.me?.id, (now, before) => {
    if (now === before) return
    hangUp()
    rooms.clear()
    waiting.value = now ? found(now) : []
    if (wanted()) connect()
  }, { immediate: true })

  // -- what is heard --------------------------------------------------------------------------------------------------
  const last = (room: Room): number => room.messages.at(-1)?.seq ?? 0
  function join(room: Room): void {
    send({ join: room.name, since: last(room) })
  }
  function put(room: Room, message: Message): void {
    dropped(message.id)
    const known = room.messages.findIndex((one) => one.id === message.id)
    if (known >= 0) {
      if (message.removed) room.messages[known] = message // taken back
      return
    }
    const at = room.messages.findLastIndex((one) => one.seq < message.seq)
    room.messages.splice(at + 1, 0, message)
    // a room that is open all day holds what one reads of it; whoever has gone back keeps that too
    if (at + 2 === room.messages.length && !room.back && room.messages.length > HELD) {
      room.messages.splice(0, PAGE)
      room.older = true
    }
  }
  function take(heard: Heard): void {
    if (heard.message) {
      const { id, removed, seq } = heard.message
      const room = rooms.get(heard.message.room)
      // taken back, and further up than what is shown: loading older messages brings it in its place
      if (room && removed && seq <= last(room) && !room.messages.some((one) => one.id === id)) return
      if (room) put(room, heard.message)
      else dropped(id)
    } else if (heard.joined !== undefined) {
      const room = rooms.get(heard.joined)
      if (!room) return
      room.people = heard.people ?? []
      if (heard.more) {
        send({ join: room.name, since: heard.last ?? last(room) })
        return
      }
      room.joined = true
      for (const one of waiting.value) if (one.room === room.name && !one.fault) pass(one)
    } else if (heard.people && heard.room) {
      const room = rooms.get(heard.room)
      if (room) room.people = heard.people
    } else if (heard.problem) {
      const { id, detail, title, status } = heard.problem
      const one = waiting.value.find((each) => each.id === id)
      if (!one) return
      if (status === 429 || status >= 500) return void setTimeout(() => waiting.value.includes(one) && pass(one), BUSY)
      Object.assign(one, { fault: detail || title, title, status })
      noted(one)
    }
  }

  // -- what views ask for ---------------------------------------------------------------------------------------------
  function enter(name: string): Room {
    let room = rooms.get(name)
    if (!room) {
      rooms.set(name, { name, users: 0, messages: [], people: [], joined: false, loaded: false, older: false, back: false, fault: null })
      room = rooms.get(name) as Room // the reactive one
    }
    room.users += 1
    if (room.users === 1) void load(room)
    return room
  }
  function leave(name: string): void {
    const room = rooms.get(name)
    if (!room || --room.users > 0) return
    rooms.delete(name)
    send({ leave: name })
    if (!wanted()) hangUp()
  }
  async function load(room: Room): Promise<void> {
    room.fault = null
    try {
      const found = await got(api.GET('/v1/chat/rooms/{room}/messages', { params: { path: { room: room.name }, query: { limit: PAGE } } }))
      for (const message of found.messages) put(room, message)
      room.older = found.more
      room.loaded = true
      if (!rooms.has(room.name)) return // left meanwhile
      if (socket?.readyState === WebSocket.OPEN) join(room)
      else connect()
    } catch (error) {
      room.fault = error
    }
  }
  /** Earlier messages. */
  async function scrollBack(room: Room): Promise<void> {
    const before = room.messages[0]?.seq
    if (before === undefined) return
    const found = await got(api.GET('/v1/chat/rooms/{room}/messages', { params: { path: { room: room.name }, query: { limit: PAGE, before } } }))
    room.back = true
    for (const message of found.messages) put(room, message)
    room.older = found.more
  }
  function pass({ room, id, text, pictures, mentions }: Said): void {
    send({ room, id, text, pictures, mentions })
  }
  /** Shown as waiting until the server repeats it; sent when there is a connection. */
  function say(room: string, text: string, pictures: string[] = [], mentions: string[] = []): void {
    waiting.value.push({ id: made(), room, text, pictures, mentions, at: Date.now() * 1_000, fault: '' })
    const one = waiting.value.at(-1)
    if (!one) return
    noted(one)
    if (!socket) connect()
    else if (rooms.get(room)?.joined) pass(one)
  }
  function retry(id: string): void {
    const one = waiting.value.find((each) => each.id === id)
    if (!one) return
    one.fault = ''
    noted(one)
    if (!socket) connect()
    else if (rooms.get(one.room)?.joined) pass(one)
  }
  /** What was said goes; that it was taken back stays. */
  async function takeBack(room: Room, id: string): Promise<void> {
    put(room, await got(api.DELETE('/v1/chat/rooms/{room}/messages/{id}', { params: { path: { room: room.name, id } } })))
  }
  function read(room: string, seq: number): boolean {
    return send({ read: room, seq })
  }
  async function upload(room: string, picture: Blob): Promise<string> {
    const form = multipart({ picture })
    const kept = await got(
      api.POST('/v1/chat/rooms/{room}/pictures', {
        params: { path: { room } },
        body: { picture: '' },
        bodySerializer: () => form,
      }),
    )
    return kept.picture
  }
  const connected = computed(() => state.value === 'live')
  return { state, connected, rooms, waiting, enter, leave, load, scrollBack, say, retry, discard: dropped, takeBack, read, upload, take }
})

function isSaid(value: unknown): value is Said {
  const one = value as Partial<Said> | null
  return typeof one === 'object' && one !== null && [one.id, one.room, one.text, one.fault].every((each) => typeof each === 'string')
    && typeof one.at === 'number' && Array.isArray(one.pictures) && Array.isArray(one.mentions)
}

/** A UUID; `crypto.randomUUID` is missing on pages without TLS. */
function made(): string {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID()
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

export const pictureAddress = (room: string, picture: string): string =>
  `/v1/chat/rooms/${encodeURIComponent(room)}/pictures/${picture.split('/').at(-1) ?? ''}`

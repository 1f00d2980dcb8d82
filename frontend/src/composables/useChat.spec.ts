import { flushPromises } from '@vue/test-utils'
import { createPinia, setActivePinia } from 'pinia'
import { beforeEach, expect, it, vi } from 'vitest'

import { useChat } from './useChat'
import { useSession } from './useSession'
import { serve, shown } from '@/testing'

/** A socket whose other end the test speaks for. */
class Socket {
  static readonly OPEN = 1
  static all: Socket[] = []
  readyState = 0
  sent: Record<string, unknown>[] = []
  onopen?: () => void
  onclose?: () => void
  onmessage?: (event: { data: string }) => void
  constructor() {
    Socket.all.push(this)
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>)
  }
  close(): void {
    this.readyState = 3
    this.onclose?.()
  }
  open(): void {
    this.readyState = 1
    this.onopen?.()
  }
  says(content: object): void {
    this.onmessage?.({ data: JSON.stringify(content) })
  }
}
const message = (seq: number, more: object = {}) => ({ id: `m${seq}`, room: 'site:a', seq, at: seq, user: 'u2', name: 'wang', site: 'a', text: `text ${seq}`, ...more })
const at = (n: number): Socket => Socket.all[n] as Socket

beforeEach(() => {
  Socket.all = []
  localStorage.clear()
  vi.stubGlobal('WebSocket', Socket)
})

async function entered() {
  serve({ 'GET /v1/chat/rooms/site%3Aa/messages': { messages: [message(3), message(4)], more: true, read: 4 } })
  shown({ template: '<i />' })
  useSession().me = { id: 'u1', name: 'li', full_name: '', language: 'en', permissions: [], rights: [] }
  const chat = useChat()
  const room = chat.enter('site:a')
  await flushPromises()
  return { chat, room }
}

it('takes a room up after the last message it has', async () => {
  const { room } = await entered()
  at(0).open()
  expect(at(0).sent).toEqual([{ join: 'site:a', since: 4 }])
  at(0).says({ message: message(5) })
  at(0).says({ message: message(5) })
  at(0).says({ joined: 'site:a', last: 5, people: [{ user: 'u2', name: 'wang' }], more: false })
  expect(room.messages.map((one) => one.seq)).toEqual([3, 4, 5])
  expect(room.people).toEqual([{ user: 'u2', name: 'wang' }])
})

it('shows that a message was taken back, and makes no hole of one that is further up', async () => {
  const { chat, room } = await entered()
  at(0).open()
  const gone = { text: '', removed: 9, remover: 'u2' }
  at(0).says({ message: message(1, gone) })
  at(0).says({ message: message(3, gone) })
  at(0).says({ joined: 'site:a', last: 4, people: [], more: false })
  expect(room.messages.map((one) => [one.seq, one.text, one.removed ?? 0])).toEqual([[3, '', 9], [4, 'text 4', 0]])
  serve({ 'DELETE /v1/chat/rooms/site%3Aa/messages/m4': message(4, { ...gone, remover: 'u1' }) })
  await chat.takeBack(room, 'm4')
  expect(room.messages.at(-1)).toMatchObject({ id: 'm4', text: '', removed: 9, remover: 'u1' })
})

it('keeps what is said while away, sends it once back, and drops it when it is repeated', async () => {
  vi.useFakeTimers()
  try {
    const { chat, room } = await entered()
    at(0).open()
    at(0).says({ joined: 'site:a', last: 4, people: [], more: false })
    at(0).close()
    expect(chat.state).toBe('lost')
    chat.say('site:a', 'still there?')
    const id = chat.waiting[0]?.id
    await vi.advanceTimersByTimeAsync(1_000)
    at(1).open()
    expect(at(1).sent).toEqual([{ join: 'site:a', since: 4 }])
    at(1).says({ joined: 'site:a', last: 4, people: [], more: false })
    expect(at(1).sent[1]).toEqual({ room: 'site:a', id, text: 'still there?', pictures: [], mentions: [] })
    expect(chat.waiting).toHaveLength(1)
    at(1).says({ message: message(6, { id, user: 'u1', text: 'still there?' }) })
    expect(chat.waiting).toEqual([])
    expect(room.messages.at(-1)?.text).toBe('still there?')
  } finally {
    vi.useRealTimers()
  }
})

it('says why a message was refused, and sends it again when asked', async () => {
  const { chat } = await entered()
  at(0).open()
  at(0).says({ joined: 'site:a', last: 4, people: [], more: false })
  chat.say('site:a', 'no')
  const id = chat.waiting[0]?.id ?? ''
  at(0).says({ problem: { title: 'no', status: 404, detail: 'no such room', id, room: 'site:a' } })
  expect(chat.waiting[0]?.fault).toBe('no such room')
  chat.retry(id)
  expect(at(0).sent.filter((one) => one.id === id)).toHaveLength(2)
})

const li = { id: 'u1', name: 'li', full_name: '', language: 'en', permissions: [], rights: [] }

it('sends what waits although nobody looks at its room any more, and hangs up then', async () => {
  vi.useFakeTimers()
  try {
    const { chat } = await entered()
    at(0).open()
    at(0).says({ joined: 'site:a', last: 4, people: [], more: false })
    at(0).close()
    chat.say('site:a', 'the door is open')
    const id = chat.waiting[0]?.id
    chat.leave('site:a')
    await vi.advanceTimersByTimeAsync(1_000)
    at(1).open()
    expect(at(1).sent).toEqual([{ room: 'site:a', id, text: 'the door is open', pictures: [], mentions: [] }])
    at(1).says({ message: message(6, { id, user: 'u1' }) })
    expect([chat.waiting.length, chat.state, at(1).readyState]).toEqual([0, 'off', 3])
  } finally {
    vi.useRealTimers()
  }
})

it('says what was written before the page closed once the same user is back, and to the server only', async () => {
  const { chat } = await entered()
  at(0).open()
  at(0).says({ joined: 'site:a', last: 4, people: [], more: false })
  at(0).close()
  chat.say('site:a', 'kept')
  const id = chat.waiting[0]?.id
  // the page is closed and opened again
  setActivePinia(createPinia())
  serve({})
  useSession().me = li
  const after = useChat()
  expect(after.waiting.map((one) => one.text)).toEqual(['kept'])
  Socket.all.at(-1)?.open()
  expect(Socket.all.at(-1)?.sent).toEqual([{ room: 'site:a', id, text: 'kept', pictures: [], mentions: [] }])
  Socket.all.at(-1)?.says({ message: message(7, { id, user: 'u1' }) })
  expect([after.waiting.length, localStorage.length]).toEqual([0, 0])
})

it('forgets what waits with a logout, and does not give it to the next user', async () => {
  const { chat } = await entered()
  chat.say('site:a', 'mine')
  expect(localStorage.length).toBe(1)
  useSession().me = { ...li, id: 'u2' }
  await flushPromises()
  expect(chat.waiting).toEqual([])
  serve({ 'POST /v1/logout': {} })
  await useSession().logout()
  expect(localStorage.length).toBe(0)
})

it('tells a busy server again, and shows what it refused also after the page was closed', async () => {
  vi.useFakeTimers()
  try {
    const { chat } = await entered()
    at(0).open()
    at(0).says({ joined: 'site:a', last: 4, people: [], more: false })
    chat.say('site:a', 'now')
    const id = chat.waiting[0]?.id
    at(0).says({ problem: { title: 'not ready', status: 503, detail: 'try again', id, room: 'site:a' } })
    expect(chat.waiting[0]?.fault).toBe('')
    await vi.advanceTimersByTimeAsync(5_000)
    expect(at(0).sent.filter((one) => one.id === id)).toHaveLength(2)
    at(0).says({ problem: { title: 'no', status: 404, detail: 'no such room', id, room: 'site:a' } })
    setActivePinia(createPinia())
    useSession().me = li
    expect(useChat().waiting.map((one) => one.fault)).toEqual(['no such room'])
    expect(Socket.all).toHaveLength(1) // nothing to send: no connection
  } finally {
    vi.useRealTimers()
  }
})

it('holds the newest messages of a room that is open all day, and what one goes back to', async () => {
  const { chat, room } = await entered()
  at(0).open()
  for (let seq = 5; seq <= 1_000; seq++) at(0).says({ message: message(seq) })
  expect(room.messages.length).toBeLessThanOrEqual(300)
  expect([room.messages.at(-1)?.seq, room.older]).toEqual([1_000, true])
  const first = room.messages[0]?.seq ?? 0
  serve({ 'GET /v1/chat/rooms/site%3Aa/messages': { messages: [message(first - 1)], more: true, read: 4 } })
  await chat.scrollBack(room)
  for (let seq = 1_001; seq <= 1_200; seq++) at(0).says({ message: message(seq) })
  expect([room.messages[0]?.seq, room.messages.at(-1)?.seq]).toEqual([first - 1, 1_200])
})

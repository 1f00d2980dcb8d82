import { flushPromises } from '@vue/test-utils'
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

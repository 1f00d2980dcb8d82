import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { type LiveEvent, useLive } from './useLive'

class Source {
  static made: Source[] = []
  onerror: ((event: Event) => void) | null = null
  closed = false
  private ears = new Map<string, (event: MessageEvent<string>) => void>()
  constructor(readonly url: string) {
    Source.made.push(this)
  }
  addEventListener(kind: string, hear: (event: MessageEvent<string>) => void): void {
    this.ears.set(kind, hear)
  }
  close(): void {
    this.closed = true
  }
  say(kind: string, event: object = {}): void {
    this.ears.get(kind)?.(new MessageEvent(kind, { data: JSON.stringify(event) }))
  }
}
const last = (): Source => Source.made.at(-1) as Source

beforeEach(() => {
  Source.made = []
  vi.useFakeTimers()
  vi.stubGlobal('EventSource', Source)
})
afterEach(() => {
  useLive().stop()
  vi.useRealTimers()
})

test('events are heard by who asked for them, until they no longer want to', () => {
  const live = useLive()
  const counts: LiveEvent[] = []
  const all: string[] = []
  const off = live.on('counts', (event) => counts.push(event))
  live.on('*', (event) => all.push(event.kind))
  live.start()
  expect(live.state).toBe('connecting')
  last().say('hello')
  last().say('counts', { data: { id: 'gate', none: 2 }, camera: 'gate' })
  off()
  last().say('counts', { data: { id: 'gate', none: 3 } })
  expect(live.state).toBe('live')
  expect(counts).toEqual([{ kind: 'counts', camera: 'gate', data: { id: 'gate', none: 2 } }])
  expect(all).toEqual(['counts', 'counts'])
})

test('silence is said, a broken connection is made anew with growing waits, and then everything is asked for again', () => {
  const live = useLive()
  const lost = vi.fn()
  live.on('lost', lost)
  live.start()
  last().say('hello')
  expect(lost).not.toHaveBeenCalled()
  vi.advanceTimersByTime(26_000)
  expect([live.state, live.stale]).toEqual(['live', true])
  last().say('beat')
  expect(live.stale).toBe(false)
  last().onerror?.(new Event('error'))
  expect([live.state, last().closed]).toEqual(['lost', true])
  for (const wait of [1_000, 2_000, 4_000]) {
    const before = Source.made.length
    vi.advanceTimersByTime(wait - 10)
    expect(Source.made.length).toBe(before)
    vi.advanceTimersByTime(20)
    expect(Source.made.length).toBe(before + 1)
    if (wait < 4_000) last().onerror?.(new Event('error'))
  }
  last().say('hello')
  expect([live.state, lost.mock.calls.length]).toEqual(['live', 1])
})

test('a connection that is open and silent for a minute is given up', () => {
  const live = useLive()
  live.start()
  last().say('hello')
  vi.advanceTimersByTime(52_000)
  expect(live.state).toBe('lost')
})

test('the end of the login stops it', () => {
  const live = useLive()
  const ended = vi.fn()
  live.on('ended', ended)
  live.start()
  last().say('hello')
  last().say('ended')
  expect([live.state, ended.mock.calls.length, last().closed]).toEqual(['off', 1, true])
})

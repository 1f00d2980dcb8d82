import { flushPromises } from '@vue/test-utils'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { serve, shown } from '@/testing'

import StreamPlayer from './StreamPlayer.vue'

class Seen {
  constructor(private readonly tell: (entries: { isIntersecting: boolean }[]) => void) {}
  observe(): void {
    this.tell([{ isIntersecting: true }])
  }
  disconnect(): void {}
}
class Socket {
  static all: Socket[] = []
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: (() => void) | null = null
  closed = false
  constructor(readonly url: string) {
    Socket.all.push(this)
  }
  close(): void {
    this.closed = true
  }
  says(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) })
  }
}

beforeEach(() => {
  Socket.all = []
  serve({})
  vi.stubGlobal('IntersectionObserver', Seen)
  vi.stubGlobal('WebSocket', Socket)
  vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockReturnValue(null)
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

describe('StreamPlayer', () => {
  it('shows JPEGs where the browser cannot play the stream', async () => {
    const wrapper = shown(StreamPlayer, { props: { camera: 'gate', source: 1, label: 'Gate' } })
    await flushPromises()
    expect(wrapper.find('img').attributes('src')).toContain('/v1/cameras/gate/video/mjpeg?fps=5&source=1')
    expect(Socket.all).toHaveLength(0)
    await wrapper.find('img').trigger('error')
    expect(wrapper.text()).toContain('The camera does not answer')
    wrapper.unmount()
  })

  it('says why there is no picture, asks again when told to, and stops when it is gone', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    vi.stubGlobal('MediaSource', class { static isTypeSupported = () => true })
    const wrapper = shown(StreamPlayer, { props: { camera: 'gate', label: 'Gate' } })
    await flushPromises()
    expect(Socket.all.map((one) => new URL(one.url).search)).toEqual(['?boxes=true'])
    Socket.all[0]?.says({ error: { code: 'camera', detail: 'nobody answers', retry: 5 } })
    Socket.all[0]?.onclose?.()
    await flushPromises()
    expect(wrapper.text()).toContain('The camera does not answer')
    expect(wrapper.text()).toContain('nobody answers')
    vi.advanceTimersByTime(4_900)
    expect(Socket.all).toHaveLength(1)
    vi.advanceTimersByTime(200)
    expect(Socket.all).toHaveLength(2)
    wrapper.unmount()
    expect(Socket.all[1]?.closed).toBe(true)
  })

  it('does not ask again where it may not watch', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    vi.stubGlobal('MediaSource', class { static isTypeSupported = () => true })
    const wrapper = shown(StreamPlayer, { props: { camera: 'gate', label: 'Gate' } })
    await flushPromises()
    Socket.all[0]?.says({ error: { code: 'right', detail: '', retry: null } })
    Socket.all[0]?.onclose?.()
    await flushPromises()
    vi.advanceTimersByTime(60_000)
    expect(wrapper.text()).toContain('You may not watch this camera')
    expect(Socket.all).toHaveLength(1)
    wrapper.unmount()
  })
})

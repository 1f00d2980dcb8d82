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

  it('plays by WebRTC from the media server where no boxes are drawn, and as the stream when that fails', async () => {
    vi.stubGlobal('MediaSource', class { static isTypeSupported = () => true })
    class Peer {
      static all: Peer[] = []
      iceGatheringState = 'complete'
      connectionState = 'new'
      localDescription = { sdp: 'offer' }
      onconnectionstatechange: ((event: Event) => void) | null = null
      ontrack: ((event: object) => void) | null = null
      close = vi.fn()
      addTransceiver = vi.fn()
      setLocalDescription = vi.fn(() => Promise.resolve())
      createOffer = vi.fn(() => Promise.resolve({}))
      constructor() {
        Peer.all.push(this)
      }
      setRemoteDescription = vi.fn(({ sdp }: { sdp: string }) => {
        expect(sdp).toBe('answer')
        this.ontrack?.({ streams: ['the picture'], track: null })
        this.becomes('connected')
        return Promise.resolve()
      })
      becomes(state: string): void {
        this.connectionState = state
        this.onconnectionstatechange?.(new Event('x'))
      }
    }
    vi.stubGlobal('RTCPeerConnection', Peer)
    const source = { source: 0, kind: 'main', width: 640, first: true, stream: '', mjpeg: '', mime: null, transcoded: null, why: null }
    const asked: string[] = []
    const media = 'https://media.example/gate-0/whep?ticket=t'
    vi.stubGlobal('fetch', async (request: Request | string, more?: RequestInit) => {
      const [method, url] = typeof request === 'string' ? [more?.method, request] : [request.method, request.url]
      asked.push(`${method} ${url.replace(location.origin, '')}`)
      if (url === media) return new Response('answer', { status: 201, headers: { location: '/gate-0/whep/secret' } })
      if (method === 'DELETE') return new Response('')
      return Response.json({ camera: 'gate', running: true, hidden: 0, boxes: true, sources: [{ ...source, whep: media }] })
    })
    const wrapper = shown(StreamPlayer, { props: { camera: 'gate', label: 'Gate', boxes: false } })
    await vi.waitFor(() => expect(wrapper.find('video').element.srcObject).toBe('the picture'))
    await flushPromises()
    expect(asked).toEqual(['GET /v1/cameras/gate/video', `POST ${media}`])
    expect(Socket.all).toHaveLength(0)
    await wrapper.find('video').trigger('playing')
    expect(wrapper.attributes('data-phase')).toBe('playing')

    // thrown out, or the server is gone: the stream says why, or goes on
    Peer.all[0]?.becomes('failed')
    await vi.waitFor(() => expect(Socket.all).toHaveLength(1))
    expect(wrapper.find('video').element.srcObject).toBeNull()
    expect(asked.at(-1)).toBe('DELETE https://media.example/gate-0/whep/secret')
    expect(new URL(Socket.all[0]?.url ?? '').search).toBe('?boxes=false')

    // with boxes it is the stream at once: they are timed by it
    await wrapper.setProps({ boxes: true })
    await flushPromises()
    expect(Socket.all).toHaveLength(2)
    expect(asked).toHaveLength(3)
    wrapper.unmount()
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

  it('tries the film again of another camera, where that of the one before could not be played', async () => {
    vi.stubGlobal('MediaSource', class { static isTypeSupported = () => false })
    const wrapper = shown(StreamPlayer, { props: { camera: 'gate', label: 'Gate' } })
    await flushPromises()
    Socket.all[0]?.says({ mime: 'video/mp4; codecs="hvc1"' })
    await flushPromises()
    expect(wrapper.find('img').exists()).toBe(true) // JPEGs of this one
    await wrapper.setProps({ camera: 'dock' })
    await flushPromises()
    await flushPromises()
    expect(wrapper.find('video').exists()).toBe(true)
    expect(Socket.all.at(-1)?.url).toContain('/v1/cameras/dock/video/stream')
    wrapper.unmount()
  })

  it('says why a film is encoded anew and how much of it was skipped', async () => {
    vi.stubGlobal('MediaSource', class extends EventTarget {
      static isTypeSupported = () => true
      readyState = 'closed'
    })
    vi.stubGlobal('URL', Object.assign(class extends URL {}, { createObjectURL: () => 'blob:x', revokeObjectURL: () => undefined }))
    const wrapper = shown(StreamPlayer, { props: { camera: 'gate', label: 'Gate' } })
    await flushPromises()
    Socket.all[0]?.says({ mime: 'video/mp4', transcoded: true, why: 'privacy areas', hidden: 1, boxes: true })
    Socket.all[0]?.says({ skipped: 3 })
    expect(wrapper.find('[data-test=how]').exists()).toBe(false) // nothing plays yet
    await wrapper.get('video').trigger('playing')
    expect(wrapper.get('[data-test=how]').text()).toContain('encoded anew: privacy areas')
    expect(wrapper.get('[data-test=how]').attributes('title')).toContain('3 pictures skipped')
    wrapper.unmount()
  })
})

// WebRTC from a media server, by WHEP: one offer with all its candidates, one answer.

const GATHERING = 1_000 // ms for candidates; without a STUN server they are there at once
const CONNECTING = 8_000 // ms until a picture must come

/**
 * Plays what is offered at an address; resolves once it is connected, with what ends it. Rejects when it is not to be had.
 * `over`: it has broken off.
 */
export async function whep(address: string, show: (stream: MediaStream) => void, over: () => void): Promise<() => void> {
  const peer = new RTCPeerConnection()
  const asked = new AbortController()
  let place = ''
  const end = (): void => {
    peer.onconnectionstatechange = null
    asked.abort()
    peer.close()
    if (place) void fetch(place, { method: 'DELETE' }).catch(() => undefined) // it ends without it too, a little later
    place = ''
  }
  try {
    peer.addTransceiver('video', { direction: 'recvonly' })
    peer.ontrack = ({ streams: [stream], track }) => show(stream ?? new MediaStream([track]))
    await peer.setLocalDescription(await peer.createOffer())
    if (peer.iceGatheringState !== 'complete') {
      await within(GATHERING, (done) => (peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && done())).catch(() => undefined)
    }
    const timer = setTimeout(() => asked.abort(), CONNECTING)
    const answer = await fetch(address, {
      method: 'POST', headers: { 'content-type': 'application/sdp' }, body: peer.localDescription?.sdp ?? '', signal: asked.signal,
    }).finally(() => clearTimeout(timer))
    if (answer.status !== 201) throw new Error(`expected 201 of the media server, got ${answer.status}`)
    place = new URL(answer.headers.get('location') ?? address, address).href
    await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() })
    await within(CONNECTING, (done, fail) => {
      peer.onconnectionstatechange = () => {
        if (peer.connectionState === 'connected') done()
        else if (peer.connectionState === 'failed' || peer.connectionState === 'closed') fail()
      }
      peer.onconnectionstatechange(new Event('now'))
    })
  } catch (error) {
    end()
    throw error
  }
  peer.onconnectionstatechange = () => {
    if (!['disconnected', 'failed', 'closed'].includes(peer.connectionState)) return
    end()
    over()
  }
  return end
}

function within(ms: number, wait: (done: () => void, fail: () => void) => void): Promise<void> {
  return new Promise((done, fail) => {
    const late = setTimeout(() => fail(new Error(`expected a connection within ${ms / 1_000} s`)), ms)
    wait(() => (clearTimeout(late), done()), () => (clearTimeout(late), fail(new Error('expected a connection, got none'))))
  })
}

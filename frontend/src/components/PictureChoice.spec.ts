import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import PictureChoice from './PictureChoice.vue'
import { shown } from '@/testing'

/** A browser that asks the viewer before it gives the webcam. */
function webcam() {
  const stop = vi.fn()
  let allow: (stream: object) => void = () => undefined
  let refuse: (error: Error) => void = () => undefined
  vi.stubGlobal('navigator', { languages: ['en'], mediaDevices: { getUserMedia: () => new Promise((yes, no) => ([allow, refuse] = [yes, no])) } })
  return { stop, allow: () => allow({ getTracks: () => [{ stop }] }), refuse: () => refuse(new Error('no')) }
}
const film = (wrapper: ReturnType<typeof shown>) => wrapper.findAll('button').find((one) => one.text() === 'Webcam' || one.text().includes('ebcam'))?.trigger('click')

it('switches the webcam off again when one left while the browser asked', async () => {
  const { stop, allow } = webcam()
  const wrapper = shown(PictureChoice, { props: { label: 'A face' } })
  await film(wrapper)
  wrapper.unmount()
  allow()
  await flushPromises()
  expect(stop).toHaveBeenCalledTimes(1)
})

it('says nothing of a refusal to who has left, and does to who is there', async () => {
  const first = webcam()
  const gone = shown(PictureChoice, { props: { label: 'A face' } })
  await film(gone)
  gone.unmount()
  first.refuse()
  await flushPromises()
  expect(document.querySelector('.el-message')).toBeNull()
  const second = webcam()
  await film(shown(PictureChoice, { props: { label: 'A face' } }))
  second.refuse()
  await vi.waitFor(() => expect(document.querySelector('.el-message')).not.toBeNull())
})

it('takes pictures of the kinds that the API reads', async () => {
  const wrapper = shown(PictureChoice, { props: { label: 'A face' } })
  const drop = (type: string) => wrapper.get('.choice').trigger('drop', { dataTransfer: { files: [new File(['x'], 'a', { type })] } })
  await drop('text/plain')
  expect(wrapper.emitted('chosen')).toBeUndefined()
  await drop('image/webp')
  expect(wrapper.emitted('chosen')).toHaveLength(1)
})

import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import { serve, shown } from '@/testing'

import PlanForm from './PlanForm.vue'

const at = <T extends Element>(selector: string): T => document.querySelector(selector) as T

it('is as high as its picture is in its width, and is sent with its picture', async () => {
  const { asked } = serve({ 'POST /v1/plans': { id: 'p1' }, 'PUT /v1/plans/p1/picture': { id: 'p1' } })
  vi.stubGlobal('URL', Object.assign(class extends URL {}, { createObjectURL: () => 'blob:x', revokeObjectURL: () => undefined }))
  vi.stubGlobal('Image', class {
    naturalWidth = 600
    naturalHeight = 200
    onload: (() => void) | null = null
    set src(_: string) {
      queueMicrotask(() => this.onload?.())
    }
  })
  const page = shown(PlanForm, { props: { plan: null, site: 'hall' } })
  await flushPromises()
  const save = at<HTMLButtonElement>('[data-test=save-plan]')
  expect(save.disabled).toBe(true) // it has no name
  const name = at<HTMLInputElement>('#plan-name')
  name.value = 'Ground floor'
  name.dispatchEvent(new Event('input'))
  const file = at<HTMLInputElement>('[data-test=plan-file]')
  Object.defineProperty(file, 'files', { value: [new File(['x'], 'plan.png', { type: 'image/png' })] })
  file.dispatchEvent(new Event('change'))
  await flushPromises()
  expect(document.body.textContent).toContain('5 cm') // 30 m over 600 pixels
  at<HTMLFormElement>('form').dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  expect(asked[0]?.body).toEqual({ site: 'hall', kind: 'image', name: 'Ground floor', floor: 0, west: 0, south: 0, east: 30, north: 10 })
  expect(asked.map((one) => one.call)).toContain('PUT /v1/plans/p1/picture')
  expect(page.emitted('close')).toHaveLength(1)
})

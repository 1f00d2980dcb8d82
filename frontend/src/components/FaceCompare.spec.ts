import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import { serve, shown } from '@/testing'

import FaceCompare from './FaceCompare.vue'

const face = { box: [0, 0, 10, 10], score: 0.9, state: 'none', look: 'none', look_score: 0.9 }
const answer = { chance: 0.93, false_matches: 0.0005, masked: 1, first: [face], second: [face, face], first_face: 0, second_face: 0, cosine: 0.6 }
function give(page: ReturnType<typeof shown>, which: number): void {
  const input = page.findAll<HTMLInputElement>('input[type=file]')[which]
  Object.defineProperty(input?.element, 'files', { value: [new File(['x'], 'a.jpg', { type: 'image/jpeg' })], configurable: true })
  void input?.trigger('change')
}

it('compares once both are given, and says how likely it is beside how many strangers are as alike', async () => {
  vi.stubGlobal('URL', Object.assign(class extends URL {}, { createObjectURL: () => 'blob:x', revokeObjectURL: () => undefined }))
  const { asked } = serve({ 'POST /v1/faces/compare/upload': answer })
  const page = shown(FaceCompare)
  expect(page.text()).toContain('Give two pictures')
  give(page, 0)
  await flushPromises()
  expect(asked).toEqual([])
  give(page, 0) // the one that is left
  await vi.waitFor(() => expect(page.text()).toContain('93%'))
  expect(page.text()).toContain('One pair of strangers in 2,000')
  expect(asked).toHaveLength(1)
  expect(String(asked[0]?.body)).not.toContain('first_face') // the server chooses
  await page.findAll('button').find((button) => button.text() === 'Another picture')?.trigger('click')
  await flushPromises()
  expect(page.text()).toContain('Give two pictures')
})

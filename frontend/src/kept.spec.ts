import { beforeEach, expect, it, vi } from 'vitest'

import { forgetOthers, keep, kept, keptOf, mine } from './kept'

beforeEach(() => localStorage.clear())

it('keeps for a user what the next one does not get', () => {
  keep(mine('u1', 'chat.a'), '1')
  keep(mine('u2', 'chat.b'), '2')
  keep('maskwatch.theme', '"dark"')
  expect(keptOf('u1', 'chat.')).toEqual(['maskwatch.mine.u1.chat.a'])
  forgetOthers('u2')
  expect(Object.keys(localStorage).sort()).toEqual(['maskwatch.mine.u2.chat.b', 'maskwatch.theme'])
  forgetOthers('')
  expect(Object.keys(localStorage)).toEqual(['maskwatch.theme'])
})

it('keeps nothing, and fails at nothing, where the browser refuses', () => {
  const no = () => { throw new DOMException('refused', 'SecurityError') }
  vi.stubGlobal('localStorage', { getItem: no, setItem: no, removeItem: no })
  expect([keep('a', '1'), kept('a')]).toEqual([false, null])
  expect(() => forgetOthers('u1')).not.toThrow()
  vi.stubGlobal('localStorage', undefined)
  expect([keep('a', '1'), kept('a'), keptOf('u1', '')]).toEqual([false, null, []])
})

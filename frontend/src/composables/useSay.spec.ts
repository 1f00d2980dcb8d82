import { expect, it } from 'vitest'

import { useSay } from './useSay'
import { Problem } from '@/api/client'
import { within } from '@/testing'

const say = (error: unknown, language: 'en' | 'zh-CN' = 'en'): string => within(() => useSay(), { language }).words(error)

it('says in the viewer\'s language what kind of fault it is, and as the server says what was expected', () => {
  const problem = new Problem(404, 'no such camera', "expected the id of a camera you may see, got 'x'")
  expect(say(problem)).toBe("No such camera: expected the id of a camera you may see, got 'x'")
  expect(say(problem, 'zh-CN')).toBe("没有这个摄像头：expected the id of a camera you may see, got 'x'")
})

it('knows a title that it was not told of by its code, and else says it as it came', () => {
  expect(say(new Problem(409, 'brand new', 'it is so'), 'zh-CN')).toBe('与现有内容冲突：it is so')
  expect(say(new Problem(418, 'teapot', ''))).toBe('teapot')
})

it('does not say the same twice, and what a proxy or no server says in words of ours', () => {
  expect(say(new Problem(409, 'closed already', 'closed already'))).toBe('Closed already')
  expect(say(new Problem(502, 'Bad Gateway', ''), 'zh-CN')).toBe('外部服务没有响应')
  expect(say(new Problem(0, 'offline', 'TypeError: refused'))).toBe('The server cannot be reached')
  expect(say(new Error('a fault of the page'))).toBe('a fault of the page')
})

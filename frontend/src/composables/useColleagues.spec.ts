import { expect, it, vi } from 'vitest'
import { ref } from 'vue'

import { useColleagues } from './useColleagues'
import { useDoneReplays } from './useReplays'
import { loggedIn, serve, within } from '@/testing'

/** A list of so many that the server gives 500 at a time. */
const long = (of: number, shape: (n: number) => object) => (url: URL) => {
  const from = Number(url.searchParams.get('cursor') ?? 0)
  const limit = Number(url.searchParams.get('limit'))
  const items = Array.from({ length: Math.max(0, Math.min(limit, of - from)) }, (_, n) => shape(from + n))
  return { items, next: from + limit < of ? String(from + limit) : null }
}

it('knows everybody by name, however many they are', async () => {
  serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/users': long(1_200, (n) => ({ id: `u${n}`, name: `user-${n}`, full_name: '', active: n !== 7 })) })
  loggedIn(['users.view'], {}, 'u3')
  const { colleagues, every, nameOf } = within(() => useColleagues())
  await vi.waitFor(() => expect(every.value).toHaveLength(1_200))
  expect(colleagues.value).toHaveLength(1_199) // of whom one may not log in any more
  expect([nameOf('u1199'), nameOf('u7'), nameOf('gone'), nameOf('')]).toEqual(['user-1199', 'user-7', 'a colleague', '–'])
})

it('compares with any run that is done, on whatever page of the list it is', async () => {
  const { asked } = serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/replays': long(600, (n) => ({ id: `r${n}`, state: 'done' })) })
  loggedIn(['compliance.view'])
  const { data } = within(() => useDoneReplays(ref('a')))
  await vi.waitFor(() => expect(data.value).toHaveLength(600))
  expect(asked.filter(({ call }) => call.startsWith('GET /v1/replays')).every(({ call }) => call.includes('site=a') && call.includes('state=done'))).toBe(true)
})

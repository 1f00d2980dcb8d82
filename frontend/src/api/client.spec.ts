import { expect, test } from 'vitest'

import { serve } from '@/testing'

import { api, got, multipart, onLoginEnded, Problem } from './client'

test('what the server says went wrong is what is thrown', async () => {
  serve({ 'GET /v1/sites': () => Response.json({ title: 'bad', detail: 'expected a cursor' }, { status: 400 }) })
  await expect(got(api.GET('/v1/sites'))).rejects.toEqual(new Problem(400, 'bad', 'expected a cursor'))
})

test('a page of a proxy is a problem too, and so is no answer', async () => {
  serve({ 'GET /v1/sites': () => new Response('<html>', { status: 502, statusText: 'Bad Gateway' }) })
  await expect(got(api.GET('/v1/sites'))).rejects.toMatchObject({ status: 502, title: 'Bad Gateway' })
  serve({ 'GET /v1/sites': () => { throw new TypeError('refused') } })
  await expect(got(api.GET('/v1/sites'))).rejects.toMatchObject({ status: 0 })
})

test('an ended login is told once it is seen, but not for a wrong password', async () => {
  let ended = 0
  onLoginEnded(() => ended++)
  const no = () => Response.json({ title: 'no', detail: 'ended' }, { status: 401 })
  serve({ 'GET /v1/me': no, 'POST /v1/login': no })
  await expect(got(api.GET('/v1/me'))).rejects.toMatchObject({ status: 401 })
  expect(ended).toBe(1)
  await expect(got(api.POST('/v1/login', { body: { name: 'a', password: 'b' } }))).rejects.toMatchObject({ status: 401 })
  expect(ended).toBe(1)
})

test('a form holds every file and leaves out what is not there', () => {
  const form = multipart({ files: [new Blob(['a']), new Blob(['b'])], least: 0.5, note: undefined })
  expect([form.getAll('files').length, form.get('least'), form.has('note')]).toEqual([2, '0.5', false])
})

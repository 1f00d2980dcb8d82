import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import ErasureDialog from './ErasureDialog.vue'
import { loggedIn, serve, shown } from '@/testing'

const plan = { visitors: 2, tracks: 7, faces: 40, episodes: 3 }
const erasure = (more: object) => ({ id: 'x', at: '', site: '', reason: '', plan: null, report: { rows: { sightings: 7 }, pictures: 40, vectors: 12 }, ...more })

async function view(answer: (body: { dry: boolean }) => unknown, permissions = ['people.view', 'people.remove'], at = {}) {
  document.body.innerHTML = ''
  const server = serve({ 'GET /v1/sites': { items: [], next: null }, 'GET /v1/erasures': { items: [], next: null }, 'POST /v1/erasures': (_: URL, body: { dry: boolean }) => answer(body) })
  loggedIn(permissions, at)
  const wrapper = shown(ErasureDialog, { props: { open: true, name: 'Wang', person: 'p1' } })
  await flushPromises()
  return { server, wrapper }
}
const go = () => document.querySelector<HTMLButtonElement>('[data-test=erasure-go]')
async function because(words: string) {
  const field = document.querySelector('textarea') as HTMLTextAreaElement
  field.value = words
  field.dispatchEvent(new Event('input'))
  await flushPromises()
}
const writes = (server: { asked: { call: string; body: unknown }[] }) => server.asked.filter(({ call }) => call.startsWith('POST')).map(({ body }) => body)

it('says first what would go, erases only with a reason, and then shows the report', async () => {
  const { server, wrapper } = await view((body) => (body.dry ? erasure({ plan }) : erasure({})))
  expect(document.querySelector('[data-test=erasure-plan]')?.textContent).toContain('visitors 2, tracks 7, faces 40, breaches 3')
  expect(writes(server)).toEqual([{ person: 'p1', visitor: '', reason: '?', dry: true }])
  expect(go()?.disabled).toBe(true)
  await because('  asked for it ')
  go()?.click()
  await flushPromises()
  expect(writes(server)[1]).toEqual({ person: 'p1', visitor: '', reason: 'asked for it', topics: false, dry: false })
  expect(document.querySelector('[data-test=erasure-report]')?.textContent).toContain('40')
  expect(go()).toBeNull()
  ;[...document.querySelectorAll<HTMLButtonElement>('.el-dialog__footer button')].at(-1)?.click()
  await flushPromises()
  expect(wrapper.emitted('close')?.at(-1)).toEqual([true])
})

it('erases nothing when what would go cannot be told', async () => {
  await view(() => Response.json({ title: 'not ready', detail: 'the database does not answer' }, { status: 503 }))
  expect(document.querySelector('.el-dialog')?.textContent).toContain('the database does not answer')
  expect(document.querySelector('textarea')).toBeNull()
  expect(go()?.disabled).toBe(true)
})

it('offers the topics only to who may erase everywhere', async () => {
  await view(() => erasure({ plan }), ['people.view', 'people.remove'], { site: 'a' })
  expect(document.querySelector('.el-checkbox')).toBeNull()
  await view(() => erasure({ plan }))
  expect(document.querySelector('.el-checkbox')?.textContent).toContain('Also delete the stretches')
})

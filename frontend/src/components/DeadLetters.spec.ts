import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import DeadLetters from './DeadLetters.vue'
import { loggedIn, serve, shown } from '@/testing'

const letter = (n: number, reason: string, more: object = {}) => ({
  id: `faces:0:${n}:embed`, topic: 'faces', partition: 0, offset: n, stage: 'embed', reason, at: 1_795_000_000_000_000, key: 'gate', bytes: 120, cut: false, redriven: null, ...more,
})
const REASONS: [string, string][] = [
  ['expected a Faces as JSON, got 12 bytes: JSON is malformed', 'It is no such message, or none that can be read'],
  ['expected a Faces with times of 0 to 4102444800000000 µs UTC, got at = -1', 'Its times make no sense'],
  ["expected `at` to be at most 300 s after the record's own time, got 900 s: a clock is wrong, or who wrote it is (MASKWATCH_AHEAD)", "It says a time after its own record: somebody's clock is wrong"],
  ["expected the key 'gate' in partition 3 (murmur2, as Kafka's own client places it), got it in 0", 'It lies in another partition than its key belongs to'],
  ["expected the key 'gate', its camera, got 'dock'", 'Its key is not what the message says'],
  ['ValueError: cannot reshape array', 'The stage failed on it'],
  ['something else', ''],
]

async function view(permissions: string[], letters: object[], answers: Record<string, unknown> = {}) {
  const server = serve({ 'GET /v1/dead-letters': { items: letters, next: null }, 'POST /v1/dead-letters/redrive': { ids: ['faces:0:0:embed'], more: false }, 'GET /v1/sites': { items: [], next: null }, ...answers })
  loggedIn(permissions)
  const wrapper = shown(DeadLetters)
  await flushPromises()
  return { server, wrapper }
}
const sent = (server: { asked: { call: string; body: unknown }[] }) => server.asked.filter(({ call }) => call.startsWith('POST')).map(({ body }) => body)

it('says what kind of reason it is above the words of the stage', async () => {
  const { wrapper } = await view(['system.view'], REASONS.map(([reason], n) => letter(n, reason)))
  expect(wrapper.findAll('[data-test=letter]').map((one) => one.find('[data-test=reason-kind]').exists() ? one.get('[data-test=reason-kind]').text() : '')).toEqual(REASONS.map(([, kind]) => kind))
  expect(wrapper.text()).toContain('JSON is malformed')
  expect(wrapper.find('[data-test=redrive-all]').exists()).toBe(false) // one may look, not send
})

it('sends those again that were chosen, and forgets the choice', async () => {
  const { server, wrapper } = await view(['system.view', 'system.run'], [letter(0, 'a'), letter(1, 'b', { cut: true })])
  const boxes = wrapper.findAll<HTMLInputElement>('[data-test=letter] input')
  expect(boxes.map((one) => one.element.disabled)).toEqual([false, true]) // of the other only the beginning is there
  await boxes[0]?.setValue(true)
  await wrapper.get('[data-test=redrive-some]').trigger('click')
  await flushPromises()
  expect(sent(server)).toEqual([{ ids: ['faces:0:0:embed'], again: false }])
  expect(document.body.textContent).toContain('1 sent again')
  expect(wrapper.get('[data-test=redrive-some]').attributes('disabled')).toBeDefined()
})

it('sends all that fit the filter, and says when there are more', async () => {
  const { server, wrapper } = await view(['system.view', 'system.run'], [letter(0, 'a')], { 'POST /v1/dead-letters/redrive': { ids: ['x', 'y'], more: true } })
  const all = async () => {
    await wrapper.get('[data-test=redrive-all]').trigger('click')
    const yes = () => [...document.querySelectorAll<HTMLButtonElement>('.el-popconfirm button')].find((one) => one.textContent?.trim() === 'Send again')
    await vi.waitFor(() => expect(yes()).toBeDefined())
    yes()?.click()
    await flushPromises()
  }
  await all()
  const reason = wrapper.get<HTMLInputElement>('input[placeholder="Part of the reason"]')
  await reason.setValue('reshape')
  await reason.trigger('change')
  await flushPromises()
  await all()
  expect(sent(server)).toEqual([{ every: true }, { stage: '', reason: 'reshape' }])
  expect(document.body.textContent).toContain('there are more')
})

it('keeps the choice when they could not be sent', async () => {
  const { wrapper } = await view(['system.view', 'system.run'], [letter(0, 'a')], { 'POST /v1/dead-letters/redrive': () => Response.json({ title: 'no answer from the broker', detail: 'expected it within 10 s' }, { status: 503 }) })
  const [box] = wrapper.findAll<HTMLInputElement>('[data-test=letter] input')
  await box?.setValue(true)
  await wrapper.get('[data-test=redrive-some]').trigger('click')
  await flushPromises()
  expect(document.body.textContent).toContain('No answer from the broker: expected it within 10 s')
  expect(wrapper.get('[data-test=redrive-some]').attributes('disabled')).toBeUndefined()
})

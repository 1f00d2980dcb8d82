import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import PersonHistory from './PersonHistory.vue'
import { loggedIn, serve, shown } from '@/testing'

const PERSON = 'a'.repeat(32)
const sighting = (n: number, camera = 'gate') => ({ id: `t${n}`, site: 'a', camera, start: 1_795_000_000_000_000 + n, end: 1_795_000_001_000_000 + n, state: 'none', zone: '', face: '', score: 1 })

async function view(id: string, permissions: string[], at: { site?: string; camera?: string } = {}, answers: Record<string, unknown> = {}) {
  const history = { person: id === PERSON ? PERSON : '', name: '', visitors: ['v1', 'v2'], sightings: [sighting(1), sighting(2), sighting(3)], trajectories: [], episodes: [] }
  const server = serve({
    'GET /v1/sites': { items: [], next: null }, 'GET /v1/cameras': { items: [], next: null }, [`GET /v1/people/${PERSON}/history`]: history, 'GET /v1/visitors/v1': history,
    'POST /v1/decisions': { id: 1 }, ...answers,
  })
  loggedIn(permissions, at)
  const wrapper = shown(PersonHistory, { props: { id } })
  await flushPromises()
  const decide = async (what: string, words: string) => {
    await wrapper.get(`[data-test=${what}]`).trigger('click')
    await flushPromises()
    const field = document.querySelector<HTMLTextAreaElement>('textarea[data-test=words]') as HTMLTextAreaElement
    field.value = words
    field.dispatchEvent(new Event('input'))
    await flushPromises()
    document.querySelector('.el-dialog form')?.dispatchEvent(new Event('submit', { cancelable: true }))
    await flushPromises()
  }
  const decided = () => server.asked.filter(({ call }) => call === 'POST /v1/decisions').map(({ body }) => body)
  return { wrapper, decide, decided }
}
const RIGHTS = ['people.view', 'people.review']

it('splits off what was chosen, but never all', async () => {
  const { wrapper, decide, decided } = await view('v1', RIGHTS)
  const split = () => wrapper.get('[data-test=split]').attributes('disabled') !== undefined
  expect(split()).toBe(true)
  const boxes = wrapper.findAll<HTMLInputElement>('[data-test=sighting] input')
  await boxes[0]?.setValue(true)
  await boxes[2]?.setValue(true)
  expect(split()).toBe(false)
  await boxes[1]?.setValue(true)
  expect(split()).toBe(true)
  await boxes[1]?.setValue(false)
  await decide('split', 'another coat')
  expect(decided()).toEqual([{ kind: 'split', subject: 'v1', tracks: ['t1', 't3'], reason: 'another coat' }])
})

it('merges with an id, or with the address of a page', async () => {
  for (const [words, object] of [['v9', 'v9'], ['https://host/people/gate%40170%230', 'gate@170#0'], ['https://host/map?trajectory=gate%40170%230&x=1', 'gate@170#0']] as const) {
    document.body.innerHTML = ''
    const { decide, decided } = await view('v1', RIGHTS)
    await decide('merge', words)
    expect(decided()).toEqual([{ kind: 'merge', subject: 'v1', object }])
  }
})

it('says of every visitor behind the name that it is not them', async () => {
  const { decide, decided } = await view(PERSON, RIGHTS)
  await decide('not', 'a twin')
  expect(decided()).toEqual(['v1', 'v2'].map((subject) => ({ kind: 'not', subject, object: PERSON, reason: 'a twin' })))
})

it('lets nobody decide who may not at every camera that saw them', async () => {
  const { wrapper } = await view('v1', RIGHTS, { site: 'a', camera: 'dock' })
  expect(wrapper.find('[data-test=merge]').exists()).toBe(false)
  expect(wrapper.find('[data-test=sighting] input').exists()).toBe(false)
})

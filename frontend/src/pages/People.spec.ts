import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import ErasureReport from '@/components/ErasureReport.vue'
import PersonForm from '@/components/PersonForm.vue'
import { useSession } from '@/composables/useSession'
import { serve, shown } from '@/testing'

import People from './People.vue'

vi.setConfig({ testTimeout: 30_000 })
const rights = ['people.view', 'people.add', 'people.edit', 'people.review', 'people.remove']
const me = { id: 'u1', name: 'li', full_name: 'Li', language: 'en', permissions: rights, rights: [{ role: 'lead', site: '', camera: '', permissions: rights, until: null }] }
const person = { id: 'a'.repeat(32), site: '', name: 'Wang', number: '7', roles: [], note: '', created: '2026-01-01T00:00:00Z', by: 'u1', withdrawn: null, portraits: 0, lists: [] }
const site = (privacy: string) => ({ id: 'a', name: 'Hall', time_zone: 'UTC', privacy, blur_others: false, origin: null, policy: '', cameras: 1, plans: 0 })
const answers = (privacy: string) => ({ 'GET /v1/sites': { items: [site(privacy)], next: null }, 'GET /v1/people': { items: [person], next: null }, 'GET /v1/watch-lists': [], 'GET /v1/erasures': { items: [], next: null } })

it('lists enrolled people, and says where nobody is recognised by name', async () => {
  serve(answers('anonymous'))
  useSession().me = me as never
  const page = shown(People)
  await vi.waitFor(() => expect(page.findAll('[data-test=person]')).toHaveLength(1))
  expect(page.get('[data-test=dial]').text()).toContain('Hall')
  expect(page.get('[data-test=dial]').text()).toContain('no face vectors')
  page.unmount()
})

it('does not say so where the site allows it', async () => {
  serve(answers('enrolled'))
  useSession().me = me as never
  const page = shown(People)
  await vi.waitFor(() => expect(page.findAll('[data-test=person]')).toHaveLength(1))
  expect(page.find('[data-test=dial]').exists()).toBe(false)
  page.unmount()
})

it('enrols only who agreed, with the words they agreed to', async () => {
  const { asked } = serve({ ...answers('enrolled'), 'POST /v1/people': { ...person, consents: [], pictures: [] } })
  useSession().me = me as never
  const form = shown(PersonForm, { props: { open: true } })
  await flushPromises()
  const find = (name: string) => document.querySelector<HTMLElement>(`[data-test=${name}]`)
  await vi.waitFor(() => expect(find('person-name')).toBeTruthy())
  const name = find('person-name') as HTMLInputElement
  name.value = 'Wang'
  name.dispatchEvent(new Event('input'))
  await flushPromises()
  expect((find('person-save') as HTMLButtonElement).disabled).toBe(true)
  find('consent-sure')?.querySelector('input')?.click()
  find('consent-sure')?.click()
  await flushPromises()
  if ((find('person-save') as HTMLButtonElement).disabled) find('consent-sure')?.querySelector('input')?.click()
  await flushPromises()
  find('person-save')?.click()
  await vi.waitFor(() => expect(asked.find(({ call }) => call === 'POST /v1/people')?.body).toMatchObject({ name: 'Wang', consent: { version: '1' } }))
  form.unmount()
})

it('shows what an erasure removed and what still holds records', () => {
  const erasure = { id: 'e', at: '2026-01-01T00:00:00Z', by: 'u1', site: 'a', reason: 'asked', plan: null, report: { rows: { faces: 12 }, pictures: 5, vectors: 4, topics: [{ topic: 'frames', shows: 'whole pictures', holds: true, until: 1_795_000_000_000_000 }, { topic: 'faces', shows: 'cut-outs', holds: false, until: null }], photos: { searched: 3, faces: 1, to_review: 2, review: [{ inspection: 'i1', photo: 'p1', taken: 1_795_000_000_000_000, why: 'perhaps' }] }, stays: ['backups'] } }
  const report = shown(ErasureReport, { props: { erasure } })
  for (const word of ['12', '5', 'frames', 'until', 'backups']) expect(report.text()).toContain(word)
  expect(report.text()).not.toContain('cut-outs')
  const photos = report.get('[data-test=erasure-photos]')
  for (const word of ['2 inspection photos', 'perhaps this person', 'and 1 more']) expect(photos.text()).toContain(word)
  expect(photos.get('a').attributes('href')).toContain('/inspections/i1')
})

import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'

import { serve, shown } from '@/testing'

import SiteForm from './SiteForm.vue'

const site = { id: 'hall', name: 'Hall', time_zone: 'Asia/Shanghai', privacy: 'enrolled', blur_others: true, origin: { latitude: 31.2, longitude: 121.5, bearing: 10 } }
const at = <T extends Element>(selector: string): T => document.querySelector(selector) as T
async function write(selector: string, words: string): Promise<void> {
  const input = at<HTMLInputElement>(selector)
  input.value = words
  input.dispatchEvent(new Event('input'))
  await flushPromises()
}

it('makes a site only with an id and a name, pseudonymous and off the globe unless said otherwise', async () => {
  const { asked } = serve({ 'POST /v1/sites': { ...site, id: 'yard' } })
  const page = shown(SiteForm, { props: { site: null } })
  await flushPromises()
  await write('#site-name', 'Yard')
  expect(at<HTMLButtonElement>('[data-test=save-site]').disabled).toBe(true)
  await write('#site-id', ' yard ')
  at<HTMLFormElement>('form').dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  expect(asked.find((one) => one.call.startsWith('POST'))?.body).toMatchObject({ id: 'yard', name: 'Yard', privacy: 'pseudonymous', blur_others: false, origin: null })
  expect(page.emitted('made')).toEqual([['yard']])
})

it('changes one with what it is, and stays open when that is refused', async () => {
  const { asked } = serve({ 'PATCH /v1/sites/hall': () => Response.json({ status: 422, title: 'no such zone', detail: 'expected a time zone' }, { status: 422 }) })
  const page = shown(SiteForm, { props: { site } })
  await flushPromises()
  expect(document.querySelector('#site-id')).toBeNull()
  at<HTMLFormElement>('form').dispatchEvent(new Event('submit', { cancelable: true }))
  await flushPromises()
  expect(asked.at(-1)?.body).toEqual({ name: 'Hall', time_zone: 'Asia/Shanghai', privacy: 'enrolled', blur_others: true, origin: site.origin })
  expect(page.emitted('close')).toBeUndefined()
  expect(document.body.textContent).toContain('expected a time zone')
})

it('says what a setting that allows less removes, before it is saved', async () => {
  serve({})
  shown(SiteForm, { props: { site } })
  await flushPromises()
  const choose = async (privacy: string): Promise<string> => {
    at<HTMLInputElement>(`input[value=${privacy}]`).click()
    await flushPromises()
    return document.querySelector('[data-test=privacy-loss]')?.textContent ?? ''
  }
  expect(document.querySelector('[data-test=privacy-loss]')).toBeNull()
  const names = await choose('pseudonymous')
  expect([names.includes('by name'), names.includes('pictures of faces')]).toEqual([true, false])
  const all = await choose('anonymous')
  expect([all.includes('by name'), all.includes('pictures of faces')]).toEqual([true, true])
  expect(await choose('enrolled')).toBe('')
})

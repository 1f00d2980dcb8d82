import { flushPromises } from '@vue/test-utils'
import { expect, it } from 'vitest'
import { computed, ref } from 'vue'

import type { Asking, Wanted } from '@/composables/useEpisodes'
import { serve, shown } from '@/testing'

import EpisodeFilters from './EpisodeFilters.vue'

function asking(wanted: Partial<Wanted>) {
  const told: unknown[] = []
  const asked = ref<Wanted>({ range: 'day', ...wanted })
  return { told, asking: { wanted: computed(() => asked.value), set: (changes) => told.push(changes), params: () => ({}) } satisfies Asking as Asking }
}

it('says what is set behind the key, and takes back one of it or all', async () => {
  serve({ 'GET /v1/cameras': { items: [], next: null }, 'GET /v1/colleagues': [] })
  const { asking: one, told } = asking({ status: 'open', zone: 'Lobby', exempt: 'only' })
  const page = shown(EpisodeFilters, { props: { asking: one } })
  await flushPromises()
  const tags = page.findAll('[data-test=filter-tag]')
  expect(tags.map((tag) => tag.text())).toEqual(['Going on', 'Lobby', 'Only exempt'])
  await tags[1]?.find('.el-tag__close').trigger('click')
  expect(told).toEqual([{ zone: '' }])
  await page.findAll('button').find((button) => button.text() === 'Clear filters')?.trigger('click')
  expect(told[1]).toEqual({ camera: '', state: '', status: '', review: '', assigned: '', zone: '', person: '', exempt: '', site: '' })
})

it('has nothing to take back where nothing is set', async () => {
  serve({})
  const page = shown(EpisodeFilters, { props: { asking: asking({}).asking } })
  await flushPromises()
  expect(page.findAll('[data-test=filter-tag]')).toHaveLength(0)
  expect(page.text()).not.toContain('Clear filters')
})

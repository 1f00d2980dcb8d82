import { expect, it } from 'vitest'

import { shown } from '@/testing'

import PointsOn from './PointsOn.vue'

it('sets points with the mouse and moves them by keys, within the picture', async () => {
  const page = shown(PointsOn, {
    props: { picture: '', label: 'Picture', ratio: 2, shapes: [{ name: 'Door', closed: true, chosen: true, points: [[0.5, 0.5], [1, 0.5], [1, 1]] }] },
  })
  const svg = page.get('svg')
  svg.element.getBoundingClientRect = () => ({ left: 100, top: 50, width: 400, height: 200, right: 500, bottom: 250, x: 100, y: 50, toJSON: () => ({}) })
  await svg.trigger('click', { clientX: 300, clientY: 100 })
  expect(page.emitted('add')).toEqual([[[0.5, 0.25]]])
  const corners = page.findAll('circle')
  expect(corners[0]?.attributes('aria-label')).toBe('Door, point 1')
  await corners[0]?.trigger('keydown', { key: 'ArrowLeft' })
  await corners[1]?.trigger('keydown', { key: 'ArrowRight', shiftKey: true })
  expect(page.emitted('move')).toEqual([[0, 0, [0.495, 0.5]], [0, 1, [1, 0.5]]])
})

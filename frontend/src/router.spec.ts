import { expect, it } from 'vitest'

import { opens, routes } from './router'
import { useSession } from './composables/useSession'
import { loggedIn } from './testing'

/** Pages of the menu that somebody with these permissions is shown. */
function menu(permissions: string[], at: { site?: string } = {}): string[] {
  loggedIn(permissions, at)
  return routes.filter((one) => one.meta?.group && opens(one.meta.needs, useSession().may)).map((one) => String(one.name))
}

it('shows models to everybody who is judged by them', () => {
  expect(menu([])).toEqual(['models'])
})

it('shows settings to who may see how long data is kept, or the settings themselves', () => {
  expect(menu(['system.view'])).toEqual(['stream', 'models'])
  expect(menu(['people.view'])).toContain('settings')
  expect(menu(['people.view'], { site: 'a' })).toContain('settings')
  expect(menu(['system.edit'])).toContain('settings')
  expect(menu(['system.edit'], { site: 'a' })).not.toContain('settings') // they are of the whole installation
})

it('opens a page by what its API asks for', () => {
  const may = (held: string[]) => (permission: string, site?: string) => held.includes(permission + (site === undefined ? '' : '*'))
  expect([opens(undefined, may([])), opens('a.view', may(['a.view'])), opens('a.view', may([]))]).toEqual([true, true, false])
  expect([opens(['a.view', 'b.edit*'], may(['b.edit*'])), opens(['a.view', 'b.edit*'], may(['b.edit']))]).toEqual([true, false])
})

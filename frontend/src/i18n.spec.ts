import { expect, test } from 'vitest'

type Words = { [key: string]: string | Words }
const files = import.meta.glob<{ default: Words }>('./locales/*/*.json', { eager: true })

function flat(words: Words, before = ''): [string, string][] {
  return Object.entries(words).flatMap(([key, value]) =>
    typeof value === 'string' ? [[before + key, value] as [string, string]] : flat(value, `${before}${key}.`),
  )
}
const areas = [...new Set(Object.keys(files).map((path) => path.replace(/^.*\//, '')))]

test.each(areas)('%s says the same in both languages', (area) => {
  const english = flat(files[`./locales/en/${area}`]?.default ?? {})
  const chinese = flat(files[`./locales/zh-CN/${area}`]?.default ?? {})
  expect(chinese.map(([key]) => key).sort()).toEqual(english.map(([key]) => key).sort())
  const holes = (text: string) => [...new Set(text.match(/\{[^}]*\}/g) ?? [])].sort()
  for (const [key, text] of english) {
    expect(text.trim(), key).not.toBe('')
    expect(holes(chinese.find(([other]) => other === key)?.[1] ?? ''), key).toEqual(holes(text))
  }
})

test('the Chinese is Chinese', () => {
  const all = areas.flatMap((area) => flat(files[`./locales/zh-CN/${area}`]?.default ?? {}))
  const without = all.filter(([, text]) => !/[\u4e00-\u9fff]/.test(text) && /[a-z]{4}/.test(text.replace(/\{[^}]*\}/g, '')))
  expect(without.length, JSON.stringify(without)).toBeLessThan(all.length * 0.05) // names of products stay as they are
})

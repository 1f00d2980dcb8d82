// The two languages: one JSON file an area in src/locales/<language>/; those of the language that is shown are fetched as one.
import { createI18n } from 'vue-i18n'

import { keep, kept } from './kept'

export const LANGUAGES = { 'zh-CN': '简体中文', en: 'English' } as const
export type Language = keyof typeof LANGUAGES
export type Words = { [key: string]: string | Words }

const files: Record<Language, () => Promise<{ words: Words }>> = { en: () => import('./locales/en'), 'zh-CN': () => import('./locales/zh-CN') }
const loaded = new Set<Language>()
const KEPT = 'maskwatch.language'

export const i18n = createI18n({
  legacy: false,
  locale: 'en',
  fallbackLocale: 'en',
  missingWarn: true,
  fallbackWarn: false,
})

/** What the API says in English as the last part of a key: `no such camera` -> `no_such_camera`. */
export const slug = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]+/g, '_').replace(/^_|_$/g, '')

/** What was chosen here before (`?lang=` of the address counts), else what the browser asks for first. */
export function wished(): Language {
  const asked = new URLSearchParams(location.search).get('lang') ?? kept(KEPT)
  for (const one of [asked, ...navigator.languages]) {
    if (one?.toLowerCase().startsWith('zh')) return 'zh-CN'
    if (one?.toLowerCase().startsWith('en')) return 'en'
  }
  return 'en'
}

export async function speak(language: Language): Promise<void> {
  if (!loaded.has(language)) {
    const { words } = await files[language]()
    i18n.global.setLocaleMessage(language, words as never)
    loaded.add(language)
  }
  ;(i18n.global.locale as unknown as { value: Language }).value = language
  document.documentElement.lang = language
  keep(KEPT, language)
}

// All areas of this language.
import type { Words } from '@/i18n'

const files = import.meta.glob<Words>('./*.json', { eager: true, import: 'default' })

export const words: Words = Object.fromEntries(Object.entries(files).map(([path, area]) => [path.replace(/^.*\/|\.json$/g, ''), area]))

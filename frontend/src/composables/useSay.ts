// Telling the viewer how something went; a Problem in words that say what to do.
import { ElMessage } from 'element-plus/es/components/message/index.mjs'
import 'element-plus/es/components/message/style/css.mjs'
import { useI18n } from 'vue-i18n'

import { Problem } from '@/api/client'
import { slug } from '@/i18n'

export function useSay() {
  const { t, te } = useI18n()
  /** What kind of fault it is, in the viewer's language: by its title, else by its code. */
  function kind(problem: Problem): string {
    const keys = [`problems.titles.${slug(problem.title)}`, `problems.status.${problem.status}`]
    const known = keys.find((key) => te(key))
    return known ? t(known) : problem.title
  }
  /** One line about what went wrong: what kind of fault, and what was expected as the server says it. */
  function words(error: unknown): string {
    if (error instanceof Problem) {
      if (error.status === 0) return t('common.offline')
      const what = kind(error)
      return error.detail && error.detail !== error.title ? t('common.because', { what, why: error.detail }) : what
    }
    return error instanceof Error ? error.message : String(error)
  }
  const done = (text: string) => ElMessage({ message: text, type: 'success', grouping: true, showClose: true })
  const failed = (error: unknown) =>
    ElMessage({ message: words(error), type: 'error', grouping: true, showClose: true, duration: 8_000 })
  /** Does it, says that it is done; on a fault says so and returns undefined. */
  async function tried<T>(what: () => Promise<T>, text?: string): Promise<T | undefined> {
    try {
      const result = await what()
      if (text) done(text)
      return result
    } catch (error) {
      failed(error)
      return undefined
    }
  }
  return { words, done, failed, tried }
}

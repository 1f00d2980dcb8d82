// Telling the viewer how something went; a Problem in words that say what to do.
import { ElMessage } from 'element-plus/es/components/message/index.mjs'
import 'element-plus/es/components/message/style/css.mjs'
import { useI18n } from 'vue-i18n'

import { Problem } from '@/api/client'

export function useSay() {
  const { t } = useI18n()
  /** One line about what went wrong. */
  function words(error: unknown): string {
    if (error instanceof Problem) {
      if (error.status === 0) return t('common.offline')
      if (error.status === 403) return `${t('common.forbidden')} ${error.detail}`
      return error.detail || error.title
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

// The page: what is there for as long as it is open.
import 'element-plus/theme-chalk/base.css'
import 'element-plus/theme-chalk/dark/css-vars.css'
import './style.css'

import { VueQueryPlugin } from '@tanstack/vue-query'
import { ElMessage } from 'element-plus/es/components/message/index.mjs'
import 'element-plus/es/components/message/style/css.mjs'
import { createPinia } from 'pinia'
import { createApp } from 'vue'

import { onLoginEnded } from './api/client'
import App from './App.vue'
import { followLive, followUser, makeQueries } from './composables/useQueries'
import { useLive } from './composables/useLive'
import { useSession } from './composables/useSession'
import { followTheme } from './composables/useTheme'
import { i18n, speak, wished } from './i18n'
import { answering, renew, renewWhenReplaced, wasRenewed } from './renew'
import { router } from './router'

const queries = makeQueries()
const app = createApp(App).use(createPinia()).use(VueQueryPlugin, { queryClient: queries }).use(i18n)
const { t } = i18n.global

onLoginEnded(() => {
  const session = useSession()
  if (!session.me) return
  session.me = null
  useLive().stop()
  void router.push({ name: 'login', query: { to: router.currentRoute.value.fullPath, ended: '1' } })
})

followTheme()
followUser(queries)
renewWhenReplaced(router, () => ElMessage({ message: t('common.partMissing'), type: 'error', showClose: true, duration: 0, grouping: true }))
speak(wished()).then(() => {
  app.use(router)
  followLive(queries)
  app.mount('#app')
  if (wasRenewed()) ElMessage({ message: t('common.renewed'), type: 'info', showClose: true, duration: 8_000 })
}).catch(async () => {
  // without words nothing can be shown but these
  await answering()
  if (renew(location.href)) return
  const page = document.querySelector('#app')
  if (page) page.textContent = 'The dashboard could not be loaded; please load this page again. 界面加载失败，请重新加载页面。'
})

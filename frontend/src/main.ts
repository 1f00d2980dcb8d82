// The page: what is there for as long as it is open.
import 'element-plus/theme-chalk/base.css'
import 'element-plus/theme-chalk/dark/css-vars.css'
import './style.css'

import { VueQueryPlugin } from '@tanstack/vue-query'
import { createPinia } from 'pinia'
import { createApp } from 'vue'

import { onLoginEnded } from './api/client'
import App from './App.vue'
import { followLive, makeQueries } from './composables/useQueries'
import { useLive } from './composables/useLive'
import { useSession } from './composables/useSession'
import { followTheme } from './composables/useTheme'
import { i18n, speak, wished } from './i18n'
import { router } from './router'

const queries = makeQueries()
const app = createApp(App).use(createPinia()).use(VueQueryPlugin, { queryClient: queries }).use(i18n)

onLoginEnded(() => {
  const session = useSession()
  if (!session.me) return
  session.me = null
  useLive().stop()
  queries.clear()
  void router.push({ name: 'login', query: { to: router.currentRoute.value.fullPath, ended: '1' } })
})

followTheme()
void speak(wished()).then(() => {
  app.use(router)
  followLive(queries)
  app.mount('#app')
})

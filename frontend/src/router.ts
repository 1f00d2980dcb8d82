// The pages, what each needs, and where a stranger is sent.
import { createRouter, createWebHistory, type RouteMeta, type RouteRecordRaw } from 'vue-router'

import { useSession } from './composables/useSession'

declare module 'vue-router' {
  interface RouteMeta {
    needs?: string | string[] // permission that must hold anywhere, with `*` behind it everywhere; of several one is enough
    open?: boolean // also without a login
    bare?: boolean // without the frame around it
    icon?: string // in the menu, with `menu.<name>` as its word
    group?: 'watch' | 'work' | 'run'
  }
}

/** Whether somebody may open a page: what its first request to the API asks for. */
export function opens(needs: RouteMeta['needs'], may: (permission: string, site?: string) => boolean): boolean {
  return !needs || [needs].flat().some((one) => (one.endsWith('*') ? may(one.slice(0, -1), '') : may(one)))
}

export const routes: RouteRecordRaw[] = [
  { path: '/login', name: 'login', component: () => import('./pages/Login.vue'), meta: { open: true, bare: true } },
  { path: '/', name: 'overview', component: () => import('./pages/Overview.vue'), meta: { needs: 'compliance.view', icon: 'DataBoard', group: 'watch' } },
  { path: '/live', name: 'live', component: () => import('./pages/Live.vue'), meta: { needs: 'cameras.view', icon: 'VideoCamera', group: 'watch' } },
  { path: '/map', name: 'map', component: () => import('./pages/Map.vue'), meta: { needs: 'cameras.view', icon: 'MapLocation', group: 'watch' } },
  { path: '/compliance', name: 'compliance', component: () => import('./pages/Compliance.vue'), meta: { needs: 'compliance.view', icon: 'TrendCharts', group: 'watch' } },
  { path: '/cameras/:id', name: 'camera', component: () => import('./pages/Camera.vue'), props: true, meta: { needs: 'cameras.view' } },
  { path: '/episodes/:id?', name: 'episodes', component: () => import('./pages/Episodes.vue'), props: true, meta: { needs: 'compliance.view', icon: 'Warning', group: 'work' } },
  { path: '/people/:id?', name: 'people', component: () => import('./pages/People.vue'), props: true, meta: { needs: 'people.view', icon: 'User', group: 'work' } },
  { path: '/search', name: 'search', component: () => import('./pages/Search.vue'), meta: { needs: 'people.run', icon: 'Search', group: 'work' } },
  { path: '/inspections/:id?', name: 'inspections', component: () => import('./pages/Inspections.vue'), props: true, meta: { needs: 'inspections.view', icon: 'Iphone', group: 'work' } },
  { path: '/replays/:id?', name: 'replays', component: () => import('./pages/Replays.vue'), props: true, meta: { needs: 'compliance.view', icon: 'RefreshLeft', group: 'work' } },
  { path: '/requests/:id?', name: 'requests', component: () => import('./pages/Requests.vue'), props: true, meta: { needs: 'requests.view', icon: 'Tickets', group: 'work' } },
  { path: '/alerts', name: 'alerts', component: () => import('./pages/Alerts.vue'), meta: { needs: 'compliance.view', icon: 'Bell', group: 'work' } },
  { path: '/sites/:id?', name: 'sites', component: () => import('./pages/Sites.vue'), props: true, meta: { needs: 'cameras.view', icon: 'OfficeBuilding', group: 'run' } },
  { path: '/users', name: 'users', component: () => import('./pages/Users.vue'), meta: { needs: 'users.view', icon: 'Key', group: 'run' } },
  { path: '/audit', name: 'audit', component: () => import('./pages/Audit.vue'), meta: { needs: 'users.view', icon: 'View', group: 'run' } },
  { path: '/stream', name: 'stream', component: () => import('./pages/StreamHealth.vue'), meta: { needs: 'system.view', icon: 'Connection', group: 'run' } },
  { path: '/models', name: 'models', component: () => import('./pages/Models.vue'), meta: { icon: 'Cpu', group: 'run' } },
  { path: '/settings', name: 'settings', component: () => import('./pages/Settings.vue'), meta: { needs: ['people.view', 'system.edit*'], icon: 'Setting', group: 'run' } },
  { path: '/me', name: 'me', component: () => import('./pages/Me.vue') },
  { path: '/:rest(.*)*', name: 'missing', component: () => import('./pages/Missing.vue') },
]

// What scrolls is <main>, not the window: a page opens at its top, one that is gone back to where it was left, and one
// with a #name there, once what was asked for has come.
const left = new Map<string, number>() // address -> how far down
const PATIENCE = 8_000 // ms
const NEAR = 80 // px below the upper edge
function within(main: Element, done: () => boolean): void {
  if (done()) return
  const stop = new AbortController()
  const watcher = new MutationObserver(() => done() && stop.abort())
  stop.signal.addEventListener('abort', () => watcher.disconnect())
  watcher.observe(main, { childList: true, subtree: true })
  setTimeout(() => stop.abort(), PATIENCE)
  // whoever scrolls meanwhile wants to be elsewhere
  for (const moved of ['wheel', 'touchstart', 'keydown']) addEventListener(moved, () => stop.abort(), { signal: stop.signal, passive: true })
}

export const router = createRouter({
  history: createWebHistory(),
  routes,
  scrollBehavior(to, from, saved) {
    const main = document.querySelector('main')
    if (!main) return
    if (saved) {
      const far = left.get(to.fullPath) ?? 0
      within(main, () => (main.scrollTo(0, far), main.scrollTop >= far - 1 || router.currentRoute.value.fullPath !== to.fullPath))
    } else if (to.hash) {
      // there for good only when it stands at the top: what is below it may be on its way still, and the page too short
      within(main, () => {
        const there = document.getElementById(to.hash.slice(1))
        if (router.currentRoute.value.fullPath !== to.fullPath) return true
        if (there && document.activeElement !== there) there.focus({ preventScroll: true })
        there?.scrollIntoView()
        return there !== null && there.getBoundingClientRect().top - main.getBoundingClientRect().top < NEAR
      })
    } else if (to.name !== from.name) {
      main.scrollTo(0, 0)
    }
  },
})
router.beforeResolve((_, from) => void left.set(from.fullPath, document.querySelector('main')?.scrollTop ?? 0))

router.beforeEach(async (to) => {
  const session = useSession()
  if (to.meta.open) return true
  if (!session.known) {
    try {
      await session.ask()
    } catch {
      return true // the server does not answer: the frame says so, and asks again
    }
  }
  if (session.known && !session.me) return { name: 'login', query: to.path === '/' ? {} : { to: to.fullPath } }
  return true
})

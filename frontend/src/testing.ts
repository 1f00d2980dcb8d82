// What every component test has around it: `shown(Component, …)` with store, words, queries and a router.
import { QueryClient, VueQueryPlugin } from '@tanstack/vue-query'
import { mount, type VueWrapper } from '@vue/test-utils'
import { createPinia, setActivePinia } from 'pinia'
import { afterEach, beforeEach, vi } from 'vitest'
import { type Component, defineComponent } from 'vue'
import { createI18n } from 'vue-i18n'
import { createMemoryHistory, createRouter } from 'vue-router'

import { useSession } from './composables/useSession'
import { words as english } from './locales/en'
import { words as chinese } from './locales/zh-CN'

class NoResizes {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}
globalThis.ResizeObserver ??= NoResizes as unknown as typeof ResizeObserver
globalThis.matchMedia ??= ((query: string) => ({
  matches: false, media: query, onchange: null, addListener: () => undefined, removeListener: () => undefined,
  addEventListener: () => undefined, removeEventListener: () => undefined, dispatchEvent: () => false,
})) as typeof matchMedia

beforeEach(() => setActivePinia(createPinia()))
afterEach(() => {
  document.body.innerHTML = ''
  vi.unstubAllGlobals()
})

interface Around {
  props?: Record<string, unknown>
  slots?: Record<string, string>
  at?: string // address
  language?: 'en' | 'zh-CN'
  queries?: QueryClient
  site?: string // the chosen one; '': every site
}
const patient = (): QueryClient => new QueryClient({ defaultOptions: { queries: { retry: false } } })

/** Mounted in the document, in English when nothing else is asked for. */
export function shown(component: Component, options: Around = {}): VueWrapper {
  if (options.site !== undefined) localStorage.setItem('maskwatch.site', JSON.stringify(options.site))
  const history = createMemoryHistory()
  history.replace(options.at ?? '/') // where the router begins when it is installed
  const router = createRouter({
    history,
    routes: [{ path: '/:rest(.*)*', name: 'any', component: { template: '<div />' } }],
  })
  return mount(component, {
    attachTo: document.body,
    props: options.props,
    slots: options.slots,
    global: {
      plugins: [
        createI18n({ legacy: false, locale: options.language ?? 'en', messages: { en: english as never, 'zh-CN': chinese as never } }),
        [VueQueryPlugin, { queryClient: options.queries ?? patient() }],
        router,
      ],
    },
  })
}

/** What a composable gives, asked in a component that shows nothing. */
export function within<T>(use: () => T, options: Around = {}): T & { gone: () => void } {
  let given: T | undefined
  const wrapper = shown(defineComponent({ setup: () => ((given = use()), () => null) }), options)
  return { ...(given as T), gone: () => wrapper.unmount() }
}

/** Somebody is logged in who may do this: everywhere, at a site, or at a camera of it. */
export function loggedIn(permissions: string[], at: { site?: string; camera?: string } = {}, id = 'u1'): void {
  useSession().me = {
    id, name: 'li', full_name: 'Li', language: 'en', permissions,
    rights: [{ role: 'lead', site: at.site ?? '', camera: at.camera ?? '', permissions }],
  }
  useSession().known = true
}

/** A small server: `method path` -> JSON (or a function of the request), 404 for the rest; what was asked is recorded. */
export function serve(answers: Record<string, unknown>): { asked: { call: string; body: unknown }[] } {
  const asked: { call: string; body: unknown }[] = []
  vi.stubGlobal('fetch', async (input: Request | string, init?: RequestInit) => {
    const request = input instanceof Request ? input : new Request(new URL(input, 'http://localhost'), init)
    const url = new URL(request.url)
    const call = `${request.method} ${url.pathname}`
    const text = await request.clone().text()
    let body: unknown = text
    try {
      body = text ? JSON.parse(text) : undefined
    } catch {
      // a form: the test looks at the text
    }
    asked.push({ call: call + url.search, body })
    const answer = answers[call + url.search] ?? answers[call]
    const made: unknown = typeof answer === 'function' ? (answer as (url: URL, body: unknown) => unknown)(url, body) : answer
    if (made instanceof Response) return made
    return made === undefined
      ? Response.json({ status: 404, title: 'not found', detail: `no answer for ${call}` }, { status: 404 })
      : Response.json(made)
  })
  return { asked }
}

import { flushPromises } from '@vue/test-utils'
import { expect, it, vi } from 'vitest'

import Me from './Me.vue'
import { serve, shown } from '@/testing'

vi.setConfig({ testTimeout: 30_000 })

it('links single sign-on by a request of its own, goes on at the provider, and takes the link away again', async () => {
  const identities: unknown[] = []
  const { asked } = serve({
    'GET /v1/me/sessions': [], 'GET /v1/me/identities': identities,
    'GET /v1/login/ways': { password: true, single_sign_on: true, wechat: false },
    'POST /v1/me/oidc': { address: 'https://provider.example/authorize?state=s' },
    'DELETE /v1/me/oidc': () => new Response(null, { status: 204 }),
  })
  const assign = vi.fn()
  vi.stubGlobal('location', { ...location, href: location.href, origin: location.origin, assign })
  const page = shown(Me)
  await vi.waitFor(() => expect(page.find('[data-test=sign-on-link]').exists()).toBe(true))
  expect(page.find('a[href*="/v1/me/oidc"]').exists()).toBe(false) // a link could be anybody's
  await page.get('[data-test=sign-on-link]').trigger('click')
  await vi.waitFor(() => expect(assign).toHaveBeenCalledWith('https://provider.example/authorize?state=s'))
  expect(asked.map(({ call }) => call)).toContain('POST /v1/me/oidc?after=%2Fme')
  page.unmount()

  identities.push({ provider: 'https://provider.example', created: '2026-11-23T08:00:00Z' })
  const linked = shown(Me)
  await vi.waitFor(() => expect(linked.find('[data-test=sign-on-unlink]').exists()).toBe(true))
  await linked.get('[data-test=sign-on-unlink]').trigger('click')
  await flushPromises()
  expect(asked.map(({ call }) => call)).toContain('DELETE /v1/me/oidc')
  linked.unmount()
})

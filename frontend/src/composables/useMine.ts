// One's own sessions, tokens, linked accounts and password.
import { useQuery, useQueryClient } from '@tanstack/vue-query'

import { api, got, type Schema } from '@/api/client'

export function useMine() {
  const queries = useQueryClient()
  const sessions = useQuery({ queryKey: ['me', 'sessions'], queryFn: () => got(api.GET('/v1/me/sessions')) })
  const identities = useQuery({ queryKey: ['me', 'identities'], queryFn: () => got(api.GET('/v1/me/identities')) })
  const ways = useQuery({ queryKey: ['ways'], queryFn: () => got(api.GET('/v1/login/ways')) })
  async function then<T>(call: Promise<{ data?: T; response: Response }>): Promise<T | true> {
    const data = await got(call)
    await queries.invalidateQueries({ queryKey: ['me'] })
    return data ?? true
  }
  return {
    sessions, identities, ways,
    change: (old: string, fresh: string) => then(api.PUT('/v1/me/password', { body: { old, new: fresh } })),
    end: (id: string) => then(api.DELETE('/v1/me/sessions/{id}', { params: { path: { id } } })),
    unlink: (what: 'oidc' | 'wechat') => then(what === 'oidc' ? api.DELETE('/v1/me/oidc') : api.DELETE('/v1/me/wechat')),
    /** Leaves this page for the provider's, which sends the browser back here. */
    link: async (): Promise<void> => {
      location.assign((await got(api.POST('/v1/me/oidc', { params: { query: { after: '/me' } } }))).address)
    },
    make: async (name: string, days: number): Promise<Schema<'Started'>> => {
      const started = await got(api.POST('/v1/me/tokens', { body: { name, days } }))
      await queries.invalidateQueries({ queryKey: ['me'] })
      return started
    },
  }
}

// Users, what they were given, and roles.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type Ref } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useCursor } from './useCursor'

export type User = Schema<'UserView'>

export function useUsers(q: Ref<string>) {
  return useCursor<User>(
    computed(() => ['users', 'list', q.value]),
    (cursor, limit) => got(api.GET('/v1/users', { params: { query: { q: q.value, cursor, limit } } })),
  )
}
export function usePermissions() {
  return useQuery({ queryKey: ['users', 'permissions'], queryFn: () => got(api.GET('/v1/permissions')), staleTime: Infinity })
}
export function useUserChanges() {
  const queries = useQueryClient()
  async function then<T>(call: Promise<{ data?: T; response: Response }>): Promise<T | true> {
    const data = await got(call)
    await queries.invalidateQueries({ queryKey: ['users'] })
    return data ?? true
  }
  const of = (id: string) => ({ params: { path: { id } } })
  const named = (name: string) => ({ params: { path: { name } } })
  return {
    make: (body: Schema<'NewUser'>) => then(api.POST('/v1/users', { body })),
    change: (id: string, body: Schema<'UserChange'>) => then(api.PATCH('/v1/users/{id}', { ...of(id), body })),
    remove: (id: string) => then(api.DELETE('/v1/users/{id}', of(id))),
    give: (id: string, body: Schema<'NewGrant'>) => then(api.POST('/v1/users/{id}/grants', { ...of(id), body })),
    take: (id: string, grant: string) => then(api.DELETE('/v1/users/{id}/grants/{grant}', { params: { path: { id, grant } } })),
    setRole: (name: string, body: Schema<'RoleWish'>) => then(api.PUT('/v1/roles/{name}', { ...named(name), body })),
    removeRole: (name: string) => then(api.DELETE('/v1/roles/{name}', named(name))),
  }
}

export interface AuditFilter {
  user: string
  action: string
  noun: string
  since: number | undefined // µs
  until: number | undefined
}
export function useAudit(filter: Ref<AuditFilter>) {
  return useCursor<Schema<'Entry'>>(
    computed(() => ['audit', { ...filter.value }]),
    (cursor, limit) => got(api.GET('/v1/audit', { params: { query: { ...filter.value, cursor, limit } } })),
  )
}

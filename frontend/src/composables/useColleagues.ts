// Names of users by their ids, as far as one may see users; oneself always.
import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'
import { useI18n } from 'vue-i18n'

import { api, got } from '@/api/client'

import { everyPage } from './useCursor'
import { useSession } from './useSession'

export interface Colleague {
  id: string
  name: string // as written in mentions
  label: string
}

export function useColleagues() {
  const session = useSession()
  const { t } = useI18n()
  const { data } = useQuery({
    queryKey: ['users', 'names'],
    queryFn: () => everyPage((cursor) => got(api.GET('/v1/users', { params: { query: { limit: 500, cursor } } }))),
    enabled: computed(() => session.may('users.view')),
    staleTime: 60_000,
  })
  const colleagues = computed<Colleague[]>(() => {
    const me = session.me
    const listed = (data.value ?? []).filter((one) => one.active)
      .map(({ id, name, full_name }) => ({ id, name, label: full_name || name }))
    if (!me || listed.some((one) => one.id === me.id)) return listed
    return [{ id: me.id, name: me.name, label: me.full_name || me.name }, ...listed]
  })
  const names = computed(() => new Map((data.value ?? []).map((one) => [one.id, one.full_name || one.name])))
  return {
    colleagues,
    /** Those who may not log in any more among them. */
    every: computed<Colleague[]>(() => (data.value ?? []).map(({ id, name, full_name }) => ({ id, name, label: full_name || name }))),
    /** Never a bare id: of whom one may not know, that it was somebody. */
    nameOf: (id: string): string => {
      if (!id) return '–'
      if (id === session.me?.id) return session.me.full_name || session.me.name
      return names.value.get(id) ?? t('episodes.somebody')
    },
  }
}

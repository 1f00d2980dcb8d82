// Roles, what they are called, and the places they are held at.
import { useQuery } from '@tanstack/vue-query'
import { computed } from 'vue'
import { useI18n } from 'vue-i18n'

import { api, got, type Schema } from '@/api/client'

import { useCameraNames } from './useCameraNames'
import { usePlace } from './usePlace'

export type Role = Schema<'RoleView'>

export function useRoles() {
  const { t, te } = useI18n()
  const place = usePlace()
  const { every, nameOf } = useCameraNames()
  const query = useQuery({ queryKey: ['users', 'roles'], queryFn: () => got(api.GET('/v1/roles')), staleTime: 60_000 })
  const siteName = (id: string): string => place.sites.find((one) => one.id === id)?.name || id
  return {
    ...query,
    roles: computed<Role[]>(() => query.data.value ?? []),
    roleName: (name: string): string => (te(`users.roleNames.${name}`) ? t(`users.roleNames.${name}`) : name),
    roleAbout: (role: Role): string =>
      role.built_in && te(`users.roleAbout.${role.name}`) ? t(`users.roleAbout.${role.name}`) : role.about,
    siteName,
    /** Every site, a site, or a camera of it. */
    placeName: (site: string, camera: string): string =>
      camera ? `${siteName(site)} · ${nameOf(camera)}` : site ? siteName(site) : t('users.everywhere'),
    camerasOf: (site: string) => every.value.filter((one) => one.site === site),
  }
}

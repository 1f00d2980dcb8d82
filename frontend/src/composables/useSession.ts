// Who is logged in and what they may do; one for the whole page.
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'

import { api, got, Problem, type Schema } from '@/api/client'
import { forgetOthers } from '@/kept'

export const useSession = defineStore('session', () => {
  const me = ref<Schema<'Me'> | null>(null)
  const known = ref(false) // whether the server was asked

  function take(user: Schema<'Me'>): void {
    forgetOthers(user.id)
    me.value = user
  }
  /** True when somebody is logged in. Throws a Problem when the server cannot be asked. */
  async function ask(): Promise<boolean> {
    try {
      take(await got(api.GET('/v1/me')))
    } catch (error) {
      if (!(error instanceof Problem && error.status === 401)) throw error
      me.value = null
    }
    known.value = true
    return me.value !== null
  }
  async function login(name: string, password: string): Promise<void> {
    take((await got(api.POST('/v1/login', { body: { name, password, language: null } }))).me)
    known.value = true
  }
  async function logout(): Promise<void> {
    await api.POST('/v1/logout').catch(() => undefined) // whatever the server says, this page forgets
    forgetOthers('')
    me.value = null
  }

  const permissions = computed(() => new Set(me.value?.permissions ?? []))
  /** Whether `permission` (module.action) holds: anywhere, at a site ('': everywhere), or for a camera of it. */
  function may(permission: string, site?: string, camera?: string): boolean {
    if (site === undefined) return permissions.value.has(permission)
    return (me.value?.rights ?? []).some(
      (right) =>
        right.permissions.includes(permission) &&
        (right.camera ? right.camera === camera : !right.site || right.site === site),
    )
  }
  return { me, known, ask, login, logout, may }
})

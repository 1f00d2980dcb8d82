// Requests for roles, access and cameras: one's own and those one decides.
import { useQueryClient } from '@tanstack/vue-query'
import { computed, type Ref } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useCursor } from './useCursor'

export type Asked = Schema<'Asked'>
export type Standing = '' | 'open' | 'granted' | 'refused' | 'withdrawn' | 'ended'

export function useRequests(inbox: Ref<boolean>, standing: Ref<Standing>) {
  return useCursor<Asked>(
    computed(() => ['requests', inbox.value ? 'inbox' : 'mine', standing.value]),
    (cursor, limit) => got(api.GET('/v1/requests', { params: { query: { inbox: inbox.value, state: standing.value, cursor, limit } } })),
  )
}

export function useDecisions() {
  const queries = useQueryClient()
  const then = async (call: Promise<{ data?: Asked; response: Response }>): Promise<Asked> => {
    const row = await got(call)
    await queries.invalidateQueries({ queryKey: ['requests'] })
    return row
  }
  const of = (id: string) => ({ params: { path: { id } } })
  return {
    ask: (body: Schema<'Ask'>) => then(api.POST('/v1/requests', { body })),
    grant: (id: string, body: Schema<'Allow'>) => then(api.POST('/v1/requests/{id}/grant', { ...of(id), body })),
    refuse: (id: string, answer: string) => then(api.POST('/v1/requests/{id}/refuse', { ...of(id), body: { answer } })),
    end: (id: string, answer: string) => then(api.POST('/v1/requests/{id}/end', { ...of(id), body: { answer } })),
    withdraw: (id: string) => then(api.POST('/v1/requests/{id}/withdraw', of(id))),
  }
}

// How many chat messages wait for this user, over all rooms.
import { useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type ComputedRef } from 'vue'

import { api, got } from '@/api/client'

import { useHear } from './useLive'
import { useSession } from './useSession'

export function useChatUnread(): ComputedRef<number> {
  const session = useSession()
  const queries = useQueryClient()
  const { data } = useQuery({
    queryKey: ['rooms'],
    queryFn: () => got(api.GET('/v1/chat/rooms')),
    enabled: computed(() => session.may('chat.view')),
  })
  useHear(['chat.message', 'chat.mention'], () => void queries.invalidateQueries({ queryKey: ['rooms'] }))
  return computed(() => (data.value ?? []).reduce((sum, room) => sum + room.unread, 0))
}

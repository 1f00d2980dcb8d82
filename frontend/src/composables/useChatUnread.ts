// How many chat messages wait for this user, over all rooms.
import { useQuery } from '@tanstack/vue-query'
import { computed, type ComputedRef } from 'vue'

import { api, got } from '@/api/client'

import { useSession } from './useSession'

export function useChatUnread(): ComputedRef<number> {
  const session = useSession()
  const { data } = useQuery({
    queryKey: ['rooms'],
    queryFn: () => got(api.GET('/v1/chat/rooms')),
    enabled: computed(() => session.may('chat.view')),
  })
  return computed(() => (data.value ?? []).reduce((sum, room) => sum + room.unread, 0))
}

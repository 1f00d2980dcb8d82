// A list that the API gives a page at a time: what is there so far, and more of it when asked.
import { type QueryKey, useInfiniteQuery } from '@tanstack/vue-query'
import { computed, type Ref } from 'vue'

interface Page<T> {
  items: T[]
  next?: string | null
}

export function useCursor<T>(key: Ref<QueryKey>, page: (cursor: string | undefined) => Promise<Page<T>>, enabled: Ref<boolean> | boolean = true) {
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ pageParam }) => page(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last: Page<T>) => last.next ?? undefined,
    enabled,
  })
  return {
    items: computed<T[]>(() => query.data.value?.pages.flatMap((one) => one.items) ?? []),
    loading: query.isLoading,
    error: query.error,
    again: () => void query.refetch(),
    hasMore: query.hasNextPage,
    loadingMore: query.isFetchingNextPage,
    more: () => void query.fetchNextPage(),
  }
}

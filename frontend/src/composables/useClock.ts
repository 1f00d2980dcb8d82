// The time of day for what is shown: a stretch that ends now goes on ending now.
import { onScopeDispose, ref, type Ref } from 'vue'

/** ms, moved on every `every` ms until the caller's scope ends. */
export function useClock(every = 10_000): Ref<number> {
  const now = ref(Date.now())
  const timer = setInterval(() => (now.value = Date.now()), every)
  onScopeDispose(() => clearInterval(timer))
  return now
}

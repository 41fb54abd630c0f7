#include "ring_wait.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kmes_format.h"
#include "ring_bytes.h"

enum ring_wait ring_wait(const struct ring *ring, uint64_t read_pos, const uint32_t *control,
                         uint32_t timeout_ms) {
  const uint32_t *futex = (const uint32_t *)(const void *)(ring->page + RING_FUTEX);
  /* Before need_wake: a counter read later could already include the wake we must not miss. */
  uint32_t seen = __atomic_load_n(futex, __ATOMIC_ACQUIRE);
  __atomic_store_n(ring->need_wake, 1, __ATOMIC_RELEASE);
  /* The flag must be visible before we look again; the producer has the mirror image. */
  ring_fence_full();
  enum ring_wait result = RING_WAIT_DATA;
  if (ring_load(ring->page, RING_WRITE_POS) <= read_pos &&
      ring_load(ring->page, RING_GENERATION) == ring->generation &&
      __atomic_load_n(control, __ATOMIC_ACQUIRE) == 0) {
    struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000L};
    /* Shared, not private: the producer is another process or the kernel. */
    long slept = syscall(SYS_futex, futex, FUTEX_WAIT, seen, &timeout, NULL, 0);
    result = slept != 0 && errno == ETIMEDOUT ? RING_WAIT_TIMEOUT : RING_WAIT_WOKEN;
  }
  __atomic_store_n(ring->need_wake, 0, __ATOMIC_RELAXED);
  return result;
}

void ring_wake(const uint8_t *page) {
  syscall(SYS_futex, page + RING_FUTEX, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

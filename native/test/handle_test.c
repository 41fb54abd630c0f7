/* Handles: what a number names, and for how long. */
#include <pthread.h>
#include <stdatomic.h>

#include "../handle.h"
#include "expect.h"

static atomic_int destroyed; /* by whichever thread lets go last */

static void destroy(void *object) { atomic_fetch_add(&destroyed, *(int *)object); }

static void *churn(void *unused) {
  (void)unused;
  static int object = 0;
  for (int i = 0; i < 2000; i++) {
    int64_t handle = handle_open(HANDLE_RING, &object, destroy);
    EXPECT(handle_acquire(HANDLE_RING, handle) == &object);
    EXPECT(handle_close(HANDLE_RING, handle));
    EXPECT(handle_acquire(HANDLE_RING, handle) == NULL);
    handle_release(handle);
  }
  return NULL;
}

int main(void) {
  int one = 1, two = 10;

  title("[ING-12] an object lives until its handle is closed and everybody has let go of it");
  int64_t first = handle_open(HANDLE_RING, &one, destroy);
  EXPECT(first > 0 && first < INT64_C(1) << 53);
  EXPECT(handle_acquire(HANDLE_RING, first) == &one);
  EXPECT(handle_close(HANDLE_RING, first) && destroyed == 0);
  EXPECT(handle_acquire(HANDLE_RING, first) == NULL && !handle_close(HANDLE_RING, first));
  handle_release(first);
  EXPECT(destroyed == 1);

  title("[ING-12] a stale number never reaches the object that took its place");
  int64_t second = handle_open(HANDLE_RING, &two, destroy);
  EXPECT((second & 0xfffff) == (first & 0xfffff) && second != first);
  EXPECT(handle_acquire(HANDLE_RING, first) == NULL);
  EXPECT(!handle_close(HANDLE_RING, first));
  handle_release(first);
  EXPECT(handle_acquire(HANDLE_RING, second) == &two);
  handle_release(second);

  title("[ING-12] a handle of another kind, zero, negative or unknown names nothing");
  EXPECT(handle_acquire(HANDLE_CHANNEL, second) == NULL && !handle_close(HANDLE_CHANNEL, second));
  EXPECT(handle_acquire(HANDLE_RING, 0) == NULL && handle_acquire(HANDLE_RING, -1) == NULL);
  EXPECT(handle_acquire(HANDLE_RING, INT64_MAX) == NULL && handle_acquire(HANDLE_RING, second + 1) == NULL);
  EXPECT(handle_acquire(HANDLE_RING, second & ~INT64_C(0xfffff)) == NULL);
  EXPECT(handle_close(HANDLE_RING, second) && destroyed == 11);

  title("[ING-12] many threads open and close at once without meeting each other's objects");
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, churn, NULL);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  return expect_result();
}

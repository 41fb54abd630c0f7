/* Sleeping on a ring: every reason not to sleep, and the windows in which a wake-up could get lost. */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "../clock.h"
#include "../ring_wait.h"
#include "expect.h"
#include "ring_fixture.h"

enum { LONG_MS = 3000, SHORT_MS = 30, MANY = 2000, PAUSES = 400, EVENT_BYTES = 81 };

static struct ring_fixture fixture;
static uint32_t control;

static uint8_t need_wake(void) { return __atomic_load_n(fixture.ring->need_wake, __ATOMIC_ACQUIRE); }

static uint32_t counter(void) {
  return __atomic_load_n((const uint32_t *)(const void *)(fixture.ring->page + RING_FUTEX), __ATOMIC_ACQUIRE);
}

static uint64_t end_of_ring(void) { return ring_load(fixture.ring->page, RING_WRITE_POS); }

/* True when a long wait ends at once. */
static bool prompt(uint64_t read_pos, enum ring_wait expected) {
  uint64_t before = clock_monotonic();
  bool as_expected = ring_wait(fixture.ring, read_pos, &control, LONG_MS) == expected;
  return as_expected && clock_monotonic() - before < UINT64_C(1000000) * LONG_MS / 2 && need_wake() == 0;
}

static void reasons(void) {
  title("[KMES-128] data, another generation or a request keep the consumer awake");
  fixture_emit(&fixture, "abc", 3);
  EXPECT(prompt(0, RING_WAIT_DATA));
  control = 1;
  EXPECT(prompt(end_of_ring(), RING_WAIT_DATA));
  control = 0;
  fixture_poke_u64(&fixture, RING_GENERATION, 2);
  EXPECT(prompt(end_of_ring(), RING_WAIT_DATA));
  fixture_poke_u64(&fixture, RING_GENERATION, 1);

  title("[KMES-131] [KMES-132] a sleep without an event ends with its timeout and clears the flag");
  uint64_t before = clock_monotonic();
  EXPECT(ring_wait(fixture.ring, end_of_ring(), &control, SHORT_MS) == RING_WAIT_TIMEOUT);
  EXPECT(clock_monotonic() - before >= UINT64_C(1000000) * SHORT_MS && need_wake() == 0);
}

static void notification(void) {
  title("[KMES-109] [KMES-116] the counter moves only when somebody asked to be woken");
  uint32_t before = counter();
  fixture_emit(&fixture, "abc", 3);
  EXPECT(counter() == before);
  *fixture.ring->need_wake = 7;
  fixture_emit(&fixture, "abc", 3);
  EXPECT(counter() == before + 1);
  *fixture.ring->need_wake = 0;
}

static atomic_bool sleeping_done;

static void *sleeper(void *unused) {
  (void)unused;
  EXPECT(prompt(end_of_ring(), RING_WAIT_WOKEN));
  atomic_store(&sleeping_done, true);
  return NULL;
}

static void wake(void) {
  title("[KMES-109] [KMES-131] an event wakes a sleeping consumer");
  pthread_t thread;
  pthread_create(&thread, NULL, sleeper, NULL);
  while (need_wake() == 0) sched_yield();
  /* Between the flag and the system call it is not asleep yet; the counter covers that. */
  fixture_emit(&fixture, "abc", 3);
  pthread_join(thread, NULL);
  EXPECT(atomic_load(&sleeping_done));
}

/* The moment of the store to need_wake: the page is read-only until the handler has run. */
static void on_store(int signal) {
  (void)signal;
  mprotect((void *)((uintptr_t)fixture.ring->page + RING_PAGE), RING_PAGE, PROT_READ | PROT_WRITE);
  uint32_t next = counter() + 1;
  fixture_poke(&fixture, RING_FUTEX, &next, sizeof next);
}

static void late_counter(void) {
  struct sigaction action = {.sa_handler = on_store}, previous;
  title("[KMES-129] a wake-up between the look at the counter and the sleep is not lost");
  sigaction(SIGSEGV, &action, &previous);
  mprotect((void *)((uintptr_t)fixture.ring->page + RING_PAGE), RING_PAGE, PROT_READ);
  EXPECT(prompt(end_of_ring(), RING_WAIT_WOKEN));
  sigaction(SIGSEGV, &previous, NULL);
}

static void *answer(void *start) {
  uint64_t position = *(const uint64_t *)start;
  for (int i = 0; i < MANY; i++, position += EVENT_BYTES) {
    while (end_of_ring() == position) {
      EXPECT(ring_wait(fixture.ring, position, &control, LONG_MS) != RING_WAIT_TIMEOUT);
    }
    atomic_store(&sleeping_done, true);
  }
  return NULL;
}

static void ping(void) {
  title("[KMES-133] [KMES-135] events sent in every phase of falling asleep never wait for a timeout");
  pthread_t thread;
  uint64_t start = end_of_ring();
  atomic_store(&sleeping_done, true);
  pthread_create(&thread, NULL, answer, &start);
  for (int i = 0; i < MANY; i++) {
    /* A growing pause meets the sleeper at another point each time. */
    while (!atomic_load(&sleeping_done)) sched_yield();
    atomic_store(&sleeping_done, false);
    for (volatile int pause = 0; pause < i % PAUSES * 50; pause++) {
    }
    fixture_emit(&fixture, "abc", 3);
  }
  pthread_join(thread, NULL);
}

int main(void) {
  fixture_open(&fixture, RING_MIN_CAPACITY);
  reasons();
  notification();
  wake();
  late_counter();
  ping();
  fixture_close(&fixture);
  return expect_result();
}

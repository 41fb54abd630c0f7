/*
 * A ring that was replaced between being mapped and the look at its generation shows its successor's
 * generation: nothing that happens to it will ever tell that it is dead. The drain thread must find
 * out by itself, and at once: the live ring fills meanwhile, and may overflow.
 */
#include "../clock.h"
#include "../drain.h"
#include "expect.h"
#include "ring_fixture.h"

enum { BEFORE = 40, AFTER = 3 };

/* Far below the half second that an idle thread sleeps on a futex. */
static const uint64_t PROMPT_NS = UINT64_C(300) * 1000 * 1000;
static const uint64_t DEADLINE_NS = UINT64_C(10) * 1000 * 1000 * 1000;

struct watch {
  atomic_uint replaced, reattached;
  _Atomic uint64_t replaced_at;
};

static void on_report(void *context, const struct drain_report *report) {
  struct watch *watch = context;
  if (report->kind == DRAIN_GENERATION) {
    atomic_store(&watch->replaced_at, clock_monotonic());
    atomic_fetch_add(&watch->replaced, 1);
  }
  if (report->kind == DRAIN_REATTACHED) atomic_fetch_add(&watch->reattached, 1);
}

static void close_ring(void *context, struct ring *ring) { ring_unmap(ring); }

static bool reaches(atomic_uint *count, unsigned wanted) {
  uint64_t until = clock_monotonic() + DEADLINE_NS;
  while (atomic_load(count) < wanted && clock_monotonic() < until) usleep(500);
  return atomic_load(count) >= wanted;
}

static struct ring *map(struct ring_fixture *fixture) {
  struct ring *ring;
  const char *reason;
  if (ring_map_file(fixture->path, &ring, &reason) != 0) abort();
  return ring;
}

/* The mapping that a reader gets in the window: of the old ring, with the new ring's generation. */
static struct ring *map_stale(struct ring_fixture *fixture, uint64_t capacity) {
  const char *reason;
  struct ring *ring = map(fixture);
  for (int i = 0; i < BEFORE; i++) fixture_emit(fixture, "abc", 3);
  if (producer_resize(fixture->producer, capacity, &reason) != 0) abort();
  ring->generation = ring_load(ring->page, RING_GENERATION);
  for (int i = 0; i < AFTER; i++) fixture_emit(fixture, "abc", 3);
  return ring;
}

static struct drain *start(struct ring *ring, struct fixture_channel *channel, struct watch *watch) {
  struct drain *drain;
  const struct drain_options options = {
      .ring = ring,
      .close_ring = close_ring,
      .channels = &channel->channel,
      .channel_count = 1,
      .elevated_percent = 50,
      .emergency_percent = 80,
      .notify = on_report,
      .context = watch,
  };
  if (drain_start(&options, &drain) != 0) abort();
  return drain;
}

static bool reads_up_to(struct drain *drain, uint64_t sequence) {
  struct drain_status status;
  uint64_t until = clock_monotonic() + DEADLINE_NS;
  do {
    usleep(500);
    drain_status(drain, &status);
  } while (status.last_sequence < sequence && clock_monotonic() < until);
  return status.last_sequence == sequence && status.lost == 0;
}

static void stale_from_the_start(void) {
  struct ring_fixture fixture;
  struct watch watch = {0};
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(1000, 1 << 20);
  uint64_t before = clock_monotonic();
  struct drain *drain = start(map_stale(&fixture, RING_MIN_CAPACITY * 2), &channel, &watch);
  EXPECT(reaches(&watch.replaced, 1));
  EXPECT(atomic_load(&watch.replaced_at) - before < PROMPT_NS);
  EXPECT(drain_reattach(drain, map(&fixture)) == 0);
  EXPECT(reads_up_to(drain, BEFORE + AFTER));
  drain_stop(drain);
  drain_free(drain);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

static void stale_when_reattached(void) {
  struct ring_fixture fixture;
  struct watch watch = {0};
  const char *reason;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(1000, 1 << 20);
  struct drain *drain = start(map(&fixture), &channel, &watch);
  EXPECT(producer_resize(fixture.producer, RING_MIN_CAPACITY * 2, &reason) == 0);
  EXPECT(reaches(&watch.replaced, 1));
  struct ring *stale = map_stale(&fixture, RING_MIN_CAPACITY);
  uint64_t before = clock_monotonic();
  EXPECT(drain_reattach(drain, stale) == 0);
  EXPECT(reaches(&watch.replaced, 2));
  EXPECT(atomic_load(&watch.replaced_at) - before < PROMPT_NS);
  EXPECT(drain_reattach(drain, map(&fixture)) == 0);
  EXPECT(reaches(&watch.reattached, 2));
  EXPECT(reads_up_to(drain, BEFORE + AFTER));
  drain_stop(drain);
  drain_free(drain);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

int main(void) {
  title("[KMES-138] [ING-14] a ring that was dead when it was attached is left at once, also if it holds events");
  stale_from_the_start();
  title("[KMES-138] [ING-15] [ING-17] the same for the ring of a reattach");
  stale_when_reattached();
  return expect_result();
}

/* The embedded producer: structural drops, batches beyond the ring, and producers that died. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../clock.h"
#include "../ring_file.h"
#include "expect.h"
#include "ring_fixture.h"

enum {
  HUGE_EVENT = 16384,
  HUGE_BATCH = 1024, /* 16 MiB into a ring of 64 KiB */
  KILL_ROUNDS = 40,
};

/* Reads the ring from its tail to its end; false when it holds anything but whole events. */
static bool readable(struct ring_fixture *fixture, uint64_t *first, uint64_t *last, int *count) {
  struct ring_reader reader;
  struct ring_event event;
  static uint8_t copy[RING_MIN_CAPACITY];
  *count = 0;
  *first = *last = 0;
  ring_reader_start(&reader, fixture->ring->page, fixture->ring->data, fixture->ring->capacity, 0);
  for (;;) {
    switch (ring_next(&reader, UINT64_MAX, &event)) {
      case RING_EMPTY:
        return true;
      case RING_READY:
        if (!ring_copy(&reader, copy, event.size)) return false;
        *last = read_u64(copy + KMES_SEQUENCE);
        if ((*count)++ == 0) *first = *last;
        ring_advance(&reader, event.size);
        break;
      default:
        return false;
    }
  }
}

static void drops(void) {
  struct ring_fixture fixture;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  title("[KMES-49] [KMES-54] [KMES-55] [KMES-59] a drop consumes its sequence; half the ring is still allowed");
  static uint8_t payload[RING_MIN_CAPACITY];
  const uint8_t *type = (const uint8_t *)"t";
  const struct producer_event events[] = {
      {type, payload, 1, RING_MIN_CAPACITY / 2 - 78},
      {type, payload, 1, RING_MIN_CAPACITY / 2 - 77},
      {type, payload, 0, 1},
      {payload, payload, UINT16_MAX + 1, 0},
      {type, payload, 1, SIZE_MAX},
      {type, payload, 1, 0},
  };
  size_t written;
  uint64_t sequence, first, last;
  int count;
  EXPECT(producer_emit(fixture.producer, 0, events, 6, NULL, &written, &sequence) == 0);
  EXPECT(written == 2 && sequence == 6);
  EXPECT(readable(&fixture, &first, &last, &count) && count == 2 && first == 1 && last == 6);
  struct producer_status status;
  EXPECT(producer_status(fixture.producer, &status) == 0 && status.dropped == 4);
  fixture_close(&fixture);
}

static void capacity_to_the_byte(void) {
  struct ring_fixture fixture;
  struct producer_status status;
  static uint8_t payload[HUGE_EVENT];
  fixture_open(&fixture, RING_MIN_CAPACITY);
  title("[KMES-110] [KMES-113] a full ring gives up whole events, oldest first, and no more than it must");
  for (int i = 0; i < 4; i++) fixture_emit(&fixture, payload, HUGE_EVENT - 78);
  EXPECT(producer_status(fixture.producer, &status) == 0 && status.tail_pos == 0);
  fixture_emit(&fixture, payload, 0);
  EXPECT(producer_status(fixture.producer, &status) == 0 && status.tail_pos == HUGE_EVENT);
  EXPECT(status.write_pos == RING_MIN_CAPACITY + 78);
  fixture_close(&fixture);
}

static void crafted_positions(void) {
  struct ring_fixture fixture;
  struct producer *another;
  const char *reason;
  struct producer_status status;
  uint64_t first, last;
  int count;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  title("[KMES-111] [KMES-142] a tail left beyond the write position is repaired when the ring is opened, without going back");
  for (int i = 0; i < 10; i++) fixture_emit(&fixture, "abc", 3);
  fixture_poke_u64(&fixture, RING_TAIL_POS, 5000);
  EXPECT(producer_open(fixture.path, &another, &reason) == 0);
  EXPECT(ring_load(fixture.ring->page, RING_WRITE_POS) == 5000);
  EXPECT(ring_load(fixture.ring->page, RING_TAIL_POS) == 5000);
  producer_close(another);
  EXPECT(fixture_emit(&fixture, "abc", 3) == 11);
  EXPECT(readable(&fixture, &first, &last, &count) && count == 1 && first == 11);

  title("[KMES-110] the producer that is already there repairs it, too, before it makes room");
  fixture_poke_u64(&fixture, RING_TAIL_POS, UINT64_C(1) << 40);
  EXPECT(fixture_emit(&fixture, "abc", 3) == 12);
  EXPECT(producer_status(fixture.producer, &status) == 0);
  EXPECT(status.tail_pos == UINT64_C(1) << 40 && status.write_pos == status.tail_pos + 81);
  EXPECT(readable(&fixture, &first, &last, &count) && count == 1 && first == 12);

  title("[KMES-144] positions farther apart than the ring are no survivors to copy");
  fixture_poke_u64(&fixture, RING_WRITE_POS, (UINT64_C(1) << 40) + 3 * RING_MIN_CAPACITY);
  EXPECT(producer_resize(fixture.producer, RING_MIN_CAPACITY * 4, &reason) == 0);
  ring_unmap(fixture.ring);
  EXPECT(ring_map_file(fixture.path, &fixture.ring, &reason) == 0);
  EXPECT(ring_load(fixture.ring->page, RING_WRITE_POS) == 0);
  EXPECT(fixture_emit(&fixture, "abc", 3) == 13);
  EXPECT(readable(&fixture, &first, &last, &count) && count == 1 && first == 13);
  fixture_close(&fixture);
}

/* `count` events of 81 bytes, the one at `damaged` spoiled; then a ring of `capacity`. */
static void resize_damaged(struct ring_fixture *fixture, int count, int damaged, uint64_t capacity) {
  const char *reason;
  uint32_t nothing = 0;
  for (int i = 0; i < count; i++) fixture_emit(fixture, "abc", 3);
  long at = RING_DATA_OFFSET + 81L * damaged;
  fixture_poke(fixture, at + KMES_HEADER_SIZE, &nothing, sizeof nothing);
  EXPECT(producer_resize(fixture->producer, capacity, &reason) == 0);
  ring_unmap(fixture->ring);
  EXPECT(ring_map_file(fixture->path, &fixture->ring, &reason) == 0);
}

static void damaged_survivors(void) {
  struct ring_fixture fixture;
  uint64_t first, last;
  int count;
  title("[KMES-142] [KMES-144] a damaged event stays behind a resize, and hides nothing written after it");
  fixture_open(&fixture, RING_MIN_CAPACITY);
  resize_damaged(&fixture, 10, 6, RING_MIN_CAPACITY * 2);
  EXPECT(readable(&fixture, &first, &last, &count) && count == 6 && first == 1 && last == 6);
  EXPECT(fixture_emit(&fixture, "abc", 3) == 11);
  EXPECT(readable(&fixture, &first, &last, &count) && count == 7 && last == 11);
  fixture_close(&fixture);

  title("[KMES-144] of what stands before the damage the newest goes into a smaller ring");
  fixture_open(&fixture, RING_MIN_CAPACITY * 2);
  resize_damaged(&fixture, 1200, 1000, RING_MIN_CAPACITY);
  EXPECT(readable(&fixture, &first, &last, &count));
  EXPECT(last == 1000 && count == RING_MIN_CAPACITY / 81 && first == last - (uint64_t)count + 1);
  fixture_close(&fixture);
}

static void write_for_ever(const char *path) {
  static uint8_t payload[HUGE_EVENT];
  static struct producer_event events[HUGE_BATCH];
  struct producer *producer;
  const char *reason;
  if (producer_open(path, &producer, &reason) != 0) _exit(1);
  for (int i = 0; i < HUGE_BATCH; i++) {
    events[i] = (struct producer_event){(const uint8_t *)"t", payload, 1, 9000 + (size_t)(i * 37) % 7000};
  }
  for (;;) {
    size_t written;
    uint64_t sequence;
    if (producer_emit(producer, 0, events, HUGE_BATCH, NULL, &written, &sequence) != 0) _exit(1);
  }
}

static void killed_in_a_huge_batch(void) {
  struct ring_fixture fixture;
  struct producer_status status;
  uint64_t first, last, seen = 0, position = 0;
  int count, beyond = 0;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  title("[KMES-111] [KMES-112] producers killed within batches of 16 MiB leave a ring that the next one can use");
  for (int round = 0; round < KILL_ROUNDS; round++) {
    pid_t child = fork();
    if (child == 0) write_for_ever(fixture.path);
    uint64_t start = ring_load(fixture.ring->page, RING_TAIL_POS);
    uint64_t deadline = clock_monotonic() + 5 * UINT64_C(1000000000);
    /* In the middle of a batch, by its moving tail: the published position stands still meanwhile. */
    while (ring_load(fixture.ring->page, RING_TAIL_POS) < start + (uint64_t)(round + 1) * 100000) {
      if (clock_monotonic() > deadline) break;
    }
    kill(child, SIGKILL);
    int ended;
    waitpid(child, &ended, 0);
    EXPECT(WIFSIGNALED(ended));
    beyond += ring_load(fixture.ring->page, RING_TAIL_POS) > ring_load(fixture.ring->page, RING_WRITE_POS);
    uint64_t sequence = fixture_emit(&fixture, "abc", 3);
    EXPECT(sequence > seen);
    seen = sequence;
    EXPECT(producer_status(fixture.producer, &status) == 0);
    EXPECT(status.tail_pos >= position && status.write_pos > status.tail_pos);
    EXPECT(status.write_pos - status.tail_pos <= RING_MIN_CAPACITY);
    position = status.write_pos;
    EXPECT(readable(&fixture, &first, &last, &count) && count >= 1 && last == sequence);
  }
  EXPECT(beyond > 0);
  fixture_close(&fixture);
}

/* Dies holding the ring's lock, having renamed a new ring over it and not told anybody. */
static void die_in_a_resize(struct ring_fixture *fixture) {
  struct ring_file old, fresh;
  const char *reason;
  char *draft;
  if (ring_file_open(fixture->path, &old, &reason) != 0) _exit(1);
  if (pthread_mutex_lock(&ring_file_state(&old)->lock) != 0) _exit(1);
  if (ring_file_draft(fixture->path, 0, 2 * RING_MIN_CAPACITY, 2, &fresh, &draft) != 0) _exit(1);
  ring_file_state(&fresh)->sequence = ring_file_state(&old)->sequence;
  if (ring_file_publish(&fresh, draft, fixture->path) != 0) _exit(1);
  raise(SIGKILL);
}

static void killed_in_a_resize(void) {
  struct ring_fixture fixture;
  struct producer_status status;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  title("[KMES-142] [KMES-145] a producer killed in a resize leaves others and readers a way to the new ring");
  fixture_emit(&fixture, "abc", 3);
  pid_t child = fork();
  if (child == 0) die_in_a_resize(&fixture);
  int ended;
  waitpid(child, &ended, 0);
  EXPECT(WIFSIGNALED(ended));
  EXPECT(ring_load(fixture.ring->page, RING_GENERATION) == 1 && ring_is_replaced(fixture.ring));
  EXPECT(fixture_emit(&fixture, "abc", 3) == 2);
  EXPECT(ring_load(fixture.ring->page, RING_GENERATION) == 2);
  EXPECT(ring_load(fixture.ring->page, RING_WRITE_POS) == 81);
  EXPECT(producer_status(fixture.producer, &status) == 0);
  EXPECT(status.capacity == 2 * RING_MIN_CAPACITY && status.generation == 2 && status.write_pos == 81);
  fixture_close(&fixture);
}

int main(void) {
  drops();
  capacity_to_the_byte();
  crafted_positions();
  damaged_survivors();
  killed_in_a_huge_batch();
  killed_in_a_resize();
  return expect_result();
}

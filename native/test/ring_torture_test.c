/*
 * A producer at full speed on the smallest ring, a drain thread, a slow consumer, and resizes in
 * between. Every event that arrives must be intact, sequences must ascend, and what was stored
 * plus what was recorded as lost must be exactly what was emitted.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "../clock.h"
#include "../drain.h"
#include "expect.h"
#include "ring_fixture.h"

enum {
  ROUND_MS = 700,
  MAX_LANES = 3,
  MAX_TEXT = 4000,
  /* Events of one size that divides the ring: an overwritten event has a sane header again. */
  FIXED_EVENT = 16384,
  PAYLOADS = 64, /* made beforehand: the producer is to do nothing but write */
  BATCH = 12,
  RESIZE_EVERY = 2000, /* batches */
  MAX_SEQUENCES = 1 << 26,
};

struct torture {
  struct ring_fixture fixture;
  struct fixture_channel channels[MAX_LANES];
  uint32_t lanes;
  bool resize, fixed;
  struct drain *drain;
  atomic_bool emitting, awaits_ring, finished;
  atomic_uint jumps;
  uint64_t emitted;
  uint64_t next[MAX_LANES]; /* lowest sequence this lane may show */
  uint64_t stored, lost;
  uint8_t *accounted; /* bit per sequence: stored or recorded as lost */
  uint64_t settled;   /* checked up to here */
};

static uint32_t checksum(const uint8_t *bytes, size_t length) {
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < length; i++) sum = (sum ^ bytes[i]) * 16777619u;
  return sum;
}

static void on_report(void *context, const struct drain_report *report) {
  struct torture *torture = context;
  if (report->kind == DRAIN_GENERATION) atomic_store(&torture->awaits_ring, true);
  if (report->kind == DRAIN_FINISHED) atomic_store(&torture->finished, true);
  if (report->kind == DRAIN_LAPPED) atomic_fetch_add(&torture->jumps, 1);
  EXPECT(report->kind != DRAIN_CORRUPT);
}

static void close_ring(void *context, struct ring *ring) {
  (void)context;
  ring_unmap(ring);
}

/* Payload: checksum of the rest, then pseudo-random bytes of pseudo-random length. */
static size_t make_payload(uint8_t *payload, uint32_t *random, bool fixed) {
  *random = *random * 1664525 + 1013904223;
  size_t length = fixed ? FIXED_EVENT - 78 : 4 + (*random >> 16) % MAX_TEXT;
  for (size_t i = 4; i < length; i++) payload[i] = (uint8_t)(*random >> (i % 24));
  write_u32(payload, checksum(payload + 4, length - 4));
  return length;
}

static void *produce(void *argument) {
  struct torture *torture = argument;
  static uint8_t payloads[PAYLOADS][FIXED_EVENT];
  struct producer_event events[PAYLOADS + BATCH];
  uint32_t random = 1;
  for (int i = 0; i < PAYLOADS + BATCH; i++) {
    uint8_t *payload = payloads[i % PAYLOADS];
    events[i] = (struct producer_event){.type = (const uint8_t *)"t", .type_len = 1};
    events[i].payload = payload;
    events[i].payload_len = i < PAYLOADS ? make_payload(payload, &random, torture->fixed)
                                         : events[i % PAYLOADS].payload_len;
  }
  uint64_t until = clock_monotonic() + (uint64_t)ROUND_MS * 1000000;
  for (uint32_t round = 1; clock_monotonic() < until; round++) {
    size_t written;
    EXPECT(producer_emit(torture->fixture.producer, 0, events + round % PAYLOADS,
                         torture->fixed ? 1 : 1 + round % BATCH, NULL, &written, &torture->emitted) == 0);
    if (torture->resize && round % RESIZE_EVERY == 0) {
      const char *reason;
      uint64_t capacity = round / RESIZE_EVERY % 2 ? 262144 : 65536;
      EXPECT(producer_resize(torture->fixture.producer, capacity, &reason) == 0);
    }
  }
  atomic_store(&torture->emitting, false);
  return NULL;
}

/* Every number up to `settled` must have come by in some lane by now. */
static void check_settled(struct torture *torture, uint64_t settled) {
  while (torture->settled < settled) {
    uint64_t number = ++torture->settled;
    EXPECT((torture->accounted[number / 8] >> (number % 8) & 1) != 0);
  }
}

static void check_entry(struct torture *torture, uint32_t lane, const uint8_t *entry) {
  uint64_t first = entry_first(entry), last = entry_last(entry);
  EXPECT(first >= torture->next[lane]);
  torture->next[lane] = last + 1;
  if (last >= MAX_SEQUENCES) abort();
  for (uint64_t number = first; number <= last; number++) {
    torture->accounted[number / 8] |= (uint8_t)(1 << (number % 8));
  }
  if (entry_is_gap(entry)) {
    torture->lost += last - first + 1;
    return;
  }
  torture->stored++;
  const uint8_t *payload = entry + read_u32(entry + KMES_HEADER_SIZE);
  size_t length = entry_size(entry) - read_u32(entry + KMES_HEADER_SIZE);
  EXPECT(read_u32(payload) == checksum(payload + 4, length - 4));
}

static void consume(struct torture *torture, uint32_t lane) {
  struct segment_info info;
  if (channel_take(torture->channels[lane].channel, &info) != 1) return;
  const uint8_t *bytes;
  size_t length;
  uint32_t rows, seen = 0;
  EXPECT(segment_borrow(info.handle, &bytes, &length, &rows));
  uint64_t highest = 0;
  for (size_t at = 0; at < length; at += entry_size(bytes + at), seen++) {
    check_entry(torture, lane, bytes + at);
    highest = entry_last(bytes + at);
  }
  EXPECT(seen == rows);
  struct segment_watermark *marks;
  EXPECT(segment_watermarks(info.handle, &marks) == 1);
  EXPECT(marks[0].last == highest);
  check_settled(torture, marks[0].settled);
  free(marks);
  segment_return(info.handle);
  EXPECT(segment_committed(info.handle));
}

static void reattach(struct torture *torture) {
  struct ring *ring;
  const char *reason;
  if (!atomic_exchange(&torture->awaits_ring, false)) return;
  EXPECT(ring_map_file(torture->fixture.path, &ring, &reason) == 0);
  EXPECT(drain_reattach(torture->drain, ring) == 0);
}

enum mode { PLAIN, FIXED, RESIZE };

static void torture(uint32_t lanes, uint32_t rows, enum mode mode) {
  struct torture torture = {.lanes = lanes, .resize = mode == RESIZE, .fixed = mode == FIXED};
  struct channel *channels[MAX_LANES];
  fixture_open(&torture.fixture, RING_MIN_CAPACITY);
  torture.accounted = calloc(MAX_SEQUENCES / 8, 1);
  if (torture.accounted == NULL) abort();
  atomic_store(&torture.emitting, true);
  for (uint32_t i = 0; i < lanes; i++) {
    torture.channels[i] = fixture_channel(rows, 1 << 20);
    channels[i] = torture.channels[i].channel;
  }
  const struct drain_options options = {
      .ring = torture.fixture.ring,
      .close_ring = close_ring,
      .channels = channels,
      .channel_count = lanes,
      .elevated_percent = 50,
      .emergency_percent = 80,
      .notify = on_report,
      .context = &torture,
  };
  torture.fixture.ring = NULL; /* the thread's now */
  EXPECT(drain_start(&options, &torture.drain) == 0);
  pthread_t producer;
  pthread_create(&producer, NULL, produce, &torture);
  struct drain_status status;
  do {
    for (uint32_t i = 0; i < lanes; i++) consume(&torture, i);
    reattach(&torture);
    if (!atomic_load(&torture.emitting)) {
      pthread_join(producer, NULL);
      break;
    }
  } while (true);
  do {
    for (uint32_t i = 0; i < lanes; i++) consume(&torture, i);
    reattach(&torture);
    drain_status(torture.drain, &status);
  } while (status.last_sequence < torture.emitted);
  drain_finish(torture.drain);
  while (!atomic_load(&torture.finished)) {
    for (uint32_t i = 0; i < lanes; i++) consume(&torture, i);
    reattach(&torture);
  }
  for (uint32_t i = 0; i < lanes; i++) consume(&torture, i);
  for (uint32_t i = 0; i < lanes; i++) consume(&torture, i);
  drain_stop(torture.drain);
  drain_stop(torture.drain);
  drain_status(torture.drain, &status);
  EXPECT(torture.stored > 0);
  EXPECT(status.events == torture.stored && status.lost == torture.lost);
  EXPECT(torture.stored + torture.lost == torture.emitted);
  EXPECT(torture.settled > 0);
  drain_free(torture.drain);
  free(torture.accounted);
  for (uint32_t i = 0; i < lanes; i++) fixture_channel_close(&torture.channels[i]);
  fixture_close(&torture.fixture);
}

int main(void) {
  title("[KMES-123] [ING-11] [ING-22] a lapped reader never delivers a torn event or hides a loss");
  torture(1, 1000, PLAIN);
  torture(1, 1000, FIXED);
  title("[ING-43] [ING-44] a nearly always full channel loses nothing but what the ring overwrote");
  torture(1, 3, PLAIN);
  title("[ING-31] [STO-15] three channels account for every event and no watermark is too high");
  torture(3, 100, PLAIN);
  title("[ING-17] [KMES-142] swaps under load neither lose nor repeat an event");
  torture(1, 1000, RESIZE);
  return expect_result();
}

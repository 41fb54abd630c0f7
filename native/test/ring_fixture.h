/* A ring file and its mappings for one C test. */
#ifndef EVENTD_TEST_RING_FIXTURE_H
#define EVENTD_TEST_RING_FIXTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../channel.h"
#include "../handle.h"
#include "../kmes_format.h"
#include "../ring_map.h"
#include "../ring_pump.h"
#include "../ring_write.h"

struct ring_fixture {
  char directory[64], path[96];
  struct producer *producer;
  struct ring *ring;
};

static inline void fixture_open_cpu(struct ring_fixture *fixture, uint16_t cpu, uint64_t capacity) {
  const char *reason;
  char directory[] = "/tmp/eventd-ring-XXXXXX";
  if (mkdtemp(directory) == NULL) abort();
  strcpy(fixture->directory, directory);
  snprintf(fixture->path, sizeof fixture->path, "%s/cpu-%04u.ring", directory, cpu);
  if (producer_create(fixture->path, cpu, capacity, &fixture->producer, &reason) != 0) abort();
  if (ring_map_file(fixture->path, &fixture->ring, &reason) != 0) abort();
}

static inline void fixture_open(struct ring_fixture *fixture, uint64_t capacity) {
  fixture_open_cpu(fixture, 0, capacity);
}

static inline void fixture_close(struct ring_fixture *fixture) {
  if (fixture->ring != NULL) ring_unmap(fixture->ring);
  producer_close(fixture->producer);
  unlink(fixture->path);
  rmdir(fixture->directory);
}

/* The writable metadata word behind a consumer's read-only one. */
static inline void fixture_poke(struct ring_fixture *fixture, long offset, const void *bytes,
                                size_t length) {
  if (pwrite(fixture->ring->fd, bytes, length, offset) != (ssize_t)length) abort();
}

static inline void fixture_poke_u64(struct ring_fixture *fixture, long offset, uint64_t value) {
  fixture_poke(fixture, offset, &value, sizeof value);
}

/* Emits one event of type "t" with this payload; its sequence. */
static inline uint64_t fixture_emit(struct ring_fixture *fixture, const void *payload,
                                    size_t length) {
  const struct producer_event event = {
      .type = (const uint8_t *)"t", .type_len = 1, .payload = payload, .payload_len = length};
  size_t written;
  uint64_t sequence;
  if (producer_emit(fixture->producer, 0, &event, 1, NULL, &written, &sequence) != 0) abort();
  return sequence;
}

/* An open channel, acquired. */
struct fixture_channel {
  int64_t handle;
  struct channel *channel;
};

static inline struct fixture_channel fixture_channel(uint32_t rows, size_t bytes) {
  struct fixture_channel result = {.handle = channel_open(0, rows, bytes)};
  result.channel = handle_acquire(HANDLE_CHANNEL, result.handle);
  if (result.channel == NULL) abort();
  return result;
}

static inline void fixture_channel_close(struct fixture_channel *channel) {
  handle_close(HANDLE_CHANNEL, channel->handle);
  handle_release(channel->handle);
}

/* Text of a segment's entries: "1 2 [3-5r] 6"; r = restart, l = ring loss. */
static inline void fixture_text(const uint8_t *bytes, size_t length, char *out, size_t room) {
  size_t used = 0;
  out[0] = '\0';
  for (size_t at = 0; at < length && used < room; at += entry_size(bytes + at)) {
    const uint8_t *entry = bytes + at;
    const char *space = at > 0 ? " " : "";
    if (entry_is_gap(entry)) {
      used += (size_t)snprintf(out + used, room - used, "%s[%llu-%llu%c]", space,
                               (unsigned long long)entry_first(entry),
                               (unsigned long long)entry_last(entry),
                               read_u32(entry + GAP_CAUSE) == GAP_RESTART ? 'r' : 'l');
    } else {
      used += (size_t)snprintf(out + used, room - used, "%s%llu", space,
                               (unsigned long long)entry_first(entry));
    }
  }
}

/* Takes and commits one segment and compares its text. */
static inline bool fixture_takes(struct fixture_channel *channel, const char *expected) {
  struct segment_info info;
  char text[4096] = "";
  if (channel_take(channel->channel, &info) == 1) {
    const uint8_t *bytes;
    size_t length;
    uint32_t rows;
    if (!segment_borrow(info.handle, &bytes, &length, &rows)) abort();
    fixture_text(bytes, length, text, sizeof text);
    segment_return(info.handle);
    segment_committed(info.handle);
  }
  if (strcmp(text, expected) == 0) return true;
  fprintf(stderr, "expected \"%s\", got \"%s\"\n", expected, text);
  return false;
}

static inline void fixture_ignore(void *context, const struct pump_note *note) {
  (void)context;
  (void)note;
}

static inline void fixture_pump(struct pump *pump, struct ring_fixture *fixture,
                                struct fixture_channel *channel, uint64_t last,
                                const struct sequence_range *covered, size_t count) {
  if (!pump_start(pump, 0, &channel->channel, 1, last, NULL, covered, count)) abort();
  pump->notify = fixture_ignore;
  pump_read_from(pump, fixture->ring->page, fixture->ring->data, fixture->ring->capacity);
}

#endif

/*
 * The lock-free read protocol (KMES-117..126 with the resolutions of the same part), without
 * threads, waiting or destinations, so that it can be tested and fuzzed alone.
 *
 *     for (;;) switch (ring_next(&reader, limit, &event)) {
 *       case RING_EMPTY: ...wait...
 *       case RING_LAPPED: case RING_CORRUPT: ...note event.from and event.to...
 *       case RING_READY:
 *         if (!ring_copy(&reader, copy, event.size)) continue;   // torn: nothing may be used
 *         ring_advance(&reader, event.size);
 *     }
 */
#ifndef EVENTD_RING_READ_H
#define EVENTD_RING_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_reader {
  const uint8_t *page; /* producer page */
  const uint8_t *data; /* double-mapped data */
  uint64_t capacity;
  uint64_t read_pos; /* never decreases */
  uint16_t cpu;
};

enum ring_state { RING_EMPTY, RING_READY, RING_LAPPED, RING_CORRUPT };

struct ring_event {
  uint32_t size;      /* RING_READY: bytes of the next event, bounded by `available` */
  uint64_t available; /* RING_READY: published bytes from read_pos on, at most the capacity */
  uint64_t from, to;  /* RING_LAPPED, RING_CORRUPT: the jump that was made */
};

/* Starts at the oldest surviving event (KMES-118). */
void ring_reader_start(struct ring_reader *reader, const uint8_t *page, const uint8_t *data,
                       uint64_t capacity, uint16_t cpu);

/*
 * Looks at the next event below position `limit`. RING_READY has checked only its size against
 * the published range and its header against itself; the bytes count after ring_copy alone.
 */
enum ring_state ring_next(struct ring_reader *reader, uint64_t limit, struct ring_event *event);

/*
 * Copies `length` bytes at read_pos, at most what ring_next called available. False when the
 * producer may have overwritten any of them meanwhile: the copy must be forgotten.
 */
bool ring_copy(const struct ring_reader *reader, uint8_t *to, size_t length);

static inline void ring_advance(struct ring_reader *reader, uint64_t bytes) {
  reader->read_pos += bytes;
}

/*
 * Size of the event at the start of `bytes`, or 0 when no sane event of this CPU starts there
 * within `available` bytes. Never reads beyond `available`.
 */
uint32_t ring_event_size(const uint8_t *bytes, uint64_t available, uint16_t cpu);

/* Unread share of the ring, 0..1. */
double ring_fill(const struct ring_reader *reader);

#endif

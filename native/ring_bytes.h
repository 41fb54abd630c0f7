/*
 * Copying to and from ring data, and the fences around it.
 *
 * The protocol lets a reader copy bytes that the producer is overwriting and throws such copies
 * away afterwards. These copies race by design, also in the language's sense; they stay plain
 * memcpy because byte-wise atomics cost tenfold, and because the result is looked at only after
 * the tail has proved that nobody wrote.
 */
#ifndef EVENTD_RING_BYTES_H
#define EVENTD_RING_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void ring_bytes_out(uint8_t *to, const uint8_t *ring, size_t length) {
  memcpy(to, ring, length);
}
static inline void ring_bytes_in(uint8_t *ring, const uint8_t *from, size_t length) {
  memcpy(ring, from, length);
}
static inline void ring_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void ring_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#endif

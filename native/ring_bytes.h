/*
 * Copying to and from ring data. The protocol lets a reader copy bytes that the producer is
 * overwriting and throws such copies away afterwards, so these copies race by design.
 *
 * ThreadSanitizer knows neither the design nor fences. Under it the bytes are copied with relaxed
 * atomics, which is what the memory model would ask for, and fences become acquire/release
 * operations on a word of their own; so that it still checks everything around.
 */
#ifndef EVENTD_RING_BYTES_H
#define EVENTD_RING_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)

static inline void ring_bytes_out(uint8_t *to, const uint8_t *ring, size_t length) {
  for (size_t i = 0; i < length; i++) to[i] = __atomic_load_n(ring + i, __ATOMIC_RELAXED);
}
static inline void ring_bytes_in(uint8_t *ring, const uint8_t *from, size_t length) {
  for (size_t i = 0; i < length; i++) __atomic_store_n(ring + i, from[i], __ATOMIC_RELAXED);
}
/* x86 keeps loads in order; the compiler barrier is all that an acquire fence is there. */
static inline void ring_fence_acquire(void) { __asm__ volatile("" ::: "memory"); }
static inline void ring_fence_full(void) {
  static uint32_t word;
  __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
}

#else

static inline void ring_bytes_out(uint8_t *to, const uint8_t *ring, size_t length) {
  memcpy(to, ring, length);
}
static inline void ring_bytes_in(uint8_t *ring, const uint8_t *from, size_t length) {
  memcpy(ring, from, length);
}
static inline void ring_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void ring_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#endif

#endif

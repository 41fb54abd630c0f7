/* Sleeping on a ring's futex (KMES-127..135 with the resolutions of the same part). */
#ifndef EVENTD_RING_WAIT_H
#define EVENTD_RING_WAIT_H

#include <stdint.h>

#include "ring_map.h"

enum ring_wait { RING_WAIT_DATA, RING_WAIT_WOKEN, RING_WAIT_TIMEOUT };

/*
 * Sleeps until the producer wakes, or the timeout. Returns RING_WAIT_DATA at once when there is
 * something beyond `read_pos`, when the generation moved, or when `*control` is nonzero.
 */
enum ring_wait ring_wait(const struct ring *ring, uint64_t read_pos, const uint32_t *control,
                         uint32_t timeout_ms);

/* Wakes everybody who sleeps on the ring. The producer uses it, and a thread that is to stop. */
void ring_wake(const uint8_t *page);

#endif

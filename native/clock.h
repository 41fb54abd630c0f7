/* The two clocks, in nanoseconds. */
#ifndef EVENTD_CLOCK_H
#define EVENTD_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_realtime(void) { return clock_ns(CLOCK_REALTIME); }
static inline uint64_t clock_monotonic(void) { return clock_ns(CLOCK_MONOTONIC); }

#endif

/*
 * Drain threads (ING-8..25): one OS thread per ring that pumps it into the CPU's channels, sleeps
 * on the futex when it is empty, and follows the ring through generation changes.
 */
#ifndef EVENTD_DRAIN_H
#define EVENTD_DRAIN_H

#include "channel.h"
#include "ring_map.h"
#include "ring_sequence.h"

struct drain;

enum drain_report_kind {
  DRAIN_AVAILABLE,
  DRAIN_IDLE,
  DRAIN_THROTTLED,
  DRAIN_RESUMED,
  DRAIN_LAPPED,
  DRAIN_CORRUPT,
  DRAIN_GAP,
  DRAIN_REGRESSED,
  DRAIN_PRESSURE,
  DRAIN_GENERATION,
  DRAIN_REATTACHED,
  DRAIN_FINISHED,
};

struct drain_report {
  enum drain_report_kind kind;
  uint32_t index;         /* available, throttled, resumed */
  bool half_full;         /* available */
  uint64_t first, second; /* lapped, corrupt: from, to. gap: first, last. regressed: newest, known.
                             generation, finished: last sequence. reattached: generation, capacity */
  int level;              /* pressure */
  double fill;
};

/* Called on the drain thread; must not block. */
typedef void (*drain_notify)(void *context, const struct drain_report *report);

struct drain_options {
  struct ring *ring;
  void (*close_ring)(void *context, struct ring *ring); /* gives up a ring; any thread */
  uint16_t cpu;
  struct channel *const *channels; /* the caller keeps them alive until drain_free */
  uint32_t channel_count;
  uint64_t last_sequence;
  const uint64_t *last_ts;
  const struct sequence_range *covered;
  size_t covered_count;
  uint32_t elevated_percent, emergency_percent;
  drain_notify notify;
  void *context;
};

struct drain_status {
  uint64_t last_sequence, read_pos, events, gaps, lost;
  double peak_fill;
};

/*
 * Starts the thread, which owns the ring from now on. 0 or an errno (ring stays the caller's).
 *
 * A thread that takes over from an earlier one of the same CPU in this process starts at what that
 * one handed out. Its watermarks know what the earlier one still has in the same channel, but not
 * what it has in the CPU's other channels: those must have been stored or recorded first.
 */
int drain_start(const struct drain_options *options, struct drain **out);

/* Ends the thread now and joins it; gives up its rings. Safe twice and from several threads. */
void drain_stop(struct drain *drain);
/* After drain_stop. */
void drain_free(struct drain *drain);

/*
 * Asks for a last cycle up to the current write position, then a DRAIN_FINISHED report. A thread
 * that awaits a new ring, or whose channel was closed, finishes as it stands.
 */
void drain_finish(struct drain *drain);

/* Hands the new ring over. EBUSY unless a DRAIN_GENERATION report awaits it, EINVAL for a ring of
 * another CPU; then the ring stays the caller's. */
int drain_reattach(struct drain *drain, struct ring *ring);

void drain_limits(struct drain *drain, uint32_t elevated_percent, uint32_t emergency_percent);
void drain_status(struct drain *drain, struct drain_status *status);

#endif

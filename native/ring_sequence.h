/*
 * Sequence tracking of one CPU (ING-18..25, BOOT-9, BOOT-10): which events are new, which were
 * stored by an earlier run, and which numbers are lost.
 */
#ifndef EVENTD_RING_SEQUENCE_H
#define EVENTD_RING_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kmes_format.h"

struct sequence_range {
  uint64_t first, last; /* inclusive */
};

struct sequence_tracker {
  uint64_t last; /* everything up to here was seen, stored, or recorded as lost */
  bool has_ts;
  uint64_t ts, ts_sequence; /* header timestamp of the last event known, and its sequence */
  struct sequence_range *covered;
  size_t covered_count, covered_next;
  uint64_t resume_end; /* numbers up to here were known to an earlier run */
  bool resuming;       /* no new event above resume_end yet: losses span the downtime */
};

/*
 * Starts from `last` (0 = nothing seen in this boot). `covered` lists sorted, disjoint ranges
 * above it that are stored or gap-recorded; it is copied. False when memory is short.
 */
bool sequence_start(struct sequence_tracker *tracker, uint64_t last, const uint64_t *last_ts,
                    const struct sequence_range *covered, size_t count);
void sequence_stop(struct sequence_tracker *tracker);

/* True for sorted, disjoint, non-empty ranges above `last`. */
bool sequence_ranges_valid(uint64_t last, const struct sequence_range *ranges, size_t count);

enum sequence_verdict {
  SEQUENCE_NEXT, /* new: the tracker moved to it */
  SEQUENCE_SEEN, /* stored or recorded already: skip it */
  SEQUENCE_HOLE, /* `gap` is lost; record it, call sequence_gap, and ask again */
};

struct sequence_gap {
  uint64_t first, last;
  enum gap_cause cause;
};

/* Judges the event with this sequence and header timestamp. A hole leaves the tracker alone. */
enum sequence_verdict sequence_judge(struct sequence_tracker *tracker, uint64_t sequence,
                                     uint64_t timestamp, struct sequence_gap *gap);
/* The gap returned by the last judgement is in a channel now. */
void sequence_gap_done(struct sequence_tracker *tracker, const struct sequence_gap *gap);

#endif

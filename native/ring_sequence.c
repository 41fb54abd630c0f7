#include "ring_sequence.h"

#include <stdlib.h>
#include <string.h>

bool sequence_ranges_valid(uint64_t last, const struct sequence_range *ranges, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (ranges[i].first <= last || ranges[i].last < ranges[i].first) return false;
    if (ranges[i].last > INT64_MAX) return false;
    last = ranges[i].last;
  }
  return true;
}

/* Ranges that the tracker has reached count as seen. */
static void absorb(struct sequence_tracker *tracker) {
  while (tracker->covered_next < tracker->covered_count) {
    const struct sequence_range *range = &tracker->covered[tracker->covered_next];
    if (range->first > tracker->last + 1) return;
    if (range->last > tracker->last) tracker->last = range->last;
    tracker->covered_next++;
  }
}

bool sequence_start(struct sequence_tracker *tracker, uint64_t last, const uint64_t *last_ts,
                    const struct sequence_range *covered, size_t count) {
  *tracker = (struct sequence_tracker){
      .last = last,
      .has_ts = last_ts != NULL,
      .ts = last_ts != NULL ? *last_ts : 0,
      .ts_sequence = last_ts != NULL ? last : 0,
      .covered_count = count,
      .resume_end = count > 0 ? covered[count - 1].last : last,
      .resuming = last > 0 || count > 0,
  };
  if (count > 0) {
    tracker->covered = malloc(count * sizeof *covered);
    if (tracker->covered == NULL) return false;
    memcpy(tracker->covered, covered, count * sizeof *covered);
  }
  absorb(tracker);
  return true;
}

void sequence_stop(struct sequence_tracker *tracker) {
  free(tracker->covered);
  tracker->covered = NULL;
  tracker->covered_count = 0;
}

static void remember(struct sequence_tracker *tracker, uint64_t sequence, uint64_t timestamp) {
  if (tracker->has_ts && sequence < tracker->ts_sequence) return;
  tracker->has_ts = true;
  tracker->ts = timestamp;
  tracker->ts_sequence = sequence;
}

enum sequence_verdict sequence_judge(struct sequence_tracker *tracker, uint64_t sequence,
                                     uint64_t timestamp, struct sequence_gap *gap) {
  if (sequence <= tracker->last) {
    remember(tracker, sequence, timestamp);
    return SEQUENCE_SEEN;
  }
  if (sequence == tracker->last + 1) {
    if (tracker->resuming && sequence > tracker->resume_end) tracker->resuming = false;
    tracker->last = sequence;
    remember(tracker, sequence, timestamp);
    absorb(tracker);
    return SEQUENCE_NEXT;
  }
  gap->first = tracker->last + 1;
  gap->last = sequence - 1;
  if (tracker->covered_next < tracker->covered_count) {
    uint64_t next = tracker->covered[tracker->covered_next].first;
    if (next <= gap->last) gap->last = next - 1;
  }
  gap->cause = tracker->resuming ? GAP_RESTART : GAP_RING_LOSS;
  return SEQUENCE_HOLE;
}

void sequence_gap_done(struct sequence_tracker *tracker, const struct sequence_gap *gap) {
  tracker->last = gap->last;
  /* The first gap across the downtime says all that the restart is to blame for. */
  if (gap->last >= tracker->resume_end) tracker->resuming = false;
  absorb(tracker);
}

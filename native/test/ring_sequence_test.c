#include "../ring_sequence.h"
#include "expect.h"

/* Judges until the event is seen or new; appends "a-bX " for each gap and "s"/"n" at the end. */
static const char *judge(struct sequence_tracker *tracker, uint64_t sequence) {
  static char text[256];
  size_t used = 0;
  for (;;) {
    struct sequence_gap gap;
    enum sequence_verdict verdict = sequence_judge(tracker, sequence, sequence * 10, &gap);
    if (verdict != SEQUENCE_HOLE) {
      snprintf(text + used, sizeof text - used, "%s", verdict == SEQUENCE_NEXT ? "n" : "s");
      return text;
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "%llu-%llu%c ",
                             (unsigned long long)gap.first, (unsigned long long)gap.last,
                             gap.cause == GAP_RESTART ? 'r' : 'l');
    sequence_gap_done(tracker, &gap);
  }
}

#define JUDGED(tracker, sequence, expected) EXPECT(strcmp(judge(tracker, sequence), expected) == 0)

int main(void) {
  struct sequence_tracker tracker;

  title("[ING-20] [ING-21] [ING-22] a fresh boot starts at 1 and every hole is one gap");
  EXPECT(sequence_start(&tracker, 0, NULL, NULL, 0));
  JUDGED(&tracker, 4, "1-3l n");
  EXPECT(tracker.has_ts && tracker.ts == 40);
  JUDGED(&tracker, 5, "n");
  JUDGED(&tracker, 5, "s");
  JUDGED(&tracker, 9, "6-8l n");
  sequence_stop(&tracker);

  title("[BOOT-10] events at or below the resume point are seen; the first hole spans the downtime");
  uint64_t ts = 7;
  EXPECT(sequence_start(&tracker, 5, &ts, NULL, 0));
  JUDGED(&tracker, 3, "s");
  EXPECT(tracker.ts == 7);
  JUDGED(&tracker, 8, "6-7r n");
  JUDGED(&tracker, 10, "9-9l n");
  sequence_stop(&tracker);

  title("[ING-23] the replayed last event supplies a timestamp that the caller did not know");
  EXPECT(sequence_start(&tracker, 5, NULL, NULL, 0));
  JUDGED(&tracker, 5, "s");
  EXPECT(tracker.has_ts && tracker.ts == 50);
  sequence_stop(&tracker);

  title("[BOOT-9] covered ranges split a hole and are never part of a gap");
  const struct sequence_range one[] = {{8, 9}};
  EXPECT(sequence_start(&tracker, 5, NULL, one, 1));
  JUDGED(&tracker, 12, "6-7r 10-11r n");
  JUDGED(&tracker, 14, "13-13l n");
  sequence_stop(&tracker);

  title("[BOOT-9] an event inside a covered range is seen, with the hole before it");
  EXPECT(sequence_start(&tracker, 5, NULL, one, 1));
  JUDGED(&tracker, 9, "6-7r s");
  JUDGED(&tracker, 10, "n");
  sequence_stop(&tracker);

  title("[BOOT-9] new events between covered ranges are stored; losses there still are the restart's");
  const struct sequence_range two[] = {{6, 6}, {8, 8}, {20, 30}};
  EXPECT(sequence_start(&tracker, 5, NULL, two, 3));
  EXPECT(tracker.last == 6);
  JUDGED(&tracker, 6, "s");
  JUDGED(&tracker, 7, "n");
  EXPECT(tracker.last == 8);
  JUDGED(&tracker, 11, "9-10r n");
  JUDGED(&tracker, 25, "12-19r s");
  JUDGED(&tracker, 31, "n");
  JUDGED(&tracker, 33, "32-32l n");
  sequence_stop(&tracker);

  title("[BOOT-9] ranges must be sorted, disjoint and above the resume point");
  const struct sequence_range backwards[] = {{9, 8}}, overlapping[] = {{6, 9}, {9, 10}};
  EXPECT(sequence_ranges_valid(5, two, 3));
  EXPECT(!sequence_ranges_valid(6, two, 3));
  EXPECT(!sequence_ranges_valid(0, backwards, 1));
  EXPECT(!sequence_ranges_valid(0, overlapping, 2));
  return expect_result();
}

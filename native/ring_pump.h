/*
 * Moves events from one ring into its CPU's channels: read protocol, sequence tracking, gap
 * entries and round-robin, without threads or waiting. The drain thread is a loop around it.
 */
#ifndef EVENTD_RING_PUMP_H
#define EVENTD_RING_PUMP_H

#include <stdatomic.h>

#include "channel.h"
#include "ring_read.h"
#include "ring_sequence.h"
#include "watermark.h"

struct pump_lane {
  struct channel *channel;
  struct channel_feed *feed;
};

enum pump_note_kind { PUMP_AVAILABLE, PUMP_LAPPED, PUMP_CORRUPT, PUMP_GAP, PUMP_REGRESSED };

struct pump_note {
  enum pump_note_kind kind;
  uint32_t lane;          /* PUMP_AVAILABLE */
  bool half_full;         /* PUMP_AVAILABLE */
  uint64_t first, second; /* from/to, first/last missing, or newest/known */
};

typedef void (*pump_notify)(void *context, const struct pump_note *note);

/* Readable from any thread while the pump runs. */
struct pump_counters {
  _Atomic uint64_t last_sequence, read_pos, events, gaps, lost;
};

struct pump {
  struct ring_reader reader;
  struct sequence_tracker sequence;
  struct track *track;
  struct pump_lane *lanes;
  uint32_t lane_count, turn; /* turn: lane of the next new event (ING-31) */
  size_t run_bytes;          /* copy size for runs; shrinks while being lapped */
  size_t need;               /* PUMP_FULL: bytes the lane in turn lacks */
  uint64_t newest;           /* highest sequence met in this ring since it was begun or jumped in */
  bool regressed;            /* this ring was reported to begin anew */
  pump_notify notify;
  void *context;
  struct pump_counters counters;
};

enum pump_result {
  PUMP_EMPTY,     /* nothing below the limit */
  PUMP_MORE,      /* did something; call again */
  PUMP_FULL,      /* lane `turn` has no room for `need` bytes */
  PUMP_CLOSED,    /* lane `turn` was closed */
  PUMP_NO_MEMORY, /* lane `turn` could not grow; wait and retry */
};

/*
 * Binds the channels to a new track. The caller keeps the channels alive until pump_stop.
 * False when memory is short. The reader must be set with pump_read_from before the first step.
 */
bool pump_start(struct pump *pump, uint16_t cpu, struct channel *const *channels, uint32_t count,
                uint64_t last, const uint64_t *last_ts, const struct sequence_range *covered,
                size_t covered_count);
void pump_stop(struct pump *pump);

/*
 * Reads from the tail of this ring on; events already seen are skipped by sequence (KMES-138). A ring
 * that holds nothing but such, and ends below what is known, has begun to count anew within the boot:
 * PUMP_REGRESSED, once, for what it is losing leaves no other trace.
 */
void pump_read_from(struct pump *pump, const uint8_t *page, const uint8_t *data,
                    uint64_t capacity);

/* One bounded step: at most one channel lock, PUMP_RUN_EVENTS events. */
enum pump_result pump_step(struct pump *pump, uint64_t limit);

enum { PUMP_RUN_EVENTS = 512, PUMP_RUN_BYTES = 128 * 1024, PUMP_RUN_MIN_BYTES = 1024 };

#endif

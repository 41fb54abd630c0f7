/*
 * The bounded handoff between drain threads and one shard writer (ING-42..47).
 *
 * Two buffers take turns: one fills while the other, taken as a *segment*, is being stored. A
 * segment is a contiguous run of entries: KMES events as they stood in the ring, and gap entries
 * (kmes_format.h). Several drain threads append, one writer takes. A full channel makes the
 * appenders wait; nothing is ever discarded.
 */
#ifndef EVENTD_CHANNEL_H
#define EVENTD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kmes_format.h"
#include "watermark.h"

struct channel;

/* ---- For readers of a taken segment (the virtual table). Thread safe. ---- */

/*
 * Looks up a taken segment and keeps it alive until segment_return. False when the handle names
 * no taken segment. `bytes` holds `rows` whole entries in `len` bytes.
 */
bool segment_borrow(int64_t handle, const uint8_t **bytes, size_t *len, uint32_t *rows);
void segment_return(int64_t handle);

/* ---- Life cycle ---- */

/* Registers a channel; 0 with errno set on failure. */
int64_t channel_open(uint32_t shard, uint32_t max_rows, size_t max_bytes);

/* ---- Writer side ---- */

struct segment_info {
  int64_t handle;
  uint32_t rows, events, gaps;
  size_t bytes;
  uint64_t opened_at; /* CLOCK_MONOTONIC ns of the first entry */
};

/* A maximal contiguous run of one CPU's sequences. */
struct segment_run {
  bool gap;
  uint16_t cpu;
  uint64_t first, last;
  bool has_previous, has_revealing;
  uint64_t previous_ts, revealing_ts;
  enum gap_cause cause;  /* of a gap, as detected_at */
  uint64_t detected_at;
};

struct channel_status {
  uint32_t rows, max_rows, blocked;
  size_t bytes;
  bool half_full; /* as in channel_change */
};

struct segment_watermark {
  uint16_t cpu;
  uint64_t last, settled;
};

/*
 * Hands the filling buffer out, at most `max_rows` rows of it (ING-55). Returns 1 with `info`
 * filled, 0 when there is nothing or a segment is still out, -1 with errno on failure.
 */
int channel_take(struct channel *channel, struct segment_info *info);
/* Entries already queued stay; appenders wait until the occupancy fits. */
void channel_limit(struct channel *channel, uint32_t max_rows);
void channel_status(struct channel *channel, struct channel_status *status);
/* Wakes appenders for good: every later append reports CHANNEL_CLOSED. */
void channel_shut(struct channel *channel);
/* All losses reported by segment_lost on this channel are recorded as gaps in a committed batch. */
void channel_loss_recorded(struct channel *channel);

/*
 * STO-15 values that hold if this segment commits. `marks` is malloc'ed; returns the count, -1
 * with errno EBADF (stale) or ENOMEM.
 */
int segment_watermarks(int64_t handle, struct segment_watermark **marks);
/* The transaction committed: memory goes back to the channel. False when stale. */
bool segment_committed(int64_t handle);
/* The segment could not be stored: lists what it held (malloc'ed) and releases it. */
int segment_lost(int64_t handle, struct segment_run **runs);

/* ---- Drain thread side ---- */

struct channel_feed;

/*
 * Binds lane `lane` of a CPU's track to this channel; the channel takes its own reference on the
 * track. `previous_ts` is the header timestamp of the CPU's last event so far, if known. NULL
 * when memory is short.
 */
struct channel_feed *channel_attach(struct channel *channel, struct track *track, uint32_t lane,
                                    const uint64_t *previous_ts);
/* The drain thread is gone; the feed disappears once nothing of it is uncommitted. */
void channel_detach(struct channel *channel, struct channel_feed *feed);

enum channel_result { CHANNEL_OK, CHANNEL_FULL, CHANNEL_CLOSED, CHANNEL_NO_MEMORY };

/* Room offered to an appender while it holds the channel. */
struct channel_room {
  uint8_t *at;    /* where the next entry goes */
  size_t bytes;   /* how many bytes fit there now */
  uint32_t rows;  /* how many entries fit */
};

/*
 * What an append did to the occupancy, so that the appender reports seldom. Half full: in rows or in
 * bytes, for either of them makes appenders wait when it is used up.
 */
struct channel_change {
  bool turned_nonempty;
  bool passed_half;
  bool half_full;
};

/*
 * Locks the channel and makes room for at least `need` bytes and one row, at most `want` bytes.
 * A single entry larger than the byte bound is let into an empty buffer. On CHANNEL_OK the caller
 * writes entries to `room->at`, accounts them, and must end with channel_end; on any other result
 * the channel is not locked.
 */
enum channel_result channel_begin(struct channel *channel, size_t need, size_t want,
                                  struct channel_room *room);
/* Whole entries of one CPU, in sequence order, that an appender wrote. */
struct channel_append {
  size_t bytes;
  uint32_t events, gaps;
  uint64_t first, last; /* sequences */
  uint64_t last_ts;     /* header timestamp of the last event, when events > 0 */
};

/* Accounts entries that now stand at room.at; moves the room forward. */
void channel_account(struct channel *channel, struct channel_feed *feed, struct channel_room *room,
                     const struct channel_append *append);
/* Unlocks; bytes written beyond the accounted ones are forgotten. */
void channel_end(struct channel *channel, struct channel_change *change);

/* Waits until an append of `need` bytes could succeed, or the timeout; true when it could. */
bool channel_wait(struct channel *channel, size_t need, uint32_t timeout_ms);
/* Wakes waiting appenders without a reason of the channel's own (stop request). */
void channel_nudge(struct channel *channel);

#endif

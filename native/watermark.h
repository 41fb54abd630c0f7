/*
 * How far a CPU's sequences are safe (STO-15, BOOT-8, BOOT-9).
 *
 * A CPU's events may travel through several channels whose shards commit on their own. Each
 * channel is a *lane* of the CPU's track. A lane remembers the lowest sequence that is still on
 * its way, and the track remembers the last sequence handed to any lane. Everything below the
 * lowest of those is settled: stored or recorded as lost.
 */
#ifndef EVENTD_WATERMARK_H
#define EVENTD_WATERMARK_H

#include <stdint.h>

struct track;

/* Where an uncommitted sequence of a lane is. Entries move only forward through these. */
enum lane_stage {
  LANE_FILLING, /* in the channel's filling buffer */
  LANE_OUT,     /* in the segment taken by the writer */
  LANE_LOST,    /* in a segment that could not be stored, not yet recorded as a gap */
  LANE_STAGES,
};

/* A track with one reference, or NULL. Everything up to `handed` counts as settled. */
struct track *track_new(uint16_t cpu, uint32_t lanes, uint64_t handed);
struct track *track_ref(struct track *track);
void track_unref(struct track *track);
uint16_t track_cpu(const struct track *track);

/* The drain thread has passed `sequence`: it and all before are in a lane, stored, or covered. */
void track_handed(struct track *track, uint64_t sequence);

/* Sets the lowest uncommitted sequence of a lane at a stage; 0 = none. */
void track_mark(struct track *track, uint32_t lane, enum lane_stage stage, uint64_t first);
/* Sets two stages at once, so that no observer sees an entry in neither. */
void track_move(struct track *track, uint32_t lane, enum lane_stage from, uint64_t from_first,
                enum lane_stage to, uint64_t to_first);

/*
 * Highest sequence up to which everything is settled, taking what is LANE_OUT on `committing` as
 * committed. Never too high; may be too low while other lanes are busy.
 */
uint64_t track_settled(struct track *track, uint32_t committing);

#endif

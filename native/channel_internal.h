/* What channel.c (queue) and segment.c (what a taken segment means) share. */
#ifndef EVENTD_CHANNEL_INTERNAL_H
#define EVENTD_CHANNEL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "channel.h"
#include "handle.h"

struct buffer {
  uint8_t *bytes;
  size_t length, capacity;
  uint32_t rows, events, gaps;
  uint32_t slack; /* small segments in a row while the buffer is large */
  uint64_t opened_at;
};

/* Where a split cuts what a feed has in the filling buffer. Sequences are 0 when there is nothing. */
struct feed_cut {
  uint64_t last;       /* in the segment */
  bool has_ts;
  uint64_t ts;         /* last event before the rest */
  uint64_t rest_first; /* left to fill on */
};

/* What one CPU has in this channel. Sequences are 0 when there is nothing. */
struct channel_feed {
  struct channel_feed *next;
  struct track *track;
  uint32_t lane;
  bool detached;
  bool has_last_ts, fill_has_previous, out_has_previous;
  uint64_t last_ts;                           /* last event appended */
  uint64_t fill_first, fill_last;             /* in the filling buffer */
  uint64_t out_first, out_last;               /* in the taken segment */
  uint64_t lost_first;                        /* in failed segments */
  uint64_t fill_previous_ts, out_previous_ts; /* last event before the buffer's first entry */
  struct feed_cut cut;                        /* holds while a segment is taken */
};

struct channel {
  pthread_mutex_t lock;
  pthread_cond_t room;
  atomic_uint references; /* handle, taken segment */
  uint32_t shard, max_rows, blocked;
  size_t max_bytes;
  bool began_empty, began_half_full; /* before the append under way */
  struct buffer buffers[2];
  int filling; /* index of the buffer that fills */
  bool out;    /* the other one is a taken segment */
  bool closed;
  struct channel_feed *feeds;
};

struct segment {
  struct channel *channel;
  struct buffer *buffer;
};

static inline struct buffer *channel_filling(struct channel *channel) {
  return &channel->buffers[channel->filling];
}

/* Frees detached feeds with nothing on its way. The channel is locked. */
void channel_prune_feeds(struct channel *channel);

#endif

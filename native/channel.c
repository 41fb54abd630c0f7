#include "channel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "channel_internal.h"
#include "clock.h"
#include "kmes_format.h"

enum {
  FIRST_BUFFER_BYTES = 64 * 1024,
  /* A buffer above this size is given back after SLACK_SEGMENTS small segments in a row. */
  SLACK_BYTES = 1024 * 1024,
  SLACK_SEGMENTS = 64,
};

static void channel_unref(struct channel *channel) {
  if (atomic_fetch_sub_explicit(&channel->references, 1, memory_order_acq_rel) != 1) return;
  while (channel->feeds != NULL) {
    struct channel_feed *feed = channel->feeds;
    channel->feeds = feed->next;
    track_unref(feed->track);
    free(feed);
  }
  free(channel->buffers[0].bytes);
  free(channel->buffers[1].bytes);
  pthread_cond_destroy(&channel->room);
  pthread_mutex_destroy(&channel->lock);
  free(channel);
}

static void destroy_channel(void *object) { channel_unref(object); }

int64_t channel_open(uint32_t shard, uint32_t max_rows, size_t max_bytes) {
  struct channel *channel = calloc(1, sizeof *channel);
  if (channel == NULL) {
    errno = ENOMEM;
    return 0;
  }
  pthread_mutex_init(&channel->lock, NULL);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&channel->room, &attributes);
  pthread_condattr_destroy(&attributes);
  atomic_init(&channel->references, 1);
  channel->shard = shard;
  channel->max_rows = max_rows;
  channel->max_bytes = max_bytes;
  int64_t handle = handle_open(HANDLE_CHANNEL, channel, destroy_channel);
  if (handle == 0) {
    channel_unref(channel);
    errno = ENOMEM;
  }
  return handle;
}

void channel_limit(struct channel *channel, uint32_t max_rows) {
  pthread_mutex_lock(&channel->lock);
  channel->max_rows = max_rows;
  pthread_cond_broadcast(&channel->room);
  pthread_mutex_unlock(&channel->lock);
}

/* Beyond half of its room, in rows or in bytes: time to take what is there (ING-52). */
static bool half_full(struct channel *channel) {
  const struct buffer *filling = channel_filling(channel);
  return filling->rows > channel->max_rows / 2 || filling->length > channel->max_bytes / 2;
}

void channel_status(struct channel *channel, struct channel_status *status) {
  pthread_mutex_lock(&channel->lock);
  const struct buffer *filling = channel_filling(channel);
  *status = (struct channel_status){
      .rows = filling->rows,
      .max_rows = channel->max_rows,
      .blocked = channel->blocked,
      .bytes = filling->length,
      .half_full = half_full(channel),
  };
  pthread_mutex_unlock(&channel->lock);
}

void channel_shut(struct channel *channel) {
  pthread_mutex_lock(&channel->lock);
  channel->closed = true;
  pthread_cond_broadcast(&channel->room);
  pthread_mutex_unlock(&channel->lock);
}

void channel_nudge(struct channel *channel) {
  pthread_mutex_lock(&channel->lock);
  pthread_cond_broadcast(&channel->room);
  pthread_mutex_unlock(&channel->lock);
}

/* ---- Feeds ---- */

struct channel_feed *channel_attach(struct channel *channel, struct track *track, uint32_t lane,
                                    const uint64_t *previous_ts) {
  struct channel_feed *feed = calloc(1, sizeof *feed);
  if (feed == NULL) return NULL;
  feed->track = track_ref(track);
  feed->lane = lane;
  if (previous_ts != NULL) {
    feed->has_last_ts = true;
    feed->last_ts = *previous_ts;
  }
  pthread_mutex_lock(&channel->lock);
  feed->next = channel->feeds;
  channel->feeds = feed;
  pthread_mutex_unlock(&channel->lock);
  return feed;
}

void channel_prune_feeds(struct channel *channel) {
  struct channel_feed **link = &channel->feeds;
  while (*link != NULL) {
    struct channel_feed *feed = *link;
    if (feed->detached && feed->fill_first == 0 && feed->out_first == 0 && feed->lost_first == 0) {
      *link = feed->next;
      track_unref(feed->track);
      free(feed);
    } else {
      link = &feed->next;
    }
  }
}

void channel_detach(struct channel *channel, struct channel_feed *feed) {
  pthread_mutex_lock(&channel->lock);
  feed->detached = true;
  channel_prune_feeds(channel);
  pthread_mutex_unlock(&channel->lock);
}

/* ---- Appending ---- */

static bool has_room(struct channel *channel, size_t need) {
  const struct buffer *filling = channel_filling(channel);
  if (filling->rows >= channel->max_rows) return false;
  return filling->length == 0 || filling->length + need <= channel->max_bytes;
}

static bool grow(struct buffer *buffer, size_t need, size_t bound) {
  if (need <= buffer->capacity) return true;
  size_t capacity = buffer->capacity < FIRST_BUFFER_BYTES ? FIRST_BUFFER_BYTES : buffer->capacity;
  while (capacity < need) capacity *= 2;
  if (capacity > bound && need <= bound) capacity = bound;
  uint8_t *bytes = realloc(buffer->bytes, capacity);
  if (bytes == NULL) return false;
  buffer->bytes = bytes;
  buffer->capacity = capacity;
  return true;
}

enum channel_result channel_begin(struct channel *channel, size_t need, size_t want,
                                  struct channel_room *room) {
  pthread_mutex_lock(&channel->lock);
  enum channel_result result = CHANNEL_OK;
  struct buffer *filling = channel_filling(channel);
  size_t bytes = need;
  if (channel->closed) {
    result = CHANNEL_CLOSED;
  } else if (!has_room(channel, need)) {
    result = CHANNEL_FULL;
  } else {
    size_t left = filling->length < channel->max_bytes ? channel->max_bytes - filling->length : 0;
    if (want > need && left > need) bytes = want < left ? want : left;
    if (!grow(filling, filling->length + bytes, channel->max_bytes)) result = CHANNEL_NO_MEMORY;
  }
  if (result != CHANNEL_OK) {
    pthread_mutex_unlock(&channel->lock);
    return result;
  }
  room->at = filling->bytes + filling->length;
  room->bytes = bytes;
  room->rows = channel->max_rows - filling->rows;
  channel->began_empty = filling->rows == 0;
  channel->began_half_full = half_full(channel);
  return CHANNEL_OK;
}

void channel_account(struct channel *channel, struct channel_feed *feed, struct channel_room *room,
                     const struct channel_append *append) {
  struct buffer *filling = channel_filling(channel);
  if (filling->rows == 0) filling->opened_at = clock_monotonic();
  filling->length += append->bytes;
  filling->events += append->events;
  filling->gaps += append->gaps;
  filling->rows += append->events + append->gaps;
  if (feed->fill_first == 0) {
    feed->fill_first = append->first;
    feed->fill_has_previous = feed->has_last_ts;
    feed->fill_previous_ts = feed->last_ts;
    track_mark(feed->track, feed->lane, LANE_FILLING, append->first);
  }
  feed->fill_last = append->last;
  if (append->events > 0) {
    feed->has_last_ts = true;
    feed->last_ts = append->last_ts;
  }
  room->at += append->bytes;
  room->bytes -= append->bytes;
  room->rows -= append->events + append->gaps;
}

void channel_end(struct channel *channel, struct channel_change *change) {
  change->half_full = half_full(channel);
  change->turned_nonempty = channel->began_empty && channel_filling(channel)->rows > 0;
  change->passed_half = !channel->began_half_full && change->half_full;
  pthread_mutex_unlock(&channel->lock);
}

bool channel_wait(struct channel *channel, size_t need, uint32_t timeout_ms) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += (long)timeout_ms * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  pthread_mutex_lock(&channel->lock);
  bool ready = channel->closed || has_room(channel, need);
  if (!ready) {
    channel->blocked++;
    /* One wait only: a nudge must reach the caller, who looks at its stop flag. */
    pthread_cond_timedwait(&channel->room, &channel->lock, &until);
    channel->blocked--;
    ready = channel->closed || has_room(channel, need);
  }
  pthread_mutex_unlock(&channel->lock);
  return ready;
}

/* ---- Taking ---- */

/* Last reference to a segment is gone: its buffer may fill again. */
static void release_segment(void *object) {
  struct segment *segment = object;
  struct channel *channel = segment->channel;
  pthread_mutex_lock(&channel->lock);
  struct buffer *buffer = segment->buffer;
  if (buffer->capacity > SLACK_BYTES && buffer->length < buffer->capacity / 8) {
    if (++buffer->slack >= SLACK_SEGMENTS) {
      free(buffer->bytes);
      *buffer = (struct buffer){0};
    }
  } else {
    buffer->slack = 0;
  }
  buffer->length = 0;
  buffer->rows = buffer->events = buffer->gaps = 0;
  channel->out = false;
  pthread_mutex_unlock(&channel->lock);
  channel_unref(channel);
  free(segment);
}

static struct channel_feed *feed_of(struct channel *channel, uint16_t cpu, uint64_t sequence) {
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    if (track_cpu(feed->track) == cpu && feed->fill_first != 0 && sequence >= feed->fill_first &&
        sequence <= feed->fill_last) {
      return feed;
    }
  }
  return NULL;
}

/*
 * The row limit was lowered below what is queued: leaves the first `max_rows` rows in `head` and
 * moves the rest to the other buffer, which has room for it: one segment stays one batch
 * (ING-55).
 */
static void split(struct channel *channel, struct buffer *head, struct buffer *tail) {
  size_t at = 0;
  uint32_t rows = 0, gaps = 0;
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    feed->cut = (struct feed_cut){.has_ts = feed->fill_has_previous, .ts = feed->fill_previous_ts};
  }
  for (; rows < channel->max_rows; rows++) {
    const uint8_t *entry = head->bytes + at;
    struct channel_feed *feed = feed_of(channel, entry_cpu(entry), entry_first(entry));
    if (feed != NULL) {
      feed->cut.last = entry_last(entry);
      if (!entry_is_gap(entry)) {
        feed->cut.has_ts = true;
        feed->cut.ts = read_u64(entry + KMES_TIMESTAMP);
      }
    }
    gaps += entry_is_gap(entry);
    at += entry_size(entry);
  }
  size_t rest = head->length - at;
  memcpy(tail->bytes, head->bytes + at, rest);
  for (size_t i = 0; i < rest; i += entry_size(tail->bytes + i)) {
    const uint8_t *entry = tail->bytes + i;
    struct channel_feed *feed = feed_of(channel, entry_cpu(entry), entry_first(entry));
    if (feed != NULL && feed->cut.rest_first == 0) feed->cut.rest_first = entry_first(entry);
  }
  tail->length = rest;
  tail->rows = head->rows - rows;
  tail->gaps = head->gaps - gaps;
  tail->events = tail->rows - tail->gaps;
  tail->opened_at = head->opened_at;
  head->length = at;
  head->rows = rows;
  head->gaps = gaps;
  head->events = rows - gaps;
}

/* The filling entries of a feed become the segment's, up to its cut. */
static void hand_over(struct channel_feed *feed) {
  const struct feed_cut *cut = &feed->cut;
  if (feed->fill_first == 0 || cut->last == 0) return; /* it has nothing, or all behind the cut */
  feed->out_first = feed->fill_first;
  feed->out_last = cut->last;
  feed->out_previous_ts = feed->fill_previous_ts;
  feed->out_has_previous = feed->fill_has_previous;
  feed->fill_first = cut->rest_first;
  if (cut->rest_first != 0) {
    feed->fill_previous_ts = cut->ts;
    feed->fill_has_previous = cut->has_ts;
  }
  track_move(feed->track, feed->lane, LANE_FILLING, cut->rest_first, LANE_OUT, feed->out_first);
}

int channel_take(struct channel *channel, struct segment_info *info) {
  struct segment *segment = malloc(sizeof *segment);
  if (segment == NULL) {
    errno = ENOMEM;
    return -1;
  }
  pthread_mutex_lock(&channel->lock);
  struct buffer *head = channel_filling(channel);
  struct buffer *other = &channel->buffers[channel->filling ^ 1];
  if (channel->out || head->rows == 0) {
    pthread_mutex_unlock(&channel->lock);
    free(segment);
    return 0;
  }
  *segment = (struct segment){.channel = channel, .buffer = head};
  bool over = head->rows > channel->max_rows;
  if (over && !grow(other, head->length, head->length)) {
    pthread_mutex_unlock(&channel->lock);
    free(segment);
    errno = ENOMEM;
    return -1;
  }
  int64_t handle = handle_open(HANDLE_SEGMENT, segment, release_segment);
  if (handle == 0) {
    pthread_mutex_unlock(&channel->lock);
    free(segment);
    errno = ENOMEM;
    return -1;
  }
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    feed->cut = (struct feed_cut){.last = feed->fill_last};
  }
  if (over) split(channel, head, other);
  atomic_fetch_add_explicit(&channel->references, 1, memory_order_relaxed);
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    hand_over(feed);
  }
  channel->filling ^= 1;
  channel->out = true;
  *info = (struct segment_info){
      .handle = handle,
      .rows = head->rows,
      .events = head->events,
      .gaps = head->gaps,
      .bytes = head->length,
      .opened_at = head->opened_at,
  };
  pthread_cond_broadcast(&channel->room);
  pthread_mutex_unlock(&channel->lock);
  return 1;
}

/* What a taken segment holds and what its fate means for the CPUs' watermarks. */
#include <errno.h>
#include <stdlib.h>

#include "channel_internal.h"
#include "kmes_format.h"

bool segment_borrow(int64_t handle, const uint8_t **bytes, size_t *len, uint32_t *rows) {
  struct segment *segment = handle_acquire(HANDLE_SEGMENT, handle);
  if (segment == NULL) return false;
  *bytes = segment->buffer->bytes;
  *len = segment->buffer->length;
  *rows = segment->buffer->rows;
  return true;
}

void segment_return(int64_t handle) { handle_release(handle); }

/*
 * How far the CPU is settled once this channel's segment commits. A drain thread that was replaced
 * leaves its feed behind for as long as something of it is queued or lost; that counts, too.
 */
static uint64_t settled_here(struct channel *channel, uint16_t cpu) {
  uint64_t lowest = UINT64_MAX;
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    if (track_cpu(feed->track) != cpu) continue;
    uint64_t settled = track_settled(feed->track, feed->lane);
    if (settled < lowest) lowest = settled;
  }
  return lowest;
}

int segment_watermarks(int64_t handle, struct segment_watermark **marks) {
  struct segment *segment = handle_acquire(HANDLE_SEGMENT, handle);
  if (segment == NULL) {
    errno = EBADF;
    return -1;
  }
  struct channel *channel = segment->channel;
  int count = 0;
  pthread_mutex_lock(&channel->lock);
  size_t feeds = 1;
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) feeds++;
  struct segment_watermark *list = malloc(feeds * sizeof *list);
  for (struct channel_feed *feed = channel->feeds; list != NULL && feed != NULL; feed = feed->next) {
    if (feed->out_first == 0) continue;
    uint16_t cpu = track_cpu(feed->track);
    uint64_t settled = settled_here(channel, cpu);
    int at = 0;
    while (at < count && list[at].cpu != cpu) at++;
    if (at == count) {
      list[count++] = (struct segment_watermark){.cpu = cpu, .last = feed->out_last,
                                                 .settled = settled};
    } else if (feed->out_last > list[at].last) {
      list[at].last = feed->out_last;
    }
  }
  pthread_mutex_unlock(&channel->lock);
  handle_release(handle);
  if (list == NULL) {
    errno = ENOMEM;
    return -1;
  }
  *marks = list;
  return count;
}

bool segment_committed(int64_t handle) {
  struct segment *segment = handle_acquire(HANDLE_SEGMENT, handle);
  if (segment == NULL) return false;
  /* Whoever makes the handle stale decides the segment's fate; a second caller changes nothing. */
  bool first = handle_close(HANDLE_SEGMENT, handle);
  if (first) {
    struct channel *channel = segment->channel;
    pthread_mutex_lock(&channel->lock);
    for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
      if (feed->out_first == 0) continue;
      feed->out_first = 0;
      track_mark(feed->track, feed->lane, LANE_OUT, 0);
    }
    channel_prune_feeds(channel);
    pthread_mutex_unlock(&channel->lock);
  }
  handle_release(handle);
  return first;
}

void channel_loss_recorded(struct channel *channel) {
  pthread_mutex_lock(&channel->lock);
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    if (feed->lost_first == 0) continue;
    feed->lost_first = 0;
    track_mark(feed->track, feed->lane, LANE_LOST, 0);
  }
  channel_prune_feeds(channel);
  pthread_mutex_unlock(&channel->lock);
}

/* ---- Listing the runs of a segment ---- */

/* Per CPU while walking: the run that may still grow, and the last event's timestamp. */
struct cpu_walk {
  uint16_t cpu;
  bool has_ts;
  uint64_t last_ts;
  int open_run; /* -1 = none */
};

struct walk {
  struct cpu_walk *cpus;
  int cpu_count, cpu_capacity, recent;
  struct segment_run *runs;
  int run_count, run_capacity;
};

/* Room for one more element of `size` bytes in a doubling array. */
static bool reserve(void **array, int count, int *capacity, size_t size) {
  if (count < *capacity) return true;
  int grown = *capacity == 0 ? 16 : *capacity * 2;
  void *moved = realloc(*array, (size_t)grown * size);
  if (moved == NULL) return false;
  *array = moved;
  *capacity = grown;
  return true;
}

static struct cpu_walk *walk_cpu(struct walk *walk, const struct channel *channel, uint16_t cpu) {
  if (walk->recent < walk->cpu_count && walk->cpus[walk->recent].cpu == cpu) {
    return &walk->cpus[walk->recent];
  }
  for (int i = 0; i < walk->cpu_count; i++) {
    if (walk->cpus[i].cpu == cpu) {
      walk->recent = i;
      return &walk->cpus[i];
    }
  }
  if (!reserve((void **)&walk->cpus, walk->cpu_count, &walk->cpu_capacity, sizeof *walk->cpus)) {
    return NULL;
  }
  walk->recent = walk->cpu_count++;
  struct cpu_walk *entry = &walk->cpus[walk->recent];
  *entry = (struct cpu_walk){.cpu = cpu, .open_run = -1};
  for (struct channel_feed *feed = channel->feeds; feed != NULL; feed = feed->next) {
    if (track_cpu(feed->track) != cpu || feed->out_first == 0 || !feed->out_has_previous) continue;
    entry->has_ts = true;
    entry->last_ts = feed->out_previous_ts;
  }
  return entry;
}

static bool walk_entry(struct walk *walk, const struct channel *channel, const uint8_t *entry) {
  struct cpu_walk *cpu = walk_cpu(walk, channel, entry_cpu(entry));
  if (cpu == NULL) return false;
  uint64_t first = entry_first(entry);
  bool gap = entry_is_gap(entry);
  if (!gap && cpu->open_run >= 0 && walk->runs[cpu->open_run].last + 1 == first) {
    walk->runs[cpu->open_run].last = first;
  } else {
    if (!reserve((void **)&walk->runs, walk->run_count, &walk->run_capacity, sizeof *walk->runs)) {
      return false;
    }
    struct segment_run *run = &walk->runs[walk->run_count];
    *run = (struct segment_run){
        .gap = gap,
        .cpu = cpu->cpu,
        .first = first,
        .last = entry_last(entry),
        .has_previous = cpu->has_ts,
        .previous_ts = cpu->last_ts,
    };
    if (gap) {
      uint16_t flags = read_u16(entry + GAP_FLAGS);
      run->has_previous = (flags & GAP_HAS_PREVIOUS) != 0;
      run->previous_ts = read_u64(entry + GAP_PREVIOUS_TS);
      run->has_revealing = (flags & GAP_HAS_REVEALING) != 0;
      run->revealing_ts = read_u64(entry + GAP_REVEALING_TS);
      run->cause = (enum gap_cause)read_u32(entry + GAP_CAUSE);
      run->detected_at = read_u64(entry + GAP_DETECTED_AT);
    }
    cpu->open_run = gap ? -1 : walk->run_count;
    walk->run_count++;
  }
  if (!gap) {
    cpu->has_ts = true;
    cpu->last_ts = read_u64(entry + KMES_TIMESTAMP);
  }
  return true;
}

int segment_lost(int64_t handle, struct segment_run **runs) {
  struct segment *segment = handle_acquire(HANDLE_SEGMENT, handle);
  if (segment == NULL) {
    errno = EBADF;
    return -1;
  }
  struct channel *channel = segment->channel;
  struct walk walk = {0};
  bool complete = true;
  pthread_mutex_lock(&channel->lock);
  const struct buffer *buffer = segment->buffer;
  for (size_t at = 0; complete && at < buffer->length; at += entry_size(buffer->bytes + at)) {
    complete = walk_entry(&walk, channel, buffer->bytes + at);
  }
  /* Short of memory the segment stays out, so that the caller can ask again. */
  bool first = complete && handle_close(HANDLE_SEGMENT, handle);
  for (struct channel_feed *feed = channel->feeds; first && feed != NULL; feed = feed->next) {
    if (feed->out_first == 0) continue;
    if (feed->lost_first == 0 || feed->out_first < feed->lost_first) {
      feed->lost_first = feed->out_first;
    }
    feed->out_first = 0;
    track_move(feed->track, feed->lane, LANE_OUT, 0, LANE_LOST, feed->lost_first);
  }
  pthread_mutex_unlock(&channel->lock);
  handle_release(handle);
  free(walk.cpus);
  if (!first) {
    free(walk.runs);
    errno = complete ? EBADF : ENOMEM;
    return -1;
  }
  *runs = walk.runs;
  return walk.run_count;
}

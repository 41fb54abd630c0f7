#include "ring_pump.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "kmes_format.h"

static void set(_Atomic uint64_t *counter, uint64_t value) {
  atomic_store_explicit(counter, value, memory_order_relaxed);
}

static void add(_Atomic uint64_t *counter, uint64_t value) {
  /* The pump is the only writer; the atomic is for those who look. */
  set(counter, atomic_load_explicit(counter, memory_order_relaxed) + value);
}

bool pump_start(struct pump *pump, uint16_t cpu, struct channel *const *channels, uint32_t count,
                uint64_t last, const uint64_t *last_ts, const struct sequence_range *covered,
                size_t covered_count) {
  memset(pump, 0, sizeof *pump);
  pump->run_bytes = PUMP_RUN_BYTES;
  pump->reader.cpu = cpu;
  bool ready = sequence_start(&pump->sequence, last, last_ts, covered, covered_count);
  pump->track = track_new(cpu, count, pump->sequence.last);
  pump->lanes = calloc(count, sizeof *pump->lanes);
  ready = ready && pump->track != NULL && pump->lanes != NULL;
  for (uint32_t i = 0; ready && i < count; i++) {
    struct channel_feed *feed = channel_attach(channels[i], pump->track, i, last_ts);
    ready = feed != NULL;
    if (ready) pump->lanes[pump->lane_count++] = (struct pump_lane){channels[i], feed};
  }
  if (!ready) {
    pump_stop(pump);
    return false;
  }
  set(&pump->counters.last_sequence, pump->sequence.last);
  return true;
}

void pump_stop(struct pump *pump) {
  for (uint32_t i = 0; i < pump->lane_count; i++) {
    channel_detach(pump->lanes[i].channel, pump->lanes[i].feed);
  }
  free(pump->lanes);
  pump->lanes = NULL;
  pump->lane_count = 0;
  track_unref(pump->track);
  pump->track = NULL;
  sequence_stop(&pump->sequence);
}

void pump_read_from(struct pump *pump, const uint8_t *page, const uint8_t *data,
                    uint64_t capacity) {
  ring_reader_start(&pump->reader, page, data, capacity, pump->reader.cpu);
  pump->newest = 0;
  pump->regressed = false;
  set(&pump->counters.read_pos, pump->reader.read_pos);
}

static void note_jump(struct pump *pump, enum pump_note_kind kind, const struct ring_event *event) {
  /* What was jumped over may have been the newest. */
  pump->newest = 0;
  set(&pump->counters.read_pos, pump->reader.read_pos);
  struct pump_note note = {.kind = kind, .first = event->from, .second = event->to};
  pump->notify(pump->context, &note);
}

/* The ring is read to its end, which in a ring of this boot is at or above all that is known of it. */
static void note_end(struct pump *pump) {
  if (pump->regressed || pump->newest == 0 || pump->newest >= pump->sequence.last) return;
  pump->regressed = true;
  struct pump_note note = {
      .kind = PUMP_REGRESSED, .first = pump->newest, .second = pump->sequence.last};
  pump->notify(pump->context, &note);
}

/* A verified copy of consecutive events, sifted in place. */
struct sifted {
  struct channel_append append; /* the new events, now contiguous from the start */
  size_t consumed;              /* ring bytes they and the skipped ones took */
  bool hole;
  struct sequence_gap gap;
  uint64_t revealing_ts;
};

/*
 * Judges each whole event of the copy in turn: keeps the new ones, drops those already stored,
 * stops at a hole, at the row limit, or at something that is no whole event.
 */
static void sift(struct pump *pump, uint8_t *bytes, size_t length, uint32_t max_events,
                 struct sifted *out) {
  *out = (struct sifted){0};
  struct channel_append *append = &out->append;
  while (append->events < max_events) {
    uint8_t *event = bytes + out->consumed;
    uint32_t size = ring_event_size(event, length - out->consumed, pump->reader.cpu);
    if (size == 0) return;
    uint64_t sequence = read_u64(event + KMES_SEQUENCE);
    uint64_t timestamp = read_u64(event + KMES_TIMESTAMP);
    if (sequence > pump->newest) pump->newest = sequence;
    switch (sequence_judge(&pump->sequence, sequence, timestamp, &out->gap)) {
      case SEQUENCE_HOLE:
        out->hole = true;
        out->revealing_ts = timestamp;
        return;
      case SEQUENCE_NEXT:
        if (append->bytes != out->consumed) memmove(bytes + append->bytes, event, size);
        append->bytes += size;
        if (append->events++ == 0) append->first = sequence;
        append->last = sequence;
        append->last_ts = timestamp;
        break;
      case SEQUENCE_SEEN:
        break;
    }
    out->consumed += size;
  }
}

/* Writes the gap entry at `at`, which has room for it. */
static void write_gap(const struct pump *pump, uint8_t *at, const struct sifted *sifted) {
  const struct sequence_tracker *sequence = &pump->sequence;
  write_u32(at + GAP_ENTRY_SIZE, GAP_ENTRY_BYTES);
  write_u32(at + GAP_MARKER_AT, GAP_MARKER);
  write_u16(at + GAP_CPU, pump->reader.cpu);
  write_u16(at + GAP_FLAGS, GAP_HAS_REVEALING | (sequence->has_ts ? GAP_HAS_PREVIOUS : 0));
  write_u32(at + GAP_CAUSE, sifted->gap.cause);
  write_u64(at + GAP_FIRST, sifted->gap.first);
  write_u64(at + GAP_LAST, sifted->gap.last);
  write_u64(at + GAP_PREVIOUS_TS, sequence->has_ts ? sequence->ts : 0);
  write_u64(at + GAP_REVEALING_TS, sifted->revealing_ts);
  write_u64(at + GAP_DETECTED_AT, clock_realtime());
}

/* Copies, verifies and accounts a run into the locked channel of the lane in turn. */
static void append_run(struct pump *pump, struct pump_lane *lane, struct channel_room *room,
                       size_t length, uint32_t max_events, struct sifted *sifted) {
  if (!ring_copy(&pump->reader, room->at, length)) {
    *sifted = (struct sifted){0};
    /* Smaller bites while the producer is at our heels, down to single events. */
    if (pump->run_bytes > PUMP_RUN_MIN_BYTES) pump->run_bytes /= 2;
    return;
  }
  if (pump->run_bytes < PUMP_RUN_BYTES) pump->run_bytes *= 2;
  sift(pump, room->at, length, max_events, sifted);
  ring_advance(&pump->reader, sifted->consumed);
  if (sifted->append.events > 0) channel_account(lane->channel, lane->feed, room, &sifted->append);
  if (sifted->hole && sifted->append.events == 0) {
    /* The event that revealed the loss follows in the next step, in the same channel. */
    const struct channel_append gap = {.bytes = GAP_ENTRY_BYTES,
                                       .gaps = 1,
                                       .first = sifted->gap.first,
                                       .last = sifted->gap.last};
    write_gap(pump, room->at, sifted);
    channel_account(lane->channel, lane->feed, room, &gap);
    sequence_gap_done(&pump->sequence, &sifted->gap);
  }
  /* After the lane was marked: see track_settled. */
  track_handed(pump->track, pump->sequence.last);
}

enum pump_result pump_step(struct pump *pump, uint64_t limit) {
  struct ring_event event;
  switch (ring_next(&pump->reader, limit, &event)) {
    case RING_EMPTY:
      note_end(pump);
      return PUMP_EMPTY;
    case RING_LAPPED:
      note_jump(pump, PUMP_LAPPED, &event);
      return PUMP_MORE;
    case RING_CORRUPT:
      note_jump(pump, PUMP_CORRUPT, &event);
      return PUMP_MORE;
    case RING_READY:
      break;
  }

  struct pump_lane *lane = &pump->lanes[pump->turn];
  bool alone = pump->lane_count == 1;
  size_t want = event.size;
  uint64_t readable = limit - pump->reader.read_pos;
  if (readable > event.available) readable = event.available;
  if (alone) {
    want = readable < pump->run_bytes ? (size_t)readable : pump->run_bytes;
    if (want < event.size) want = event.size;
  }
  struct channel_room room;
  switch (channel_begin(lane->channel, event.size, want, &room)) {
    case CHANNEL_OK:
      break;
    case CHANNEL_FULL:
      pump->need = event.size;
      return PUMP_FULL;
    case CHANNEL_CLOSED:
      return PUMP_CLOSED;
    case CHANNEL_NO_MEMORY:
      pump->need = event.size;
      return PUMP_NO_MEMORY;
  }
  struct sifted sifted;
  uint32_t max_events = room.rows < PUMP_RUN_EVENTS ? room.rows : PUMP_RUN_EVENTS;
  if (!alone) max_events = 1;
  append_run(pump, lane, &room, room.bytes < want ? room.bytes : want, max_events, &sifted);
  struct channel_change change;
  channel_end(lane->channel, &change);

  bool gap = sifted.hole && sifted.append.events == 0;
  set(&pump->counters.read_pos, pump->reader.read_pos);
  set(&pump->counters.last_sequence, pump->sequence.last);
  add(&pump->counters.events, sifted.append.events);
  if (change.turned_nonempty || change.passed_half) {
    struct pump_note note = {.kind = PUMP_AVAILABLE, .lane = pump->turn, .half_full = change.half_full};
    pump->notify(pump->context, &note);
  }
  if (gap) {
    add(&pump->counters.gaps, 1);
    add(&pump->counters.lost, sifted.gap.last - sifted.gap.first + 1);
    struct pump_note note = {
        .kind = PUMP_GAP, .first = sifted.gap.first, .second = sifted.gap.last};
    pump->notify(pump->context, &note);
  }
  if (sifted.append.events > 0 && ++pump->turn == pump->lane_count) pump->turn = 0;
  return PUMP_MORE;
}

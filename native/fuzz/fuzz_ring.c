/*
 * The read protocol, sequence tracking and channels against rings with arbitrary contents and
 * positions that jump between steps. Whatever the ring says, the pump must neither read outside
 * the mapping, nor go back, nor loop, nor hand out malformed or repeated entries.
 *
 * Input: 16 bytes of set-up, then up to MAX_MOVES position changes of 4 bytes, then ring data.
 *   0 lanes-1 (2 bits), covered count (2 bits)   1 rows bound   2-3 bytes bound
 *   4-5 write position   6-7 tail   8-9 tracker   10-15 covered distances and lengths
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../channel.h"
#include "../handle.h"
#include "../kmes_format.h"
#include "../ring_map.h"
#include "../ring_pump.h"

enum { SET_UP = 16, MOVE = 4, MAX_MOVES = 8, MAX_LANES = 4, MAX_STEPS = 4096 };

#define CHECK(condition) \
  do {                   \
    if (!(condition)) __builtin_trap(); \
  } while (0)

static uint8_t *ring;

static void make_ring(void) {
  int fd = memfd_create("fuzz-ring", MFD_CLOEXEC);
  CHECK(fd >= 0 && ftruncate(fd, RING_DATA_OFFSET + RING_MIN_CAPACITY) == 0);
  ring = ring_map_double(fd, RING_MIN_CAPACITY, true);
  CHECK(ring != NULL);
  close(fd);
}

static void ignore(void *context, const struct pump_note *note) {
  uint64_t *jumped = context;
  if (note->kind == PUMP_LAPPED || note->kind == PUMP_CORRUPT) {
    CHECK(note->second >= note->first);
    *jumped = note->second;
  }
}

/* Every entry whole and sane, sequences of the lane strictly ascending. */
static void check_segment(struct channel *channel, uint64_t *last) {
  struct segment_info info;
  if (channel_take(channel, &info) != 1) return;
  const uint8_t *bytes;
  size_t length, at = 0;
  uint32_t rows, seen = 0;
  CHECK(segment_borrow(info.handle, &bytes, &length, &rows));
  for (; at < length; seen++) {
    const uint8_t *entry = bytes + at;
    CHECK(length - at >= GAP_ENTRY_BYTES);
    if (entry_is_gap(entry)) {
      CHECK(entry_size(entry) == GAP_ENTRY_BYTES);
    } else {
      CHECK(ring_event_size(entry, length - at, 0) == entry_size(entry));
    }
    CHECK(entry_first(entry) > *last && entry_last(entry) >= entry_first(entry));
    *last = entry_last(entry);
    at += entry_size(entry);
  }
  CHECK(at == length && seen == rows && rows == info.events + info.gaps);
  segment_return(info.handle);
  struct segment_watermark *marks;
  struct segment_run *runs;
  int count = segment_watermarks(info.handle, &marks);
  CHECK(count == 1 && marks[0].last == *last);
  free(marks);
  if (length % 3 == 0) {
    CHECK(segment_lost(info.handle, &runs) >= 1);
    free(runs);
    channel_loss_recorded(channel);
  } else {
    CHECK(segment_committed(info.handle));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < SET_UP) return 0;
  if (ring == NULL) make_ring();
  uint32_t lanes = 1 + (data[0] & 3), covered_count = data[0] >> 2 & 3;
  const uint8_t *moves = data + SET_UP;
  size_t move_count = (size - SET_UP) / MOVE < MAX_MOVES ? (size - SET_UP) / MOVE : MAX_MOVES;
  const uint8_t *contents = moves + move_count * MOVE;
  size_t content_size = size - SET_UP - move_count * MOVE;
  if (content_size > RING_MIN_CAPACITY) content_size = RING_MIN_CAPACITY;
  memcpy(ring + RING_DATA_OFFSET, contents, content_size);
  write_u64(ring + RING_WRITE_POS, read_u16(data + 4));
  write_u64(ring + RING_TAIL_POS, read_u16(data + 6));

  uint64_t last = read_u16(data + 8), edge = last;
  struct sequence_range covered[3];
  for (uint32_t i = 0; i < covered_count; i++) {
    covered[i].first = edge + 1 + data[10 + 2 * i];
    covered[i].last = edge = covered[i].first + data[11 + 2 * i];
  }
  CHECK(sequence_ranges_valid(last, covered, covered_count));
  int64_t handles[MAX_LANES];
  struct channel *channels[MAX_LANES];
  uint64_t seen[MAX_LANES];
  for (uint32_t i = 0; i < lanes; i++) {
    handles[i] = channel_open(i, 1 + data[1], 1 + read_u16(data + 2));
    channels[i] = handle_acquire(HANDLE_CHANNEL, handles[i]);
    CHECK(channels[i] != NULL);
    seen[i] = last;
  }
  struct pump pump;
  uint64_t jumped = 0;
  CHECK(pump_start(&pump, 0, channels, lanes, last, NULL, covered, covered_count));
  pump.notify = ignore;
  pump.context = &jumped;
  pump_read_from(&pump, ring, ring + RING_DATA_OFFSET, RING_MIN_CAPACITY);

  size_t move = 0;
  uint64_t position = pump.reader.read_pos, tracked = pump.sequence.last;
  uint64_t limit = (data[0] & 0x80) ? read_u16(data + 6) + 1000u : UINT64_MAX;
  for (int step = 0;; step++) {
    CHECK(step < MAX_STEPS * (int)(1 + MAX_MOVES));
    enum pump_result result = pump_step(&pump, limit);
    CHECK(pump.reader.read_pos >= position && pump.sequence.last >= tracked);
    position = pump.reader.read_pos;
    tracked = pump.sequence.last;
    if (result == PUMP_FULL) {
      check_segment(channels[pump.turn], &seen[pump.turn]);
      continue;
    }
    CHECK(result == PUMP_EMPTY || result == PUMP_MORE);
    if (result == PUMP_MORE && (move == move_count || moves[move * MOVE] & 1)) continue;
    if (move == move_count) break;
    /* The producer moves on: both positions rise by what the input says. */
    const uint8_t *by = moves + move++ * MOVE;
    write_u64(ring + RING_WRITE_POS, ring_load(ring, RING_WRITE_POS) + read_u16(by));
    write_u64(ring + RING_TAIL_POS, ring_load(ring, RING_TAIL_POS) + read_u16(by + 2));
  }
  for (uint32_t i = 0; i < lanes; i++) {
    check_segment(channels[i], &seen[i]);
    check_segment(channels[i], &seen[i]);
  }
  pump_stop(&pump);
  for (uint32_t i = 0; i < lanes; i++) {
    handle_close(HANDLE_CHANNEL, handles[i]);
    handle_release(handles[i]);
  }
  return 0;
}

#include <errno.h>
#include <pthread.h>

#include "expect.h"
#include "ring_fixture.h"

enum pump_result_count { STEPS = 10000 };

/* Pumps until nothing is left or the channel is full. */
static enum pump_result run(struct pump *pump) {
  enum pump_result result = PUMP_MORE;
  for (int i = 0; i < STEPS && result == PUMP_MORE; i++) result = pump_step(pump, UINT64_MAX);
  return result;
}

static void emit(struct ring_fixture *fixture, int count) {
  for (int i = 0; i < count; i++) fixture_emit(fixture, "abc", 3);
}

static void turns(void) {
  struct ring_fixture fixture;
  struct pump pump;
  struct segment_info info, none;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(5, 1 << 20);
  fixture_pump(&pump, &fixture, &channel, 0, NULL, 0);

  title("[ING-42] [ING-44] the row bound blocks the appender and nothing is dropped");
  emit(&fixture, 12);
  EXPECT(run(&pump) == PUMP_FULL);
  EXPECT(!channel_wait(channel.channel, 81, 1));
  EXPECT(channel_take(channel.channel, &info) == 1 && info.rows == 5 && info.events == 5);
  EXPECT(info.opened_at > 0 && info.bytes == 5 * 81);

  title("[ING-47] taking a segment makes room at once, although it is not stored yet");
  EXPECT(channel_wait(channel.channel, 81, 1));
  EXPECT(run(&pump) == PUMP_FULL);
  EXPECT(channel_take(channel.channel, &none) == 0);

  title("[ING-42] a borrowed segment stays intact until it is given back");
  const uint8_t *bytes;
  size_t length;
  uint32_t rows;
  EXPECT(segment_borrow(info.handle, &bytes, &length, &rows) && rows == 5 && length == 5 * 81);
  EXPECT(segment_committed(info.handle));
  EXPECT(channel_take(channel.channel, &none) == 0);
  EXPECT(entry_first(bytes) == 1);
  segment_return(info.handle);
  EXPECT(!segment_borrow(info.handle, &bytes, &length, &rows));
  EXPECT(!segment_committed(info.handle));
  EXPECT(fixture_takes(&channel, "6 7 8 9 10"));
  EXPECT(run(&pump) == PUMP_EMPTY);
  EXPECT(fixture_takes(&channel, "11 12"));
  EXPECT(fixture_takes(&channel, ""));

  title("[ING-55] a lowered limit splits what is queued; gaps and watermarks split with it");
  channel_limit(channel.channel, 100);
  fixture_emit(&fixture, "", 0);
  const struct producer_event bad = {.type = (const uint8_t *)"", .payload = (const uint8_t *)""};
  size_t written;
  uint64_t sequence;
  producer_emit(fixture.producer, 0, &bad, 1, NULL, &written, &sequence);
  emit(&fixture, 3);
  EXPECT(run(&pump) == PUMP_EMPTY);
  channel_limit(channel.channel, 2);
  struct segment_watermark *marks;
  EXPECT(channel_take(channel.channel, &info) == 1 && info.rows == 2 && info.gaps == 1);
  EXPECT(segment_watermarks(info.handle, &marks) == 1);
  EXPECT(marks[0].last == 14 && marks[0].settled == 14);
  free(marks);
  EXPECT(segment_committed(info.handle));
  EXPECT(fixture_takes(&channel, "15 16"));
  EXPECT(fixture_takes(&channel, "17"));

  title("[ING-46] a closed channel turns appenders away");
  emit(&fixture, 1);
  channel_shut(channel.channel);
  EXPECT(run(&pump) == PUMP_CLOSED);
  pump_stop(&pump);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

static void bytes_bound(void) {
  struct ring_fixture fixture;
  struct pump pump;
  static uint8_t payload[5000];
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(100, 3000);
  fixture_pump(&pump, &fixture, &channel, 0, NULL, 0);
  title("[ING-42] the byte bound blocks; a single larger event enters an empty segment");
  emit(&fixture, 1);
  fixture_emit(&fixture, payload, sizeof payload);
  emit(&fixture, 1);
  EXPECT(run(&pump) == PUMP_FULL && pump.need == 5078);
  EXPECT(fixture_takes(&channel, "1"));
  EXPECT(run(&pump) == PUMP_FULL);
  EXPECT(fixture_takes(&channel, "2"));
  EXPECT(run(&pump) == PUMP_EMPTY);
  EXPECT(fixture_takes(&channel, "3"));
  pump_stop(&pump);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

static void losses(void) {
  struct ring_fixture fixture;
  struct pump pump;
  struct segment_info info;
  struct segment_run *runs;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(100, 1 << 20);
  const struct sequence_range covered[] = {{4, 5}};
  fixture_pump(&pump, &fixture, &channel, 0, covered, 1);
  title("[STO-8] a lost segment is listed as maximal runs with the timestamps around them");
  emit(&fixture, 8);
  EXPECT(run(&pump) == PUMP_EMPTY);
  EXPECT(channel_take(channel.channel, &info) == 1 && info.rows == 6);
  emit(&fixture, 1);
  EXPECT(run(&pump) == PUMP_EMPTY);
  EXPECT(segment_lost(info.handle, &runs) == 2);
  EXPECT(!runs[0].gap && runs[0].first == 1 && runs[0].last == 3 && !runs[0].has_previous);
  EXPECT(!runs[1].gap && runs[1].first == 6 && runs[1].last == 8 && runs[1].has_previous);
  free(runs);
  errno = 0;
  EXPECT(segment_lost(info.handle, &runs) == -1 && errno == EBADF);

  title("[STO-15] an unrecorded loss holds the watermark down until it is recorded");
  struct segment_watermark *marks;
  EXPECT(channel_take(channel.channel, &info) == 1);
  EXPECT(segment_watermarks(info.handle, &marks) == 1);
  EXPECT(marks[0].last == 9 && marks[0].settled == 0);
  free(marks);
  EXPECT(segment_committed(info.handle));
  channel_loss_recorded(channel.channel);
  emit(&fixture, 1);
  EXPECT(run(&pump) == PUMP_EMPTY);
  EXPECT(channel_take(channel.channel, &info) == 1);
  EXPECT(segment_watermarks(info.handle, &marks) == 1);
  EXPECT(marks[0].last == 10 && marks[0].settled == 10);
  free(marks);

  title("[STO-8] the run after a stored segment names the last stored event's timestamp");
  EXPECT(segment_lost(info.handle, &runs) == 1 && runs[0].has_previous);
  free(runs);
  pump_stop(&pump);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

/* STO-15 values of the next segment, which is then lost or committed. */
static bool settles(struct channel *channel, uint64_t last, uint64_t settled, bool lose) {
  struct segment_info info;
  struct segment_watermark *marks;
  struct segment_run *runs;
  if (channel_take(channel, &info) != 1 || segment_watermarks(info.handle, &marks) != 1) return false;
  bool same = marks[0].last == last && marks[0].settled == settled;
  if (!same) {
    fprintf(stderr, "last %llu, settled %llu\n", (unsigned long long)marks[0].last,
            (unsigned long long)marks[0].settled);
  }
  free(marks);
  if (!lose) return segment_committed(info.handle) && same;
  bool listed = segment_lost(info.handle, &runs) > 0;
  free(runs);
  return listed && same;
}

static void split_rest(void) {
  struct ring_fixture fixture;
  struct pump pump;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(100, 1 << 20);
  fixture_pump(&pump, &fixture, &channel, 0, NULL, 0);
  title("[ING-55] [STO-15] what a split leaves behind counts as on its way, also after more has joined it");
  emit(&fixture, 10);
  EXPECT(run(&pump) == PUMP_EMPTY);
  channel_limit(channel.channel, 4);
  EXPECT(settles(channel.channel, 4, 4, false));
  channel_limit(channel.channel, 100);
  emit(&fixture, 2);
  EXPECT(run(&pump) == PUMP_EMPTY);
  channel_limit(channel.channel, 5);
  EXPECT(settles(channel.channel, 9, 9, false));
  EXPECT(settles(channel.channel, 12, 12, false));
  pump_stop(&pump);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

static void losses_pile_up(void) {
  struct ring_fixture fixture;
  struct pump pump, next;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(100, 1 << 20);
  fixture_pump(&pump, &fixture, &channel, 0, NULL, 0);
  title("[STO-15] of several losses the oldest holds the watermark down");
  for (int i = 1; i <= 3; i++) {
    emit(&fixture, 2);
    EXPECT(run(&pump) == PUMP_EMPTY);
    EXPECT(settles(channel.channel, 2 * (uint64_t)i, i == 1 ? 2 : 0, true));
  }

  title("[STO-15] it does so for a drain thread that takes over, until the loss is recorded");
  pump_stop(&pump);
  fixture_pump(&next, &fixture, &channel, 6, NULL, 0);
  emit(&fixture, 2);
  EXPECT(run(&next) == PUMP_EMPTY);
  EXPECT(settles(channel.channel, 8, 0, false));
  channel_loss_recorded(channel.channel);
  emit(&fixture, 2);
  EXPECT(run(&next) == PUMP_EMPTY);

  title("[STO-15] entries of a replaced drain thread and of its successor settle together");
  pump_stop(&next);
  fixture_pump(&pump, &fixture, &channel, 10, NULL, 0);
  emit(&fixture, 2);
  EXPECT(run(&pump) == PUMP_EMPTY);
  channel_limit(channel.channel, 1);
  EXPECT(settles(channel.channel, 9, 9, false));
  channel_limit(channel.channel, 2);
  EXPECT(settles(channel.channel, 11, 10, false));
  EXPECT(settles(channel.channel, 12, 12, false));
  pump_stop(&pump);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

static void round_robin(void) {
  struct ring_fixture fixture;
  struct pump pump;
  const struct producer_event bad = {.type = (const uint8_t *)"", .payload = (const uint8_t *)""};
  size_t written;
  uint64_t sequence;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel lanes[2] = {fixture_channel(100, 1 << 20), fixture_channel(100, 1 << 20)};
  struct channel *channels[] = {lanes[0].channel, lanes[1].channel};
  title("[ING-31] [ING-70] events take turns; a gap goes where its revealing event goes and takes no turn");
  if (!pump_start(&pump, 0, channels, 2, 0, NULL, NULL, 0)) abort();
  pump.notify = fixture_ignore;
  pump_read_from(&pump, fixture.ring->page, fixture.ring->data, fixture.ring->capacity);
  emit(&fixture, 2);
  producer_emit(fixture.producer, 0, &bad, 1, NULL, &written, &sequence);
  emit(&fixture, 5);
  EXPECT(run(&pump) == PUMP_EMPTY);
  EXPECT(fixture_takes(&lanes[0], "1 [3-3l] 4 6 8"));
  EXPECT(fixture_takes(&lanes[1], "2 5 7"));
  pump_stop(&pump);
  for (int i = 0; i < 2; i++) fixture_channel_close(&lanes[i]);
  fixture_close(&fixture);
}

static void covered_at_the_end(void) {
  struct track *track = track_new(3, 2, 10);
  title("[STO-15] skipped numbers count as settled, numbers on their way do not");
  EXPECT(track_cpu(track) == 3 && track_settled(track, 0) == 10);
  track_mark(track, 0, LANE_FILLING, 11);
  EXPECT(track_settled(track, 0) == 10);
  track_handed(track, 11);
  EXPECT(track_settled(track, 0) == 10);
  track_move(track, 0, LANE_FILLING, 0, LANE_OUT, 11);
  EXPECT(track_settled(track, 0) == 11 && track_settled(track, 1) == 10);
  track_handed(track, 20);
  EXPECT(track_settled(track, 0) == 20);
  track_move(track, 0, LANE_OUT, 0, LANE_LOST, 11);
  EXPECT(track_settled(track, 0) == 10);
  track_mark(track, 0, LANE_LOST, 0);
  EXPECT(track_settled(track, 1) == 20);
  track_unref(track);
}

static void count_regressed(void *context, const struct pump_note *note) {
  uint64_t *seen = context;
  if (note->kind != PUMP_REGRESSED) return;
  seen[0]++;
  seen[1] = note->first;
  seen[2] = note->second;
}

static void begun_anew(void) {
  struct ring_fixture fixture;
  struct pump pump;
  uint64_t seen[3] = {0};
  fixture_open(&fixture, RING_MIN_CAPACITY);
  struct fixture_channel channel = fixture_channel(100, 1 << 20);
  emit(&fixture, 4);

  title("[ING-22] a ring that holds less than is known was made anew, and is reported once");
  fixture_pump(&pump, &fixture, &channel, 7, NULL, 0);
  pump.notify = count_regressed;
  pump.context = seen;
  EXPECT(run(&pump) == PUMP_EMPTY && seen[0] == 1 && seen[1] == 4 && seen[2] == 7);
  emit(&fixture, 2);
  EXPECT(run(&pump) == PUMP_EMPTY && seen[0] == 1);
  emit(&fixture, 2);
  EXPECT(run(&pump) == PUMP_EMPTY && fixture_takes(&channel, "8"));

  title("[BOOT-10] a ring that was read to its end before is none");
  seen[0] = 0;
  pump_read_from(&pump, fixture.ring->page, fixture.ring->data, fixture.ring->capacity);
  EXPECT(run(&pump) == PUMP_EMPTY && seen[0] == 0);

  title("[KMES-124] nor is one whose newest events are jumped over");
  /* Insane size of the fifth event. */
  fixture_poke_u64(&fixture, RING_DATA_OFFSET + 4 * 81, UINT64_MAX);
  pump_read_from(&pump, fixture.ring->page, fixture.ring->data, fixture.ring->capacity);
  EXPECT(run(&pump) == PUMP_EMPTY && seen[0] == 0);
  pump_stop(&pump);
  fixture_channel_close(&channel);
  fixture_close(&fixture);
}

int main(void) {
  begun_anew();
  turns();
  bytes_bound();
  losses();
  split_rest();
  losses_pile_up();
  round_robin();
  covered_at_the_end();
  return expect_result();
}

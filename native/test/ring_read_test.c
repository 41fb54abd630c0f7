#include "expect.h"
#include "ring_fixture.h"

static void start(struct ring_reader *reader, struct ring_fixture *fixture) {
  ring_reader_start(reader, fixture->ring->page, fixture->ring->data, fixture->ring->capacity, 0);
}

static void positions(void) {
  struct ring_fixture fixture;
  struct ring_reader reader;
  struct ring_event event;
  fixture_open(&fixture, RING_MIN_CAPACITY);
  start(&reader, &fixture);

  title("[KMES-119] an empty ring has nothing to read");
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_EMPTY);

  title("[KMES-122] [KMES-125] events are read one after the other up to the limit");
  fixture_emit(&fixture, "abc", 3);
  uint64_t first_end = ring_load(fixture.ring->page, RING_WRITE_POS);
  fixture_emit(&fixture, "", 0);
  uint8_t copy[256];
  EXPECT(ring_next(&reader, first_end, &event) == RING_READY && event.size == 81);
  EXPECT(event.available == 81 + 78);
  EXPECT(ring_copy(&reader, copy, event.size) && memcmp(copy + 78, "abc", 3) == 0);
  ring_advance(&reader, event.size);
  EXPECT(ring_next(&reader, first_end, &event) == RING_EMPTY);
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_READY && event.size == 78);

  title("[KMES-119] a tail beyond the published position is not read, whatever lies there");
  fixture_poke_u64(&fixture, RING_TAIL_POS, 1000);
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_LAPPED && event.to == 1000);
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_EMPTY && reader.read_pos == 1000);
  fixture_close(&fixture);
}

static void tears(void) {
  struct ring_fixture fixture;
  struct ring_reader reader;
  struct ring_event event;
  uint8_t copy[256];
  fixture_open(&fixture, RING_MIN_CAPACITY);
  start(&reader, &fixture);
  fixture_emit(&fixture, "abc", 3);
  fixture_emit(&fixture, "def", 3);

  title("[KMES-123] a copy is void when the tail passed it meanwhile, and valid otherwise");
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_READY);
  fixture_poke_u64(&fixture, RING_TAIL_POS, 81);
  EXPECT(!ring_copy(&reader, copy, event.size));
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_LAPPED);
  EXPECT(event.from == 0 && event.to == 81 && reader.read_pos == 81);
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_READY);
  EXPECT(ring_copy(&reader, copy, event.size) && memcmp(copy + 78, "def", 3) == 0);
  fixture_close(&fixture);
}

static void corruption(void) {
  struct ring_fixture fixture;
  struct ring_reader reader;
  struct ring_event event;
  static const struct {
    int at, bytes;
    uint32_t value;
  } spoilers[] = {
      {KMES_EVENT_SIZE, 4, 0},        {KMES_EVENT_SIZE, 4, 76},  {KMES_EVENT_SIZE, 4, 0xffffffff},
      {KMES_EVENT_SIZE, 4, 163},      {KMES_HEADER_SIZE, 4, 76}, {KMES_HEADER_SIZE, 4, 82},
      {KMES_HEADER_SIZE, 4, 0xffffffff}, {KMES_TYPE_LEN, 2, 2},  {KMES_CPU_ID, 2, 1},
      {KMES_SEQUENCE, 4, 0},          {KMES_SEQUENCE + 4, 4, 0x80000000},
  };
  title("[KMES-124] every insane header is corruption, and reading jumps forwards only");
  for (size_t i = 0; i < sizeof spoilers / sizeof *spoilers; i++) {
    fixture_open(&fixture, RING_MIN_CAPACITY);
    start(&reader, &fixture);
    fixture_emit(&fixture, "abc", 3);
    fixture_emit(&fixture, "def", 3);
    EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_READY);
    fixture_poke(&fixture, RING_DATA_OFFSET + spoilers[i].at, &spoilers[i].value,
                 (size_t)spoilers[i].bytes);
    EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_CORRUPT);
    EXPECT(event.from == 0 && event.to == 162 && reader.read_pos == 162);
    EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_EMPTY);
    fixture_close(&fixture);
  }
  title("[KMES-124] fewer published bytes than a header are corruption, not an endless loop");
  fixture_open(&fixture, RING_MIN_CAPACITY);
  start(&reader, &fixture);
  fixture_poke_u64(&fixture, RING_WRITE_POS, 40);
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_CORRUPT && reader.read_pos == 40);
  fixture_close(&fixture);
}

static void wrapping(void) {
  struct ring_fixture fixture;
  struct ring_reader reader;
  struct ring_event event;
  static uint8_t payload[20000], copy[32768];
  title("[KMES-97] an event across the physical end is one contiguous copy");
  fixture_open(&fixture, RING_MIN_CAPACITY);
  for (int i = 0; i < 4; i++) {
    memset(payload, 'a' + i, sizeof payload);
    fixture_emit(&fixture, payload, sizeof payload);
  }
  start(&reader, &fixture);
  for (int i = 1; i < 4; i++) {
    EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_READY);
    EXPECT(event.size == 78 + sizeof payload && ring_copy(&reader, copy, event.size));
    EXPECT(read_u64(copy + KMES_SEQUENCE) == (uint64_t)i + 1);
    EXPECT(copy[78] == 'a' + i && copy[event.size - 1] == 'a' + i);
    ring_advance(&reader, event.size);
  }
  EXPECT(ring_next(&reader, UINT64_MAX, &event) == RING_EMPTY);
  fixture_close(&fixture);
}

static void fill(void) {
  struct ring_fixture fixture;
  struct ring_reader reader;
  static uint8_t payload[32690];
  title("[IDX-15] the fill is the unread share and never above 1");
  fixture_open(&fixture, RING_MIN_CAPACITY);
  start(&reader, &fixture);
  EXPECT(ring_fill(&reader) == 0);
  fixture_emit(&fixture, payload, sizeof payload);
  EXPECT(ring_fill(&reader) == 0.5);
  for (int i = 0; i < 5; i++) fixture_emit(&fixture, payload, sizeof payload);
  EXPECT(ring_fill(&reader) == 1);
  fixture_close(&fixture);
}

int main(void) {
  positions();
  tears();
  corruption();
  wrapping();
  fill();
  return expect_result();
}

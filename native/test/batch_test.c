#include "../kmes_format.h"
#include "../segment_entry.h"
#include "expect.h"

/* Whether the bytes, at exact size, read as one entry; prints nothing. */
static bool reads(const uint8_t *bytes, size_t n, struct segment_entry *entry) {
  uint8_t *copy = exact_copy(bytes, n);
  const char *problem = segment_entry_read(entry, copy, copy + n);
  if (problem == NULL) {
    EXPECT(entry->size <= n);
    if (!entry->gap) {
      EXPECT(entry->type + entry->type_length <= entry->payload);
      EXPECT(entry->payload + entry->payload_length == copy + entry->size);
    }
  }
  free(copy);
  return problem == NULL;
}

static size_t event(uint8_t *out, uint32_t header, uint16_t type, uint32_t size) {
  memset(out, 0, size > 256 ? 256 : size);
  write_u32(out + KMES_EVENT_SIZE, size);
  write_u32(out + KMES_HEADER_SIZE, header);
  write_u16(out + KMES_TYPE_LEN, type);
  return size;
}

static void events(void) {
  uint8_t bytes[256];
  struct segment_entry entry;
  title("[KMES-24] [KMES-26] [KMES-27] an event's payload is found through its header size");
  EXPECT(reads(bytes, event(bytes, 82, 5, 90), &entry) && entry.type_length == 5 && entry.payload_length == 8);
  EXPECT(reads(bytes, event(bytes, 85, 5, 90), &entry) && entry.payload_length == 5);
  EXPECT(reads(bytes, event(bytes, 82, 5, 82), &entry) && entry.payload_length == 0);
  EXPECT(reads(bytes, event(bytes, 82, 5, 90) + 30, &entry) && entry.size == 90);
  title("[KMES-25] malformed sizes are refused, never followed");
  EXPECT(!reads(bytes, event(bytes, 82, 5, 90) - 1, &entry));
  EXPECT(!reads(bytes, event(bytes, 91, 5, 90), &entry));
  EXPECT(!reads(bytes, event(bytes, 82, 6, 90), &entry));
  EXPECT(!reads(bytes, event(bytes, 76, 0, 90), &entry));
  EXPECT(!reads(bytes, event(bytes, 40, 0, 40), &entry));
  EXPECT(!reads(bytes, event(bytes, 0xfffffffe, 0xffff, 90), &entry));
  event(bytes, 82, 5, 90);
  for (size_t cut = 0; cut < 90; cut++) EXPECT(!reads(bytes, cut, &entry));
  write_u32(bytes, 0);
  EXPECT(!reads(bytes, 90, &entry));
}

static void gap(uint8_t *out) {
  memset(out, 0, GAP_ENTRY_BYTES);
  write_u32(out + GAP_ENTRY_SIZE, GAP_ENTRY_BYTES);
  write_u32(out + GAP_MARKER_AT, GAP_MARKER);
  write_u16(out + GAP_CPU, 3);
  write_u64(out + GAP_FIRST, 10);
  write_u64(out + GAP_LAST, 12);
  write_u64(out + GAP_PREVIOUS_TS, 300);
  write_u64(out + GAP_REVEALING_TS, 0x0102030405060708);
}

static void gaps(void) {
  uint8_t bytes[GAP_ENTRY_BYTES + 1];
  struct segment_entry entry;
  struct msgpack_writer writer = {0};
  title("[STO-8] a gap's payload has all its keys in order, nil for what is not known");
  gap(bytes);
  EXPECT(segment_entry_read(&entry, bytes, bytes + GAP_ENTRY_BYTES) == NULL && entry.gap);
  segment_gap_payload(&entry, &writer);
  static const char unknown[] =
      "\x87\xa6" "cpu_id\x03\xad" "first_missing\x0a\xac" "last_missing\x0c\xad" "missing_count\x03"
      "\xb4last_event_timestamp\xc0\xb9revealing_event_timestamp\xc0\xa5" "cause\xa9ring_loss";
  EXPECT(writer.length == sizeof unknown - 1 && memcmp(writer.bytes, unknown, writer.length) == 0);
  write_u16(bytes + GAP_FLAGS, GAP_HAS_PREVIOUS | GAP_HAS_REVEALING);
  write_u32(bytes + GAP_CAUSE, GAP_RESTART);
  writer.length = 0;
  segment_gap_payload(&entry, &writer);
  static const char known[] =
      "\x87\xa6" "cpu_id\x03\xad" "first_missing\x0a\xac" "last_missing\x0c\xad" "missing_count\x03"
      "\xb4last_event_timestamp\xcd\x01\x2c\xb9revealing_event_timestamp\xcf\x01\x02\x03\x04\x05\x06\x07\x08"
      "\xa5" "cause\xa7restart";
  EXPECT(writer.length == sizeof known - 1 && memcmp(writer.bytes, known, writer.length) == 0);
  msgpack_writer_free(&writer);
  title("[STO-8] malformed gap entries are refused");
  gap(bytes);
  EXPECT(reads(bytes, GAP_ENTRY_BYTES, &entry));
  EXPECT(!reads(bytes, GAP_ENTRY_BYTES - 1, &entry));
  write_u32(bytes, GAP_ENTRY_BYTES + 1);
  EXPECT(!reads(bytes, GAP_ENTRY_BYTES + 1, &entry));
  gap(bytes);
  write_u64(bytes + GAP_FIRST, 13);
  EXPECT(!reads(bytes, GAP_ENTRY_BYTES, &entry));
  gap(bytes);
  write_u32(bytes + GAP_CAUSE, 2);
  EXPECT(!reads(bytes, GAP_ENTRY_BYTES, &entry));
}

int main(void) {
  events();
  gaps();
  return expect_result();
}

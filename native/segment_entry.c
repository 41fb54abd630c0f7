#include "segment_entry.h"

#include "kmes_format.h"

const char *gap_cause_name(uint32_t cause) {
  static const char *const names[] = {[GAP_RING_LOSS] = "ring_loss", [GAP_RESTART] = "restart"};
  return names[cause];
}

static const char *read_gap(const uint8_t *p, size_t size) {
  if (size != GAP_ENTRY_BYTES) return "gap entry of wrong size";
  if (read_u64(p + GAP_FIRST) > read_u64(p + GAP_LAST)) return "gap entry ends before it begins";
  if (read_u32(p + GAP_CAUSE) > GAP_RESTART) return "gap entry of unknown cause";
  return NULL;
}

const char *segment_entry_read(struct segment_entry *entry, const uint8_t *p, const uint8_t *end) {
  size_t left = (size_t)(end - p);
  if (left < KMES_HEADER_SIZE + 4) return "truncated entry";
  size_t size = read_u32(p + KMES_EVENT_SIZE);
  if (size > left) return "entry reaches beyond the segment";
  *entry = (struct segment_entry){.start = p, .size = size, .gap = entry_is_gap(p)};
  if (entry->gap) return read_gap(p, size);
  size_t header = read_u32(p + KMES_HEADER_SIZE);
  if (size < KMES_FIXED_HEADER || header < KMES_FIXED_HEADER) return "event shorter than its header";
  if (header > size) return "event header larger than the event";
  entry->type_length = read_u16(p + KMES_TYPE_LEN);
  if (header < (size_t)KMES_FIXED_HEADER + entry->type_length) return "event type reaches beyond the header";
  entry->type = p + KMES_TYPE;
  entry->payload = p + header;
  entry->payload_length = size - header;
  return NULL;
}

static void write_key(struct msgpack_writer *writer, const char *key) {
  msgpack_write_str(writer, key, (uint32_t)strlen(key));
}

static void write_time(struct msgpack_writer *writer, const uint8_t *at, bool known) {
  if (known) {
    msgpack_write_uint(writer, read_u64(at));
  } else {
    msgpack_write_nil(writer);
  }
}

void segment_gap_payload(const struct segment_entry *entry, struct msgpack_writer *writer) {
  const uint8_t *p = entry->start;
  uint16_t flags = read_u16(p + GAP_FLAGS);
  uint64_t first = read_u64(p + GAP_FIRST);
  uint64_t last = read_u64(p + GAP_LAST);
  const char *cause = gap_cause_name(read_u32(p + GAP_CAUSE));
  msgpack_write_map(writer, 7);
  write_key(writer, "cpu_id");
  msgpack_write_uint(writer, read_u16(p + GAP_CPU));
  write_key(writer, "first_missing");
  msgpack_write_uint(writer, first);
  write_key(writer, "last_missing");
  msgpack_write_uint(writer, last);
  write_key(writer, "missing_count");
  msgpack_write_uint(writer, last - first + 1);
  write_key(writer, "last_event_timestamp");
  write_time(writer, p + GAP_PREVIOUS_TS, flags & GAP_HAS_PREVIOUS);
  write_key(writer, "revealing_event_timestamp");
  write_time(writer, p + GAP_REVEALING_TS, flags & GAP_HAS_REVEALING);
  write_key(writer, "cause");
  write_key(writer, cause);
}

/*
 * Any bytes as the payload of an event: the record is one well-formed map with valid text and
 * without duplicate keys, for an ordinary event, a synthetic one and a SELECT.
 */
#include <stdlib.h>

#include "../record.h"

static void must(bool condition) {
  if (!condition) abort();
}

static void check(const struct msgpack_writer *record) {
  bool utf8 = true;
  struct msgpack_item head;
  const uint8_t *end = record->bytes + record->length;
  must(!record->failed && msgpack_scan(record->bytes, end, &utf8) == end && utf8);
  const uint8_t *p = msgpack_read(record->bytes, end, &head);
  must(head.kind == MSGPACK_MAP);
  struct msgpack_slice whole = {record->bytes, end};
  for (uint32_t i = 0; i < head.length; i++) {
    struct msgpack_item key;
    struct msgpack_slice first;
    p = msgpack_read(p, end, &key);
    must(key.kind == MSGPACK_STR);
    must(msgpack_find_key(whole, key.data, key.length, &first) && first.start == p);
    p = msgpack_skip(p, end);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct msgpack_name names[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}, {(const uint8_t *)"cpu_id", 6}};
  const struct record_field fields[] = {
      {{(const uint8_t *)"a", 1}, -1, {1, names}},
      {{(const uint8_t *)"a.b", 3}, -1, {2, names}},
      {{(const uint8_t *)"cpu_id", 6}, RECORD_CPU_ID, {1, names + 2}},
  };
  struct record_value stored[RECORD_COLUMNS] = {0};
  struct record_value null[RECORD_COLUMNS] = {0};
  for (int i = 0; i < RECORD_COLUMNS; i++) stored[i] = (struct record_value){.kind = RECORD_INTEGER, .integer = -i};
  stored[RECORD_EVENT_TYPE] = (struct record_value){.kind = RECORD_TEXT, .bytes = data, .length = (uint32_t)size};
  stored[RECORD_BOOT_ID] = (struct record_value){.kind = RECORD_BLOB, .bytes = data, .length = (uint32_t)size};
  struct record_builder builder = {0};
  struct msgpack_writer record = {0};
  record_write(&builder, &record, stored, data, size, NULL, 0);
  check(&record);
  record.length = 0;
  record_write(&builder, &record, null, data, size, NULL, 0);
  check(&record);
  record.length = 0;
  record_write(&builder, &record, null, data, size, fields, 3);
  check(&record);
  msgpack_writer_free(&record);
  record_builder_free(&builder);
  uint8_t guid[16];
  char text[GUID_TEXT_LENGTH];
  if (guid_parse(guid, data, size)) {
    uint8_t again[16];
    guid_format(text, guid);
    must(guid_parse(again, (const uint8_t *)text, sizeof text) && memcmp(guid, again, 16) == 0);
  }
  return 0;
}

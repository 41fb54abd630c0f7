#include "../record.h"

#include "expect.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1
#define FFFD "\xef\xbf\xbd"

static const uint8_t guid_bytes[16] = {4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16};
#define GUID_TEXT "{01020304-0506-0708-090a-0b0c0d0e0f10}"

/* Columns of an ordinary event, or of a synthetic one. */
static void columns_of(struct record_value columns[RECORD_COLUMNS], bool synthetic) {
  memset(columns, 0, RECORD_COLUMNS * sizeof *columns);
  struct record_value guid = {.kind = RECORD_BLOB, .bytes = guid_bytes, .length = 16};
  columns[RECORD_TIMESTAMP] = (struct record_value){.kind = RECORD_INTEGER, .integer = 1000};
  columns[RECORD_EVENT_TYPE] = (struct record_value){.kind = RECORD_TEXT, .bytes = (const uint8_t *)"t", .length = 1};
  columns[RECORD_BOOT_ID] = guid;
  if (synthetic) return;
  columns[RECORD_CPU_ID] = (struct record_value){.kind = RECORD_INTEGER, .integer = 3};
  columns[RECORD_SEQUENCE] = (struct record_value){.kind = RECORD_INTEGER, .integer = 9};
  columns[RECORD_ORIGIN_CLASS] = (struct record_value){.kind = RECORD_INTEGER, .integer = 2};
  columns[RECORD_EFFECTIVE_TOKEN_GUID] = columns[RECORD_TRUE_TOKEN_GUID] = columns[RECORD_PROCESS_GUID] = guid;
}

/* A record as written, with the checks every record must pass. */
static struct msgpack_writer build(bool synthetic, const uint8_t *payload, size_t n,
                                   const struct record_field *fields, size_t count) {
  struct record_builder builder = {0};
  struct msgpack_writer writer = {0};
  struct record_value columns[RECORD_COLUMNS];
  columns_of(columns, synthetic);
  uint8_t *copy = payload == NULL ? NULL : exact_copy(payload, n);
  /* Twice, because the builder keeps state from record to record. */
  record_write(&builder, &writer, columns, copy, n, fields, count);
  size_t once = writer.length;
  record_write(&builder, &writer, columns, copy, n, fields, count);
  EXPECT(!writer.failed);
  EXPECT(writer.length == once * 2 && memcmp(writer.bytes, writer.bytes + once, once) == 0);
  writer.length = once;
  bool utf8 = true;
  EXPECT(msgpack_scan(writer.bytes, writer.bytes + writer.length, &utf8) == writer.bytes + writer.length);
  EXPECT(utf8);
  record_builder_free(&builder);
  free(copy);
  return writer;
}

static uint32_t pairs(const struct msgpack_writer *record) {
  struct msgpack_item head;
  msgpack_read(record->bytes, record->bytes + record->length, &head);
  EXPECT(head.kind == MSGPACK_MAP);
  return head.length;
}

/* Whether the record has exactly these encoded bytes under this key. */
static bool has(const struct msgpack_writer *record, const char *key, const char *value, size_t n) {
  struct msgpack_slice found;
  struct msgpack_slice whole = {record->bytes, record->bytes + record->length};
  if (!msgpack_find_key(whole, (const uint8_t *)key, strlen(key), &found)) return false;
  return (size_t)(found.end - found.start) == n && memcmp(found.start, value, n) == 0;
}
#define HAS(key, value) has(&record, key, value, sizeof(value) - 1)

static void guids(void) {
  uint8_t parsed[16];
  char text[GUID_TEXT_LENGTH];
  title("[KMES-13] [KMES-14] [QL-18] a GUID prints braced, lower-case, its first groups as numbers");
  guid_format(text, guid_bytes);
  EXPECT(memcmp(text, GUID_TEXT, sizeof text) == 0);
  title("[KMES-15] [KMES-16] [KMES-17] [QL-17] either case and both forms are read");
  EXPECT(guid_parse(parsed, BYTES(GUID_TEXT)) && memcmp(parsed, guid_bytes, 16) == 0);
  EXPECT(guid_parse(parsed, BYTES("01020304-0506-0708-090A-0B0C0D0E0F10")) && memcmp(parsed, guid_bytes, 16) == 0);
  title("[KMES-18] anything else is refused");
  EXPECT(!guid_parse(parsed, BYTES("")));
  EXPECT(!guid_parse(parsed, BYTES("0102030-40506-0708-090a-0b0c0d0e0f10")));
  EXPECT(!guid_parse(parsed, BYTES("01020304-0506-0708-090a-0b0c0d0e0f1")));
  EXPECT(!guid_parse(parsed, BYTES("01020304-0506-0708-090a-0b0c0d0e0f1g")));
  EXPECT(!guid_parse(parsed, BYTES("{01020304-0506-0708-090a-0b0c0d0e0f10")));
  EXPECT(!guid_parse(parsed, BYTES("(01020304-0506-0708-090a-0b0c0d0e0f10)")));
}

static void whole_records(void) {
  struct msgpack_writer record;
  title("[QL-78] [QL-120] [WIRE-10] a record has all nine columns and the payload's pairs, spliced as they are");
  record = build(false, BYTES("\x82\xa1" "a\xcd\x00\x05\xa1" "m\x81\xa1" "b\xc0"), NULL, 0);
  EXPECT(pairs(&record) == 11);
  EXPECT(HAS("timestamp", "\xcd\x03\xe8"));
  EXPECT(HAS("cpu_id", "\x03"));
  EXPECT(HAS("event_type", "\xa1t"));
  EXPECT(HAS("process_guid", "\xd9\x26" GUID_TEXT));
  EXPECT(HAS("boot_id", "\xd9\x26" GUID_TEXT));
  EXPECT(HAS("a", "\xcd\x00\x05"));
  EXPECT(HAS("m", "\x81\xa1" "b\xc0"));
  msgpack_writer_free(&record);

  title("[QX-31] only a top-level float32 is rewritten as float64");
  record = build(false, BYTES("\x82\xa1" "a\xca\x3f\xc0\x00\x00\xa1" "b\x91\xca\x3f\xc0\x00\x00"), NULL, 0);
  EXPECT(HAS("a", "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"));
  EXPECT(HAS("b", "\x91\xca\x3f\xc0\x00\x00"));
  msgpack_writer_free(&record);

  title("[QL-44] of duplicate keys the first wins, keys that are no strings are left out");
  record = build(false, BYTES("\x84\xa1" "a\x01\x05\x02\xa1" "a\x03\xd9\x01" "a\x04"), NULL, 0);
  EXPECT(pairs(&record) == 10);
  EXPECT(HAS("a", "\x01"));
  msgpack_writer_free(&record);

  title("[QL-120] [QX-31] pairs keep their order, whichever of them are copied, rewritten or left out");
  record = build(false, BYTES("\x8c\xa1" "a\x01\xa1" "b\x02\x05\x07\xa1" "c\xca\x3f\xc0\x00\x00\xa1" "d\x03\xa1" "a\x09"
                              "\xa1" "e\x04\xa6" "cpu_id\x07\xa1" "f\xa1\xff\xa1" "g\x05\xa2" "h\xff\x06\xa1" "i\x08"), NULL, 0);
  static const char tail[] = "\xa1" "a\x01\xa1" "b\x02\xa1" "c\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1" "d\x03\xa1" "e\x04"
                             "\xa1" "f\xa3" FFFD "\xa1" "g\x05\xa4" "h" FFFD "\x06\xa1" "i\x08";
  size_t tail_length = sizeof tail - 1;
  EXPECT(pairs(&record) == 18);
  EXPECT(record.length > tail_length && memcmp(record.bytes + record.length - tail_length, tail, tail_length) == 0);
  msgpack_writer_free(&record);

  title("[QL-46] a column hides the payload key of its name");
  record = build(false, BYTES("\x82\xa6" "cpu_id\x07\xa1" "a\x01"), NULL, 0);
  EXPECT(pairs(&record) == 10);
  EXPECT(HAS("cpu_id", "\x03"));
  msgpack_writer_free(&record);

  title("[STO-9] [QL-45] [QL-47] [QL-122] a NULL column shows the payload's value, else nil");
  record = build(true, BYTES("\x83\xa6" "cpu_id\x07\xa6" "cpu_id\x08\xa8sequence\xca\x3f\xc0\x00\x00"), NULL, 0);
  EXPECT(pairs(&record) == 9);
  EXPECT(HAS("cpu_id", "\x07"));
  EXPECT(HAS("sequence", "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"));
  EXPECT(HAS("origin_class", "\xc0"));
  EXPECT(HAS("process_guid", "\xc0"));
  msgpack_writer_free(&record);
}

static void unusable_payloads(void) {
  title("[QL-44] a payload that is absent, no map, cut off, trailed or malformed adds nothing");
  static const struct {
    const char *bytes;
    size_t n;
  } payloads[] = {{NULL, 0}, {"", 0}, {"\x05", 1}, {"\x91\x05", 2}, {"\x82\xa1" "a\x05\xa1" "b", 6},
                  {"\x81\xa1" "a\x05\xc0", 5}, {"\x82\xa1" "a\x05\xa1" "b\xc1", 7}, {"\xdf\xff\xff\xff\xff\xa1" "a\x05", 8}};
  for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
    struct msgpack_writer record = build(false, (const uint8_t *)payloads[i].bytes, payloads[i].n, NULL, 0);
    EXPECT(pairs(&record) == 9);
    msgpack_writer_free(&record);
  }
}

static void invalid_text(void) {
  struct msgpack_writer record;
  title("[WIRE-10] invalid UTF-8 in keys and values becomes U+FFFD, and duplicates are judged on that");
  record = build(false, BYTES("\x83\xa2k\xff\xa2v\xfe\xa2k\xfe\x05\xa1z\x81\xa1\xff\xa1\xc0"), NULL, 0);
  EXPECT(pairs(&record) == 11);
  EXPECT(HAS("k" FFFD, "\xa4v" FFFD));
  EXPECT(HAS("z", "\x81\xa3" FFFD "\xa3" FFFD));
  msgpack_writer_free(&record);
}

/* A payload map of `n` pairs whose keys repeat after `distinct`; values are the pair's number. */
static struct msgpack_writer many_keys(uint32_t n, uint32_t distinct) {
  struct msgpack_writer payload = {0};
  msgpack_write_map(&payload, n);
  for (uint32_t i = 0; i < n; i++) {
    char key[64];
    int length = snprintf(key, sizeof key, "a-rather-long-common-beginning-of-keys-%u", i % distinct);
    msgpack_write_str(&payload, key, (uint32_t)length);
    msgpack_write_uint(&payload, i);
  }
  return payload;
}

static void many_pairs(void) {
  title("[QL-44] tens of thousands of keys are told apart without comparing each with each");
  struct msgpack_writer payload = many_keys(200000, 100000);
  struct record_builder builder = {0};
  struct msgpack_writer record = {0};
  struct record_value columns[RECORD_COLUMNS];
  columns_of(columns, false);
  record_write(&builder, &record, columns, payload.bytes, payload.length, NULL, 0);
  EXPECT(pairs(&record) == 9 + 100000);
  EXPECT(HAS("a-rather-long-common-beginning-of-keys-0", "\x00"));
  EXPECT(HAS("a-rather-long-common-beginning-of-keys-99999", "\xce\x00\x01\x86\x9f"));
  EXPECT(msgpack_valid(record.bytes, record.length, 8));
  record_builder_free(&builder);
  msgpack_writer_free(&record);
  msgpack_writer_free(&payload);
  payload = many_keys(17, 16);
  record = build(false, payload.bytes, payload.length, NULL, 0);
  EXPECT(pairs(&record) == 9 + 16);
  EXPECT(HAS("a-rather-long-common-beginning-of-keys-0", "\x00"));
  msgpack_writer_free(&record);
  msgpack_writer_free(&payload);
}

#define NAME(text) {(const uint8_t *)(text), sizeof(text) - 1}

static void selected(void) {
  struct msgpack_name cpu[] = {NAME("cpu_id")};
  struct msgpack_name deep[] = {NAME("m"), NAME("b")};
  struct msgpack_name nil[] = {NAME("nil")};
  struct msgpack_name absent[] = {NAME("absent")};
  struct msgpack_name ratio[] = {NAME("r")};
  const struct record_field fields[] = {
      {NAME("m.b"), -1, {2, deep}}, {NAME("cpu_id"), RECORD_CPU_ID, {1, cpu}}, {NAME("nil"), -1, {1, nil}},
      {NAME("absent"), -1, {1, absent}}, {NAME("r"), -1, {1, ratio}},
      {NAME("origin_class"), RECORD_ORIGIN_CLASS, {1, absent}},
  };
  static const char payload[] = "\x84\xa1m\x81\xa1" "b\x07\xa3nil\xc0\xa6" "cpu_id\x09\xa1r\xca\x3f\xc0\x00\x00";
  struct msgpack_writer record;
  title("[QL-62] [QL-120] [QL-122] SELECT shows its fields in its order: dotted names, explicit nil, missing omitted");
  record = build(false, BYTES(payload), fields, 6);
  static const char expected[] =
      "\x85\xa3m.b\x07\xa6" "cpu_id\x03\xa3nil\xc0\xa1r\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xac" "origin_class\x02";
  EXPECT(record.length == sizeof expected - 1 && memcmp(record.bytes, expected, record.length) == 0);
  msgpack_writer_free(&record);

  title("[QL-45] [QL-122] a selected NULL column falls back to the payload, else shows nil");
  record = build(true, BYTES(payload), fields, 6);
  EXPECT(pairs(&record) == 5);
  EXPECT(HAS("cpu_id", "\x09"));
  EXPECT(HAS("origin_class", "\xc0"));
  msgpack_writer_free(&record);

  title("[QL-44] [QL-122] with an unusable payload a SELECT shows its columns only");
  record = build(true, BYTES("\x82\xa1m\x05"), fields, 6);
  EXPECT(pairs(&record) == 2);
  EXPECT(HAS("cpu_id", "\xc0"));
  msgpack_writer_free(&record);

  title("[QL-62] more than fifteen selected fields, and none");
  struct record_field many[20];
  char names[20][16];
  for (int i = 0; i < 20; i++) {
    snprintf(names[i], sizeof names[i], "f%02d", i % 100);
    many[i] = (struct record_field){{(const uint8_t *)names[i], 3}, RECORD_TIMESTAMP, {0, NULL}};
  }
  record = build(false, NULL, 0, many, 20);
  EXPECT(pairs(&record) == 20 && HAS("f19", "\xcd\x03\xe8"));
  msgpack_writer_free(&record);
  record = build(false, NULL, 0, many, 0);
  EXPECT(record.length == 1 && record.bytes[0] == 0x80);
  msgpack_writer_free(&record);
}

int main(void) {
  guids();
  whole_records();
  unusable_payloads();
  invalid_text();
  many_pairs();
  selected();
  return expect_result();
}

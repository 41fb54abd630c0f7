#include "record.h"

#include <stdlib.h>

#include "utf8.h"

/* Up to this many pairs are compared with each other; more are sorted to find duplicate keys. */
#define PAIRWISE_LIMIT 16

#define UTF8_REPAIRABLE (UINT32_MAX / 3)

/* As msgpack strings of up to 31 bytes: a head byte, then the name. All are copied in the same length. */
#define ENCODED_NAME_BYTES 24
static const struct {
  char encoded[ENCODED_NAME_BYTES];
  /* Without the head. */
  uint8_t length;
} column_names[RECORD_COLUMNS] = {
    [RECORD_TIMESTAMP] = {"\xa9" "timestamp", 9},
    [RECORD_CPU_ID] = {"\xa6" "cpu_id", 6},
    [RECORD_SEQUENCE] = {"\xa8" "sequence", 8},
    [RECORD_ORIGIN_CLASS] = {"\xac" "origin_class", 12},
    [RECORD_EVENT_TYPE] = {"\xaa" "event_type", 10},
    [RECORD_EFFECTIVE_TOKEN_GUID] = {"\xb4" "effective_token_guid", 20},
    [RECORD_TRUE_TOKEN_GUID] = {"\xaf" "true_token_guid", 15},
    [RECORD_PROCESS_GUID] = {"\xac" "process_guid", 12},
    [RECORD_BOOT_ID] = {"\xa7" "boot_id", 7},
};

/* One top-level pair with a string key. Offsets into the payload unless said otherwise. */
struct record_pair {
  uint32_t key;
  /* The key's text; into builder->names when `repaired`. */
  uint32_t name;
  uint32_t name_length;
  uint32_t value;
  uint32_t value_end;
  bool repaired;
  bool duplicate;
  /* Every string inside the value is valid UTF-8. */
  bool utf8;
  /* Column of this name, or -1. */
  int8_t column;
};

void record_builder_free(struct record_builder *builder) {
  free(builder->pairs);
  free(builder->order);
  msgpack_writer_free(&builder->names);
  *builder = (struct record_builder){0};
}

static int column_of(const uint8_t *name, size_t length) {
  if (length < 6 || length > 20) return -1;
  for (int i = 0; i < RECORD_COLUMNS; i++) {
    if (column_names[i].length == length && memcmp(column_names[i].encoded + 1, name, length) == 0) return i;
  }
  return -1;
}

/* Copies an encoded value; a float32 at its top becomes a float64 (QX-31). */
static void write_slice(struct msgpack_writer *writer, struct msgpack_slice value, bool utf8) {
  struct msgpack_item head;
  if (*value.start == 0xca && msgpack_read(value.start, value.end, &head) != NULL) {
    msgpack_write_double(writer, head.real);
  } else if (utf8) {
    msgpack_write_raw(writer, value.start, (size_t)(value.end - value.start));
  } else {
    msgpack_write_repaired(writer, value);
  }
}

static void write_column(struct msgpack_writer *writer, int column, const struct record_value *value) {
  switch (value->kind) {
    case RECORD_NULL: msgpack_write_nil(writer); break;
    case RECORD_INTEGER: msgpack_write_int(writer, value->integer); break;
    case RECORD_REAL: msgpack_write_double(writer, value->real); break;
    case RECORD_TEXT: msgpack_write_text(writer, value->bytes, value->length); break;
    case RECORD_BLOB:
      if (column >= RECORD_EFFECTIVE_TOKEN_GUID && value->length == 16) {
        char text[GUID_TEXT_LENGTH];
        guid_format(text, value->bytes);
        msgpack_write_str(writer, text, sizeof text);
      } else {
        msgpack_write_bin(writer, value->bytes, value->length);
      }
      break;
  }
}

static const uint8_t *name_of(const struct record_builder *builder, const uint8_t *payload,
                              const struct record_pair *pair) {
  return (pair->repaired ? builder->names.bytes : payload) + pair->name;
}

static bool grow(struct record_builder *builder) {
  size_t capacity = builder->capacity == 0 ? 32 : builder->capacity * 2;
  struct record_pair *pairs = realloc(builder->pairs, capacity * sizeof *pairs);
  if (pairs != NULL) builder->pairs = pairs;
  uint32_t *order = pairs == NULL ? NULL : realloc(builder->order, capacity * sizeof *order);
  if (order == NULL) return false;
  builder->order = order;
  builder->capacity = capacity;
  return true;
}

/* Replaces a key that is not valid UTF-8 by its repaired spelling, so that duplicates are judged on what is shown. */
static void repair_key(struct record_builder *builder, struct record_pair *pair, const uint8_t *payload) {
  struct msgpack_writer *names = &builder->names;
  uint8_t *to = msgpack_reserve(names, UTF8_REPAIR_BOUND(pair->name_length));
  if (to == NULL) return;
  size_t length = utf8_repair(to, payload + pair->name, pair->name_length);
  pair->name = (uint32_t)names->length;
  pair->name_length = (uint32_t)length;
  pair->repaired = true;
  names->length += length;
}

/* Lists the pairs with string keys. False: not a well-formed map, or (writer->failed) no memory. */
static bool list_pairs(struct record_builder *builder, struct msgpack_writer *writer, const uint8_t *payload,
                       size_t length) {
  builder->count = 0;
  builder->names.length = 0;
  struct msgpack_item item;
  const uint8_t *end = payload + length;
  /* Offsets are 32 bits wide, repaired names included; SQLite's largest blob is below this. */
  if (length > UTF8_REPAIRABLE) return false;
  const uint8_t *p = msgpack_read(payload, end, &item);
  if (p == NULL || item.kind != MSGPACK_MAP) return false;
  for (uint32_t left = item.length; left > 0; left--) {
    struct msgpack_item name;
    const uint8_t *key = p;
    const uint8_t *value = msgpack_read(p, end, &name);
    if (value != NULL && name.kind != MSGPACK_STR) value = msgpack_skip(key, end);
    if (value == NULL) return false;
    bool utf8 = true;
    p = msgpack_scan(value, end, &utf8);
    if (p == NULL) return false;
    if (name.kind != MSGPACK_STR) continue;
    if (builder->count == builder->capacity && !grow(builder)) {
      writer->failed = true;
      return false;
    }
    struct record_pair *pair = &builder->pairs[builder->count++];
    *pair = (struct record_pair){
        .key = (uint32_t)(key - payload),
        .name = (uint32_t)(name.data - payload),
        .name_length = name.length,
        .value = (uint32_t)(value - payload),
        .value_end = (uint32_t)(p - payload),
        .utf8 = utf8,
        .column = (int8_t)column_of(name.data, name.length),
    };
    if (!utf8_valid(name.data, name.length)) repair_key(builder, pair, payload);
  }
  if (builder->names.failed) writer->failed = true;
  return p == end && !writer->failed;
}

/* 0 to 63. */
static unsigned name_signature(const struct record_builder *builder, const uint8_t *payload,
                               const struct record_pair *pair) {
  if (pair->name_length == 0) return 0;
  const uint8_t *name = name_of(builder, payload, pair);
  return (name[0] * 5u + name[pair->name_length - 1] * 11u + pair->name_length) % 64;
}

struct order_context {
  const struct record_builder *builder;
  const uint8_t *payload;
};

static int compare_names(const struct order_context *context, uint32_t left, uint32_t right) {
  const struct record_pair *a = &context->builder->pairs[left];
  const struct record_pair *b = &context->builder->pairs[right];
  if (a->name_length != b->name_length) return a->name_length < b->name_length ? -1 : 1;
  return memcmp(name_of(context->builder, context->payload, a), name_of(context->builder, context->payload, b),
                a->name_length);
}

static int by_name_then_place(const void *left, const void *right, void *context) {
  uint32_t a = *(const uint32_t *)left;
  uint32_t b = *(const uint32_t *)right;
  int order = compare_names(context, a, b);
  return order != 0 ? order : a < b ? -1 : 1;
}

/*
 * Marks all but the first pair of each name (QL-44). Sorting instead of hashing: no choice of keys
 * can make it slow.
 */
static void mark_duplicates(struct record_builder *builder, const uint8_t *payload) {
  struct order_context context = {builder, payload};
  if (builder->count <= PAIRWISE_LIMIT) {
    /* Names that are equal have the same signature, and few others do. */
    uint64_t seen = 0;
    for (uint32_t i = 0; i < builder->count; i++) {
      uint64_t signature = UINT64_C(1) << name_signature(builder, payload, &builder->pairs[i]);
      for (uint32_t j = 0; (seen & signature) != 0 && j < i && !builder->pairs[i].duplicate; j++) {
        builder->pairs[i].duplicate = compare_names(&context, i, j) == 0;
      }
      seen |= signature;
    }
    return;
  }
  for (uint32_t i = 0; i < builder->count; i++) builder->order[i] = i;
  qsort_r(builder->order, builder->count, sizeof *builder->order, by_name_then_place, &context);
  for (size_t i = 1; i < builder->count; i++) {
    if (compare_names(&context, builder->order[i], builder->order[i - 1]) == 0) {
      builder->pairs[builder->order[i]].duplicate = true;
    }
  }
}

static void write_column_name(struct msgpack_writer *writer, int column) {
  uint8_t *to = msgpack_reserve(writer, ENCODED_NAME_BYTES);
  if (to == NULL) return;
  memcpy(to, column_names[column].encoded, ENCODED_NAME_BYTES);
  writer->length += column_names[column].length + 1u;
}

/* Whether a pair is written as it stands in the payload. */
static bool is_verbatim(const struct record_pair *pair, const uint8_t *payload) {
  return !pair->repaired && pair->utf8 && payload[pair->value] != 0xca;
}

/* Writes the pairs that are shown under their own names; what stands side by side is copied at once. */
static void write_pairs(struct record_builder *builder, struct msgpack_writer *writer, const uint8_t *payload) {
  uint32_t from = 0;
  uint32_t to = 0;
  for (size_t i = 0; i < builder->count; i++) {
    const struct record_pair *pair = &builder->pairs[i];
    if (pair->duplicate || pair->column >= 0) continue;
    bool verbatim = is_verbatim(pair, payload);
    if (!verbatim || pair->key != to) {
      msgpack_write_raw(writer, payload + from, to - from);
      from = pair->key;
    }
    to = pair->value_end;
    if (verbatim) continue;
    if (pair->repaired) {
      msgpack_write_str(writer, builder->names.bytes + pair->name, pair->name_length);
    } else {
      msgpack_write_raw(writer, payload + pair->key, pair->value - pair->key);
    }
    write_slice(writer, (struct msgpack_slice){payload + pair->value, payload + pair->value_end}, pair->utf8);
    from = to;
  }
  if (to > from) msgpack_write_raw(writer, payload + from, to - from);
}

static void write_all(struct record_builder *builder, struct msgpack_writer *writer,
                      const struct record_value *columns, const uint8_t *payload, size_t length) {
  const struct record_pair *fallback[RECORD_COLUMNS] = {NULL};
  uint32_t shown = RECORD_COLUMNS;
  if (payload == NULL || !list_pairs(builder, writer, payload, length)) builder->count = 0;
  mark_duplicates(builder, payload);
  for (size_t i = 0; i < builder->count; i++) {
    const struct record_pair *pair = &builder->pairs[i];
    if (pair->duplicate) continue;
    if (pair->column < 0) {
      shown++;
    } else {
      fallback[pair->column] = pair;
    }
  }
  msgpack_write_map(writer, shown);
  for (int i = 0; i < RECORD_COLUMNS; i++) {
    write_column_name(writer, i);
    const struct record_pair *pair = fallback[i];
    if (columns[i].kind == RECORD_NULL && pair != NULL) {
      write_slice(writer, (struct msgpack_slice){payload + pair->value, payload + pair->value_end}, pair->utf8);
    } else {
      write_column(writer, i, &columns[i]);
    }
  }
  write_pairs(builder, writer, payload);
}

/* What a SELECT needs to know about the payload, found out when a field first asks. */
struct lazy_payload {
  struct msgpack_slice bytes;
  bool looked;
  bool usable;
  bool utf8;
};

static bool find_field(struct lazy_payload *payload, const struct msgpack_path *path, struct msgpack_slice *value) {
  if (!payload->looked) {
    payload->looked = true;
    payload->utf8 = true;
    payload->usable = payload->bytes.start != NULL &&
                      msgpack_scan(payload->bytes.start, payload->bytes.end, &payload->utf8) == payload->bytes.end;
  }
  return payload->usable && msgpack_descend(payload->bytes, path->names, path->count, value);
}

static void write_selected(struct msgpack_writer *writer, const struct record_value *columns,
                           struct lazy_payload *payload, const struct record_field *fields, size_t count) {
  /* The number of pairs is known only at the end: a head of fixed size is filled in afterwards. */
  size_t head = writer->length;
  bool small = count < 16;
  msgpack_write_raw(writer, small ? "\x80" : "\xdf\0\0\0\0", small ? 1 : 5);
  uint32_t shown = 0;
  for (size_t i = 0; i < count; i++) {
    const struct record_field *field = &fields[i];
    struct msgpack_slice value = {NULL, NULL};
    bool stored = field->column >= 0 && columns[field->column].kind != RECORD_NULL;
    if (!stored && !find_field(payload, &field->path, &value)) {
      if (field->column < 0) continue;
      stored = true;
    }
    msgpack_write_str(writer, field->name.bytes, (uint32_t)field->name.length);
    if (stored) {
      write_column(writer, field->column, &columns[field->column]);
    } else {
      write_slice(writer, value, payload->utf8);
    }
    shown++;
  }
  if (writer->failed) return;
  if (small) {
    writer->bytes[head] |= (uint8_t)shown;
  } else {
    uint32_t big = __builtin_bswap32(shown);
    memcpy(writer->bytes + head + 1, &big, 4);
  }
}

void record_write(struct record_builder *builder, struct msgpack_writer *writer,
                  const struct record_value columns[RECORD_COLUMNS], const uint8_t *payload, size_t length,
                  const struct record_field *fields, size_t field_count) {
  if (fields == NULL) {
    write_all(builder, writer, columns, payload, length);
  } else {
    struct lazy_payload lazy = {.bytes = {payload, payload == NULL ? NULL : payload + length}};
    write_selected(writer, columns, &lazy, fields, field_count);
  }
}

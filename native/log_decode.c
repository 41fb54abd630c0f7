#include "log_decode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "msgpack.h"
#include "utf8.h"

enum { FIRST_RECORDS = 256 };

/* ---- One record ---- */

enum field { FIELD_ORIGIN = 1, FIELD_IS_ERROR = 2, FIELD_MESSAGE = 4, FIELD_TIMESTAMP = 8 };

#define REQUIRED_FIELDS (FIELD_ORIGIN | FIELD_IS_ERROR | FIELD_MESSAGE)

static unsigned field_of(const struct msgpack_item *key) {
  if (key->kind != MSGPACK_STR) return 0;
  switch (key->length) {
    case 6: return memcmp(key->data, "origin", 6) == 0 ? FIELD_ORIGIN : 0;
    case 7: return memcmp(key->data, "message", 7) == 0 ? FIELD_MESSAGE : 0;
    case 8: return memcmp(key->data, "is_error", 8) == 0 ? FIELD_IS_ERROR : 0;
    case 9: return memcmp(key->data, "timestamp", 9) == 0 ? FIELD_TIMESTAMP : 0;
    default: return 0;
  }
}

static bool is_text(const struct msgpack_item *value) {
  return value->kind == MSGPACK_STR && utf8_valid(value->data, value->length);
}

/* LOG-17: whether the value has the type of its field; then the record has it. */
static bool take_field(struct log_record *record, unsigned field, const struct msgpack_item *value) {
  switch (field) {
    case FIELD_ORIGIN:
      record->origin = value->data;
      record->origin_length = value->length;
      return is_text(value);
    case FIELD_MESSAGE:
      record->message = value->data;
      record->message_length = value->length;
      return is_text(value);
    case FIELD_IS_ERROR:
      record->is_error = value->boolean;
      return value->kind == MSGPACK_BOOL;
    default:
      record->timestamp = (int64_t)value->uint;
      return value->kind == MSGPACK_UINT && value->uint <= INT64_MAX;
  }
}

static bool is_container(const struct msgpack_item *item) {
  return item->kind == MSGPACK_MAP || item->kind == MSGPACK_ARRAY;
}

const uint8_t *log_record_read(const struct datagrams_map *map, struct log_record *record, bool *valid) {
  struct msgpack_item head;
  const uint8_t *p = msgpack_read(map->start, map->end, &head);
  unsigned seen = 0;
  *valid = true;
  for (uint32_t pair = 0; pair < head.length; pair++) {
    struct msgpack_item key, value;
    const uint8_t *start = p;
    p = msgpack_read(start, map->end, &key);
    if (is_container(&key)) p = msgpack_skip(start, map->end);
    start = p;
    p = msgpack_read(start, map->end, &value);
    if (is_container(&value)) p = msgpack_skip(start, map->end);
    unsigned field = field_of(&key);
    /* Of duplicate keys the first counts, whatever the others hold. */
    if (field == 0 || (seen & field) != 0) continue;
    seen |= field;
    if (!take_field(record, field, &value)) *valid = false;
  }
  if ((seen & REQUIRED_FIELDS) != REQUIRED_FIELDS) *valid = false;
  if ((seen & FIELD_TIMESTAMP) == 0) {
    record->timestamp = map->receipt_ns > INT64_MAX ? INT64_MAX : (int64_t)map->receipt_ns;
  }
  return p;
}

/* ---- Steps ---- */

struct log_records {
  struct log_record *items;
  uint32_t count, capacity;
};

static void clear(void *state) { ((struct log_records *)state)->count = 0; }

static void destroy(void *state) {
  struct log_records *records = state;
  free(records->items);
  free(records);
}

static struct log_records *records_of(const struct datagrams *batch) {
  return batch->decoded.destroy == destroy ? batch->decoded.state : NULL;
}

/* The batch's list of records, made if there is none. 0 or an errno. */
static int prepare(struct datagrams *batch, struct log_records **records) {
  if (batch->decoded.state == NULL) {
    struct log_records *made = calloc(1, sizeof *made);
    if (made == NULL) return ENOMEM;
    batch->decoded = (struct datagrams_decoded){.state = made, .clear = clear, .destroy = destroy};
  }
  *records = records_of(batch);
  return *records == NULL ? EINVAL : 0;
}

/* Room for one more. Grows with records that are really there, never with what a head declares. */
static bool reserve(struct log_records *records) {
  if (records->count < records->capacity) return true;
  uint32_t capacity = records->capacity == 0 ? FIRST_RECORDS : records->capacity * 2;
  struct log_record *items = realloc(records->items, capacity * sizeof *items);
  if (items == NULL) return false;
  records->items = items;
  records->capacity = capacity;
  return true;
}

static int fill(struct datagrams *batch, struct log_records *records, uint32_t max_records) {
  struct datagrams_map map;
  while (records->count < max_records && datagrams_map(batch, &map)) {
    /* A full step is as good as one that memory ended; only an empty one is an error. */
    if (!reserve(records)) return records->count > 0 ? 0 : ENOMEM;
    bool valid;
    datagrams_pass(batch, log_record_read(&map, &records->items[records->count], &valid));
    if (valid) records->count++;
  }
  return 0;
}

int log_decode(struct datagrams *batch, uint32_t max_records, struct log_step *step) {
  if (!datagrams_lock_decode(batch)) return EBUSY;
  struct log_records *records;
  int error = prepare(batch, &records);
  if (error == 0) {
    records->count = 0;
    error = fill(batch, records, max_records);
  }
  if (error == 0) {
    struct datagrams_map map;
    *step = (struct log_step){.records = records->count, .more = datagrams_map(batch, &map)};
  }
  datagrams_unlock_decode(batch);
  return error;
}

const struct log_record *log_decoded(const struct datagrams *batch, uint32_t *count) {
  const struct log_records *records = records_of(batch);
  *count = records == NULL ? 0 : records->count;
  return records == NULL ? NULL : records->items;
}

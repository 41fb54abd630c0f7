#include "metric_decode.h"

#include <math.h>
#include <stdlib.h>

#include "utf8.h"

void metric_decoder_free(struct metric_decoder *decoder) {
  free(decoder->labels);
  free(decoder->key);
  *decoder = (struct metric_decoder){0};
}

/* Room for `need` elements in a doubling array. */
static bool reserve(void **array, size_t *room, size_t need, size_t size) {
  if (need <= *room) return true;
  size_t grown = *room == 0 ? 16 : *room;
  while (grown < need) grown *= 2;
  void *moved = realloc(*array, grown * size);
  if (moved == NULL) return false;
  *array = moved;
  *room = grown;
  return true;
}

/* ---- Fields of a map ---- */

/* A key that is looked for, and where its first value lies; `start` NULL = absent. */
struct field {
  const char *name;
  uint8_t length;
  struct msgpack_slice value;
};

#define FIELD(name) {name, sizeof(name) - 1, {NULL, NULL}}

/*
 * Finds the first value of each field in a map, steps over everything else (LOG-17), and returns the
 * map's end. NULL only for bytes that nobody checked before.
 */
static const uint8_t *find_fields(const uint8_t *start, const uint8_t *end, struct field *fields, size_t count) {
  struct msgpack_item head;
  const uint8_t *p = msgpack_read(start, end, &head);
  if (p == NULL || head.kind != MSGPACK_MAP) return NULL;
  for (uint32_t pair = 0; pair < head.length; pair++) {
    struct msgpack_item key;
    const uint8_t *value = msgpack_read(p, end, &key);
    if (value != NULL && (key.kind == MSGPACK_ARRAY || key.kind == MSGPACK_MAP)) value = msgpack_skip(p, end);
    if (value == NULL) return NULL;
    p = msgpack_skip(value, end);
    if (p == NULL) return NULL;
    if (key.kind != MSGPACK_STR) continue;
    for (size_t i = 0; i < count; i++) {
      if (fields[i].length != key.length || memcmp(fields[i].name, key.data, key.length) != 0) continue;
      if (fields[i].value.start == NULL) fields[i].value = (struct msgpack_slice){value, p};
      break;
    }
  }
  return p;
}

static bool present(const struct field *field) { return field->value.start != NULL; }

/* A number of any encoding as a float (MET-20). */
static bool read_number(const uint8_t **p, const uint8_t *end, double *out) {
  struct msgpack_item item;
  *p = msgpack_read(*p, end, &item);
  if (*p == NULL) return false;
  switch (item.kind) {
    case MSGPACK_UINT: *out = (double)item.uint; return true;
    case MSGPACK_SINT: *out = (double)item.sint; return true;
    case MSGPACK_FLOAT32:
    case MSGPACK_FLOAT64: *out = item.real; return true;
    default: return false;
  }
}

/* An integer that is zero or more, of any encoding (MET-20). */
static bool read_count(const uint8_t **p, const uint8_t *end, uint64_t *out) {
  struct msgpack_item item;
  *p = msgpack_read(*p, end, &item);
  if (*p == NULL || item.kind != MSGPACK_UINT) return false;
  *out = item.uint;
  return true;
}

static bool read_text(struct msgpack_slice value, struct msgpack_item *item) {
  return msgpack_read(value.start, value.end, item) != NULL && item->kind == MSGPACK_STR;
}

/* ---- Single fields ---- */

static bool decode_type(const struct field *field, enum metric_type *type) {
  static const char *const names[] = {
      [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
  struct msgpack_item item;
  if (!present(field) || !read_text(field->value, &item)) return false;
  for (int i = METRIC_COUNTER; i <= METRIC_HISTOGRAM; i++) {
    if (strlen(names[i]) != item.length || memcmp(names[i], item.data, item.length) != 0) continue;
    *type = (enum metric_type)i;
    return true;
  }
  return false;
}

/* SQLite's integers end at 2^63-1, and so do the times that are taken (LOG-17). */
static bool decode_timestamp(const struct field *field, uint64_t receipt_ns, int64_t *timestamp) {
  uint64_t sent = receipt_ns;
  if (present(field)) {
    const uint8_t *p = field->value.start;
    if (!read_count(&p, field->value.end, &sent) || sent > INT64_MAX) return false;
  }
  *timestamp = sent > INT64_MAX ? INT64_MAX : (int64_t)sent;
  return true;
}

static bool decode_scalar(const struct field *field, enum metric_type type, double *value) {
  const uint8_t *p = field->value.start;
  if (!read_number(&p, field->value.end, value)) return false;
  return isfinite(*value) && (type != METRIC_COUNTER || *value >= 0);
}

/* The elements of an array field; false when it is none. */
static bool open_array(const struct field *field, struct msgpack_slice *elements, uint32_t *count) {
  struct msgpack_item head;
  if (!present(field)) return false;
  const uint8_t *p = msgpack_read(field->value.start, field->value.end, &head);
  if (p == NULL || head.kind != MSGPACK_ARRAY) return false;
  *elements = (struct msgpack_slice){p, field->value.end};
  *count = head.length;
  return true;
}

/* Strictly increasing numbers; NaN compares as neither, so it cannot pass (MET-24, MET-27). */
static bool check_boundaries(struct metric_record *record) {
  const uint8_t *p = record->boundaries.start;
  uint64_t hash = FNV1A64_START;
  double last = 0;
  for (uint32_t i = 0; i < record->buckets; i++) {
    double boundary;
    if (!read_number(&p, record->boundaries.end, &boundary) || isnan(boundary)) return false;
    if (i > 0 && !(boundary > last)) return false;
    hash = boundary_hash(hash, boundary);
    last = boundary;
  }
  record->key.histogram = true;
  record->key.boundaries_hash = hash;
  return true;
}

static bool check_counts(const struct metric_record *record) {
  const uint8_t *p = record->counts.start;
  uint64_t count;
  for (uint32_t i = 0; i < record->buckets; i++) {
    if (!read_count(&p, record->counts.end, &count)) return false;
  }
  return true;
}

static bool decode_histogram(const struct field *field, struct metric_record *record) {
  struct field parts[] = {FIELD("boundaries"), FIELD("counts"), FIELD("total_count"), FIELD("sum")};
  if (find_fields(field->value.start, field->value.end, parts, 4) == NULL) return false;
  uint32_t counts;
  if (!open_array(&parts[0], &record->boundaries, &record->buckets)) return false;
  if (!open_array(&parts[1], &record->counts, &counts) || counts != record->buckets) return false;
  if (!present(&parts[2]) || !present(&parts[3])) return false;
  const uint8_t *p = parts[2].value.start;
  if (!read_count(&p, parts[2].value.end, &record->total_count)) return false;
  p = parts[3].value.start;
  if (!read_number(&p, parts[3].value.end, &record->sum)) return false;
  record->value = 0;
  return check_boundaries(record) && check_counts(record);
}

/*
 * Every pair must be right, also one whose key came before: a wrong one makes `labels` something else
 * than a map of strings (MET-4, MET-23). Of right pairs with one key the first counts.
 */
static enum metric_verdict decode_labels(struct metric_decoder *decoder, const struct field *field, size_t *count) {
  *count = 0;
  if (!present(field)) return METRIC_VALID;
  struct msgpack_item head;
  const uint8_t *end = field->value.end;
  const uint8_t *p = msgpack_read(field->value.start, end, &head);
  if (p == NULL || head.kind != MSGPACK_MAP) return METRIC_INVALID;
  for (uint32_t pair = 0; pair < head.length; pair++) {
    struct msgpack_item key, value;
    p = msgpack_read(p, end, &key);
    if (p == NULL || key.kind != MSGPACK_STR || !label_valid(key.data, key.length)) return METRIC_INVALID;
    p = msgpack_read(p, end, &value);
    if (p == NULL || value.kind != MSGPACK_STR || !label_valid(value.data, value.length)) return METRIC_INVALID;
    if (!reserve((void **)&decoder->labels, &decoder->label_room, *count + 1, sizeof *decoder->labels)) {
      return METRIC_NO_MEMORY;
    }
    decoder->labels[(*count)++] = (struct label){key.data, value.data, key.length, value.length};
  }
  *count = labels_sort(decoder->labels, *count);
  return METRIC_VALID;
}

/* Puts the parts of the identity together; see struct series_key. */
static bool write_key(struct metric_decoder *decoder, const struct msgpack_item *name, size_t label_count,
                      struct series_key *key) {
  size_t labels_length = labels_size(decoder->labels, label_count);
  size_t length = name->length + 1 + labels_length;
  if (key->histogram) length += 1 + sizeof key->boundaries_hash;
  if (!reserve((void **)&decoder->key, &decoder->key_room, length, 1)) return false;
  uint8_t *p = decoder->key;
  memcpy(p, name->data, name->length);
  p += name->length;
  *p++ = 0xff;
  p = labels_write(p, decoder->labels, label_count);
  if (key->histogram) {
    *p++ = 0xff;
    memcpy(p, &key->boundaries_hash, sizeof key->boundaries_hash);
  }
  key->bytes = decoder->key;
  key->length = length;
  key->name_length = name->length;
  key->labels_length = (uint32_t)labels_length;
  return true;
}

enum metric_verdict metric_decode(struct metric_decoder *decoder, const struct datagrams_map *map,
                                  struct metric_record *record, const uint8_t **after) {
  enum { NAME, LABELS, TYPE, TIMESTAMP, VALUE, FIELDS };
  struct field fields[FIELDS] = {
      [NAME] = FIELD("name"),           [LABELS] = FIELD("labels"), [TYPE] = FIELD("type"),
      [TIMESTAMP] = FIELD("timestamp"), [VALUE] = FIELD("value"),
  };
  *after = find_fields(map->start, map->end, fields, FIELDS);
  if (*after == NULL) {
    *after = map->end;
    return METRIC_INVALID;
  }
  *record = (struct metric_record){0};
  struct msgpack_item name;
  if (!present(&fields[NAME]) || !read_text(fields[NAME].value, &name)) return METRIC_INVALID;
  if (!utf8_valid(name.data, name.length)) return METRIC_INVALID;
  if (!decode_type(&fields[TYPE], &record->type)) return METRIC_INVALID;
  if (!decode_timestamp(&fields[TIMESTAMP], map->receipt_ns, &record->timestamp)) return METRIC_INVALID;
  if (!present(&fields[VALUE])) return METRIC_INVALID;
  bool measured = record->type == METRIC_HISTOGRAM ? decode_histogram(&fields[VALUE], record)
                                                   : decode_scalar(&fields[VALUE], record->type, &record->value);
  if (!measured) return METRIC_INVALID;
  size_t label_count;
  enum metric_verdict verdict = decode_labels(decoder, &fields[LABELS], &label_count);
  if (verdict != METRIC_VALID) return verdict;
  return write_key(decoder, &name, label_count, &record->key) ? METRIC_VALID : METRIC_NO_MEMORY;
}

/* ---- histogram_data ---- */

/* Heads, key names, total_count and sum take less; a bound or count takes nine bytes at most. */
enum { HISTOGRAM_FRAME_BYTES = 80, NUMBER_BYTES = 9 };

size_t metric_histogram_bound(const struct metric_record *record) {
  return HISTOGRAM_FRAME_BYTES + (size_t)record->buckets * NUMBER_BYTES * 2;
}

void metric_write_histogram(struct msgpack_writer *writer, const struct metric_record *record) {
  /* One growth at most, however many buckets there are. */
  msgpack_reserve(writer, metric_histogram_bound(record));
  msgpack_write_map(writer, 4);
  msgpack_write_str(writer, "boundaries", 10);
  msgpack_write_array(writer, record->buckets);
  const uint8_t *p = record->boundaries.start;
  for (uint32_t i = 0; i < record->buckets; i++) {
    double boundary = 0;
    read_number(&p, record->boundaries.end, &boundary);
    msgpack_write_double(writer, boundary);
  }
  msgpack_write_str(writer, "counts", 6);
  msgpack_write_array(writer, record->buckets);
  p = record->counts.start;
  for (uint32_t i = 0; i < record->buckets; i++) {
    uint64_t count = 0;
    read_count(&p, record->counts.end, &count);
    msgpack_write_uint(writer, count);
  }
  msgpack_write_str(writer, "total_count", 11);
  msgpack_write_uint(writer, record->total_count);
  msgpack_write_str(writer, "sum", 3);
  msgpack_write_double(writer, record->sum);
}

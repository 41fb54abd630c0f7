/*
 * Result records of logs and metrics, built row by row in SQL and copied into wire frames as they
 * are (QL-99, QL-120..122):
 *
 *   record_map(key, value, ...)   a msgpack map; an SQL value becomes what it is, NULL becomes nil
 *   sample_record(timestamp, name, labels, value, histogram [, type, fields])
 *                                 a flat map with the labels of a canonical label string as keys;
 *                                 a histogram (msgpack) stands for the value (QL-102). With fields,
 *                                 their names joined by commas, these alone; labels that are missing
 *                                 are left out (QL-121, QL-122)
 *   label_value(labels, key)      one label of a canonical label string, or NULL (QL-43)
 *   wire_bool(n), wire_guid(b)    mark a value for record_map: a boolean, the text of a GUID
 */
#include <stddef.h>

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>
#include <string.h>

#include "msgpack.h"
#include "record.h"
#include "sqlite_parts.h"
#include "sqlite_wire.h"

/* The fields of QL-99 that hide labels of the same name (QL-100). */
static const char *const sample_fields[] = {"timestamp", "name", "type", "value"};

static void result_record(sqlite3_context *context, struct msgpack_writer *writer) {
  if (writer->failed) {
    sqlite3_result_error_nomem(context);
    msgpack_writer_free(writer);
  } else {
    sqlite3_result_blob64(context, writer->bytes, writer->length, free);
  }
}

static void write_text(struct msgpack_writer *writer, sqlite3_value *value) {
  const uint8_t *text = sqlite3_value_text(value);
  int length = sqlite3_value_bytes(value);
  if (text == NULL) text = (const uint8_t *)"";
  msgpack_write_text(writer, text, (uint32_t)length);
}

static void write_value(struct msgpack_writer *writer, sqlite3_value *value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
      if (sqlite3_value_subtype(value) == SUBTYPE_BOOL) {
        msgpack_write_raw(writer, sqlite3_value_int64(value) != 0 ? "\xc3" : "\xc2", 1);
      } else {
        msgpack_write_int(writer, sqlite3_value_int64(value));
      }
      break;
    case SQLITE_FLOAT: msgpack_write_double(writer, sqlite3_value_double(value)); break;
    case SQLITE_TEXT: write_text(writer, value); break;
    case SQLITE_BLOB: {
      const uint8_t *bytes = sqlite3_value_blob(value);
      uint32_t length = (uint32_t)sqlite3_value_bytes(value);
      if (sqlite3_value_subtype(value) == SUBTYPE_MSGPACK) {
        msgpack_write_raw(writer, bytes, length);
      } else {
        msgpack_write_bin(writer, bytes, length);
      }
      break;
    }
    default: msgpack_write_nil(writer); break;
  }
}

static void record_map(sqlite3_context *context, int argc, sqlite3_value **argv) {
  if (argc % 2 != 0) {
    sqlite3_result_error(context, "record_map takes pairs of key and value", -1);
    return;
  }
  struct msgpack_writer writer = {0};
  msgpack_write_map(&writer, (uint32_t)(argc / 2));
  for (int i = 0; i < argc; i += 2) {
    write_text(&writer, argv[i]);
    write_value(&writer, argv[i + 1]);
  }
  result_record(context, &writer);
}

/* The next `key=value` of a canonical label string; false at its end or where it is none. */
static bool next_label(const uint8_t **at, const uint8_t *end, struct msgpack_name *key, struct msgpack_name *value) {
  if (*at >= end) return false;
  const uint8_t *comma = memchr(*at, ',', (size_t)(end - *at));
  const uint8_t *stop = comma == NULL ? end : comma;
  const uint8_t *sign = memchr(*at, '=', (size_t)(stop - *at));
  if (sign == NULL) return false;
  *key = (struct msgpack_name){*at, (size_t)(sign - *at)};
  *value = (struct msgpack_name){sign + 1, (size_t)(stop - sign - 1)};
  *at = comma == NULL ? end : comma + 1;
  return true;
}

/* Position in sample_fields, or -1. */
static int sample_field(const struct msgpack_name *name) {
  for (size_t i = 0; i < sizeof sample_fields / sizeof *sample_fields; i++) {
    const char *field = sample_fields[i];
    if (strlen(field) == name->length && memcmp(field, name->bytes, name->length) == 0) return (int)i;
  }
  return -1;
}

static bool is_hidden(const struct msgpack_name *key) {
  return sample_field(key) >= 0;
}

static void write_name(struct msgpack_writer *writer, const char *name) {
  msgpack_write_str(writer, name, (uint32_t)strlen(name));
}

/* The arguments of sample_record. */
enum { SAMPLE_TIMESTAMP, SAMPLE_NAME, SAMPLE_LABELS, SAMPLE_VALUE, SAMPLE_HISTOGRAM, SAMPLE_TYPE, SAMPLE_FIELDS };

static void write_sample_value(struct msgpack_writer *writer, sqlite3_value **argv) {
  const uint8_t *histogram = sqlite3_value_blob(argv[SAMPLE_HISTOGRAM]);
  size_t length = (size_t)sqlite3_value_bytes(argv[SAMPLE_HISTOGRAM]);
  bool utf8 = true;
  /* What lies in the store need not be what was written there. */
  if (histogram != NULL && msgpack_scan(histogram, histogram + length, &utf8) == histogram + length && utf8) {
    msgpack_write_raw(writer, histogram, length);
  } else {
    write_value(writer, argv[SAMPLE_VALUE]);
  }
}

static void write_whole_sample(struct msgpack_writer *writer, sqlite3_value **argv, const uint8_t *labels,
                               const uint8_t *end) {
  struct msgpack_name key;
  struct msgpack_name value;
  uint32_t shown = 3;
  const uint8_t *at = labels;
  while (next_label(&at, end, &key, &value)) shown += !is_hidden(&key);
  msgpack_write_map(writer, shown);
  write_name(writer, "timestamp");
  write_value(writer, argv[SAMPLE_TIMESTAMP]);
  write_name(writer, "name");
  write_value(writer, argv[SAMPLE_NAME]);
  at = labels;
  while (next_label(&at, end, &key, &value)) {
    if (is_hidden(&key)) continue;
    msgpack_write_text(writer, key.bytes, (uint32_t)key.length);
    msgpack_write_text(writer, value.bytes, (uint32_t)value.length);
  }
  write_name(writer, "value");
  write_sample_value(writer, argv);
}

static bool find_label(const uint8_t *labels, const uint8_t *end, const struct msgpack_name *name,
                       struct msgpack_name *value) {
  struct msgpack_name key;
  while (next_label(&labels, end, &key, value)) {
    if (key.length == name->length && memcmp(key.bytes, name->bytes, key.length) == 0) return true;
  }
  return false;
}

/* The next name of a list joined by commas; false at its end. */
static bool next_field(const uint8_t **at, const uint8_t *end, struct msgpack_name *name) {
  if (*at == NULL || *at >= end) return false;
  const uint8_t *comma = memchr(*at, ',', (size_t)(end - *at));
  const uint8_t *stop = comma == NULL ? end : comma;
  *name = (struct msgpack_name){*at, (size_t)(stop - *at)};
  *at = comma == NULL ? end : comma + 1;
  return true;
}

static void write_sample_fields(struct msgpack_writer *writer, sqlite3_value **argv, const uint8_t *labels,
                                const uint8_t *end) {
  /* The built-in fields in the order of sample_fields. */
  static const int arguments[] = {SAMPLE_TIMESTAMP, SAMPLE_NAME, SAMPLE_TYPE, SAMPLE_VALUE};
  const uint8_t *fields = sqlite3_value_text(argv[SAMPLE_FIELDS]);
  const uint8_t *fields_end = fields == NULL ? NULL : fields + sqlite3_value_bytes(argv[SAMPLE_FIELDS]);
  struct msgpack_name name;
  struct msgpack_name value;
  uint32_t shown = 0;
  const uint8_t *at = fields;
  while (next_field(&at, fields_end, &name)) shown += is_hidden(&name) || find_label(labels, end, &name, &value);
  msgpack_write_map(writer, shown);
  at = fields;
  while (next_field(&at, fields_end, &name)) {
    int field = sample_field(&name);
    if (field < 0 && !find_label(labels, end, &name, &value)) continue;
    msgpack_write_text(writer, name.bytes, (uint32_t)name.length);
    if (field < 0) {
      msgpack_write_text(writer, value.bytes, (uint32_t)value.length);
    } else if (arguments[field] == SAMPLE_VALUE) {
      write_sample_value(writer, argv);
    } else {
      write_value(writer, argv[arguments[field]]);
    }
  }
}

static void sample_record(sqlite3_context *context, int argc, sqlite3_value **argv) {
  const uint8_t *labels = sqlite3_value_text(argv[SAMPLE_LABELS]);
  const uint8_t *end = labels == NULL ? NULL : labels + sqlite3_value_bytes(argv[SAMPLE_LABELS]);
  struct msgpack_writer writer = {0};
  if (argc > SAMPLE_TYPE) {
    write_sample_fields(&writer, argv, labels, end);
  } else {
    write_whole_sample(&writer, argv, labels, end);
  }
  result_record(context, &writer);
}

static void label_value(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  const uint8_t *at = sqlite3_value_text(argv[0]);
  const uint8_t *name = sqlite3_value_text(argv[1]);
  if (at == NULL || name == NULL) return;
  const uint8_t *end = at + sqlite3_value_bytes(argv[0]);
  size_t length = (size_t)sqlite3_value_bytes(argv[1]);
  struct msgpack_name value;
  if (!find_label(at, end, &(struct msgpack_name){name, length}, &value)) return;
  sqlite3_result_text(context, (const char *)value.bytes, (int)value.length, SQLITE_TRANSIENT);
}

static void wire_bool(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  sqlite3_result_value(context, argv[0]);
  sqlite3_result_subtype(context, SUBTYPE_BOOL);
}

static void wire_guid(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  const uint8_t *guid = sqlite3_value_blob(argv[0]);
  if (guid == NULL || sqlite3_value_bytes(argv[0]) != 16) {
    sqlite3_result_value(context, argv[0]);
    return;
  }
  char text[GUID_TEXT_LENGTH];
  guid_format(text, guid);
  sqlite3_result_text(context, text, GUID_TEXT_LENGTH, SQLITE_TRANSIENT);
}

int sqlite_record_register(sqlite3 *db) {
  static const struct {
    const char *name;
    int arguments;
    int flags;
    void (*function)(sqlite3_context *, int, sqlite3_value **);
  } functions[] = {
      {"record_map", -1, SQLITE_SUBTYPE, record_map},     {"sample_record", 5, 0, sample_record},
      {"sample_record", 7, 0, sample_record},             {"label_value", 2, 0, label_value},
      {"wire_bool", 1, SQLITE_RESULT_SUBTYPE, wire_bool}, {"wire_guid", 1, 0, wire_guid},
  };
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof functions / sizeof *functions && rc == SQLITE_OK; i++) {
    rc = sqlite3_create_function(db, functions[i].name, functions[i].arguments, PURE_FUNCTION | functions[i].flags,
                                 NULL, functions[i].function, NULL, NULL);
  }
  return rc;
}

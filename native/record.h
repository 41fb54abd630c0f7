/*
 * Result records of event queries (QL-78, QL-120..122, WIRE-10, QX-31): header columns plus the
 * payload's pairs, whose encoded values are copied as they lie in the store.
 */
#ifndef EVENTD_RECORD_H
#define EVENTD_RECORD_H

#include "msgpack.h"

/* Columns of EVENT_COLUMNS (src/native/addon.ts), in its order. */
enum {
  RECORD_TIMESTAMP,
  RECORD_CPU_ID,
  RECORD_SEQUENCE,
  RECORD_ORIGIN_CLASS,
  RECORD_EVENT_TYPE,
  RECORD_EFFECTIVE_TOKEN_GUID,
  RECORD_TRUE_TOKEN_GUID,
  RECORD_PROCESS_GUID,
  RECORD_BOOT_ID,
  RECORD_COLUMNS,
};

enum record_kind { RECORD_NULL, RECORD_INTEGER, RECORD_REAL, RECORD_TEXT, RECORD_BLOB };

/* A stored value; the bytes of text and blobs belong to the caller. */
struct record_value {
  enum record_kind kind;
  int64_t integer;
  double real;
  const uint8_t *bytes;
  uint32_t length;
};

/* One field of a SELECT list. */
struct record_field {
  /* The key in the record, valid UTF-8. */
  struct msgpack_name name;
  /* A column number, or -1 for a payload path. */
  int column;
  /* Where the payload has the value; for a column, where to look when it is NULL (QL-45). */
  struct msgpack_path path;
};

/* Memory kept from record to record. Zero-initialise; free with record_builder_free. */
struct record_builder {
  struct record_pair *pairs;
  uint32_t *order;
  size_t capacity;
  size_t count;
  /* Repaired spellings of keys that are not valid UTF-8. */
  struct msgpack_writer names;
};

void record_builder_free(struct record_builder *builder);

/*
 * Appends one record as a msgpack map. `payload` may be any bytes, or NULL; one that is no
 * well-formed map has no fields (QL-44). `fields` NULL means all columns and all top-level payload
 * pairs with string keys. Running out of memory shows as `writer->failed`.
 */
void record_write(struct record_builder *builder, struct msgpack_writer *writer,
                  const struct record_value columns[RECORD_COLUMNS], const uint8_t *payload, size_t length,
                  const struct record_field *fields, size_t field_count);

/* Canonical text of the 16 bytes of a GUID, `{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}` (KMES-13, KMES-14). */
#define GUID_TEXT_LENGTH 38
void guid_format(char out[GUID_TEXT_LENGTH], const uint8_t guid[16]);

/* The reverse: any case, braces optional but paired (KMES-15..18). */
bool guid_parse(uint8_t guid[16], const uint8_t *text, size_t length);

#endif

#include "cursor.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "number.h"
#include "result_frame.h"
#include "row_value.h"
#include "sliced_call.h"

/* SQLite's order of value classes (QL-71). */
enum key_class { KEY_NULL, KEY_NUMBER, KEY_TEXT, KEY_BLOB };

struct key {
  enum key_class class;
  bool real;
  union {
    int64_t integer;
    double number;
    struct {
      /* SQLite's memory, valid until the statement steps on. */
      const uint8_t *bytes;
      size_t length;
    };
  };
};

struct part {
  /* NULL once exhausted. */
  sqlite3_stmt *statement;
  size_t index;
  /* Sort keys of the current row. */
  struct key *keys;
};

struct cursor {
  pthread_t owner;
  struct cursor_options options;
  struct part *parts;
  struct key *keys;
  size_t count;
  /* Binary heap of the parts that have a row; the next row is that of the first. */
  struct part **heap;
  size_t heap_count;
  /* Header columns that a record needs, by bit. */
  unsigned wanted;
  bool started;
  int error;
  char message[256];
  struct record_builder builder;
  struct msgpack_writer writer;
  /* Builds a frame, which may take several slices. */
  struct sliced_call *building;
  uint32_t max_records;
  size_t max_bytes;
  /* The frame is built, or the cursor has failed over it; cursor_fetch gives it out. */
  bool is_ready;
  struct cursor_chunk chunk;
};

/* A much larger buffer than usual is not kept for the next frame. */
#define KEPT_CAPACITY (4u << 20)

struct cursor *cursor_new(const struct cursor_options *options) {
  struct cursor *cursor = calloc(1, sizeof *cursor);
  if (cursor == NULL) {
    free(options->descending);
    free(options->fields);
    shown_free(options->shown);
    return NULL;
  }
  cursor->owner = pthread_self();
  cursor->options = *options;
  cursor->parts = calloc(options->parts + 1, sizeof *cursor->parts);
  cursor->heap = calloc(options->parts + 1, sizeof *cursor->heap);
  cursor->keys = calloc(options->parts * options->keys + 1, sizeof *cursor->keys);
  cursor->building = sliced_call_new();
  if (cursor->parts == NULL || cursor->heap == NULL || cursor->keys == NULL || cursor->building == NULL) {
    cursor_free(cursor);
    return NULL;
  }
  cursor->wanted = options->fields == NULL ? ~0u : 0;
  for (size_t i = 0; options->fields != NULL && i < options->field_count; i++) {
    if (options->fields[i].column >= 0) cursor->wanted |= 1u << options->fields[i].column;
  }
  if (options->shown != NULL) cursor->wanted |= 1u << RECORD_EVENT_TYPE;
  return cursor;
}

static void finalize_all(struct cursor *cursor) {
  for (size_t i = 0; i < cursor->count; i++) {
    sqlite3_finalize(cursor->parts[i].statement);
    cursor->parts[i].statement = NULL;
  }
  cursor->heap_count = 0;
}

/* Ends the step that is under way, and takes no more: a statement cannot be finalised in the middle of a step. */
static void abandon_frame(struct cursor *cursor) {
  if (cursor->building == NULL || !sliced_call_is_under_way(cursor->building)) return;
  cursor->error = SQLITE_INTERRUPT;
  for (size_t i = 0; i < cursor->count; i++) {
    sqlite3_stmt *statement = cursor->parts[i].statement;
    if (statement != NULL) sqlite3_interrupt(sqlite3_db_handle(statement));
  }
  sliced_call_run(cursor->building, UINT64_MAX);
}

void cursor_end(struct cursor *cursor) {
  abandon_frame(cursor);
  finalize_all(cursor);
  if (cursor->error == SQLITE_OK) cursor->error = SQLITE_MISUSE;
}

void cursor_free(struct cursor *cursor) {
  if (cursor == NULL) return;
  cursor_end(cursor);
  sliced_call_free(cursor->building);
  record_builder_free(&cursor->builder);
  msgpack_writer_free(&cursor->writer);
  free(cursor->options.descending);
  free(cursor->options.fields);
  shown_free(cursor->options.shown);
  free(cursor->parts);
  free(cursor->heap);
  free(cursor->keys);
  free(cursor);
}

bool cursor_is_own(const struct cursor *cursor) {
  return pthread_equal(cursor->owner, pthread_self());
}

const char *cursor_message(const struct cursor *cursor) {
  return cursor->message;
}

/* Ends the cursor: its statements go, so that no read transaction outlives the failure. */
static int fail(struct cursor *cursor, int rc, const char *message) {
  snprintf(cursor->message, sizeof cursor->message, "%s", message);
  cursor->error = rc;
  finalize_all(cursor);
  return rc;
}

int cursor_add(struct cursor *cursor, sqlite3 *db, const char *sql, size_t length, sqlite3_stmt **statement) {
  if (cursor->count == cursor->options.parts) return fail(cursor, SQLITE_MISUSE, "more parts than announced");
  const char *tail = NULL;
  if (length > INT32_MAX) return fail(cursor, SQLITE_TOOBIG, "statement too long");
  int rc = sqlite3_prepare_v2(db, sql, (int)length, statement, &tail);
  if (rc != SQLITE_OK) return fail(cursor, rc, sqlite3_errmsg(db));
  struct part *part = &cursor->parts[cursor->count];
  *part = (struct part){*statement, cursor->count, cursor->keys + cursor->count * cursor->options.keys};
  cursor->count++;
  if (*statement == NULL || tail != sql + length || !sqlite3_stmt_readonly(*statement)) {
    return fail(cursor, SQLITE_MISUSE, "a cursor part is one SELECT statement");
  }
  size_t columns = (size_t)sqlite3_column_count(*statement);
  if (cursor->options.encoded) {
    if (columns == cursor->options.keys + 1) return SQLITE_OK;
    return fail(cursor, SQLITE_MISUSE, "a cursor part selects its sort keys and the encoded record");
  }
  if (columns != cursor->options.keys + CURSOR_ROW_COLUMNS) {
    return fail(cursor, SQLITE_MISUSE, "a cursor part selects its sort keys, the header columns and the payload");
  }
  return SQLITE_OK;
}

/* Text and blobs alike, without a terminating NUL: asking for the size first settles the encoding. */
static const uint8_t *column_bytes(sqlite3_stmt *statement, int column, size_t *length) {
  *length = (size_t)sqlite3_column_bytes(statement, column);
  const uint8_t *bytes = sqlite3_column_blob(statement, column);
  return bytes == NULL ? (const uint8_t *)"" : bytes;
}

static void load_key(struct key *key, sqlite3_stmt *statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
      *key = (struct key){.class = KEY_NUMBER, .integer = sqlite3_column_int64(statement, column)};
      break;
    case SQLITE_FLOAT:
      *key = (struct key){.class = KEY_NUMBER, .real = true, .number = sqlite3_column_double(statement, column)};
      break;
    case SQLITE_TEXT:
      key->class = KEY_TEXT;
      key->bytes = column_bytes(statement, column, &key->length);
      break;
    case SQLITE_BLOB:
      key->class = KEY_BLOB;
      key->bytes = column_bytes(statement, column, &key->length);
      break;
    default: key->class = KEY_NULL; break;
  }
}

static struct number key_number(const struct key *key) {
  if (key->real) return (struct number){.kind = NUMBER_REAL, .real = key->number};
  return number_of_int(key->integer);
}

static int compare_keys(const struct key *a, const struct key *b) {
  if (a->class != b->class) return a->class < b->class ? -1 : 1;
  if (a->class == KEY_NULL) return 0;
  if (a->class == KEY_NUMBER) {
    if (!a->real && !b->real) return a->integer < b->integer ? -1 : a->integer > b->integer;
    struct number left = key_number(a);
    struct number right = key_number(b);
    return number_compare(&left, &right);
  }
  int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
  return order != 0 ? order : a->length < b->length ? -1 : a->length > b->length;
}

/* Whether the current row of `a` comes before that of `b`. */
static bool before(const struct cursor *cursor, const struct part *a, const struct part *b) {
  for (size_t i = 0; i < cursor->options.keys; i++) {
    int order = compare_keys(&a->keys[i], &b->keys[i]);
    if (order != 0) return (order < 0) != cursor->options.descending[i];
  }
  return a->index < b->index;
}

static void sift_down(struct cursor *cursor, size_t at) {
  struct part **heap = cursor->heap;
  for (;;) {
    size_t first = at;
    size_t child = at * 2 + 1;
    if (child < cursor->heap_count && before(cursor, heap[child], heap[first])) first = child;
    if (child + 1 < cursor->heap_count && before(cursor, heap[child + 1], heap[first])) first = child + 1;
    if (first == at) return;
    struct part *moved = heap[at];
    heap[at] = heap[first];
    heap[first] = moved;
    at = first;
  }
}

/* Moves a part to its next row: SQLITE_ROW, SQLITE_DONE (its statement is gone), or an error. */
static int advance(struct cursor *cursor, struct part *part) {
  if (cursor->error != SQLITE_OK) return cursor->error;
  int rc = sqlite3_step(part->statement);
  if (rc == SQLITE_ROW) {
    for (size_t i = 0; i < cursor->options.keys; i++) load_key(&part->keys[i], part->statement, (int)i);
  } else if (rc == SQLITE_DONE) {
    sqlite3_finalize(part->statement);
    part->statement = NULL;
  } else {
    return fail(cursor, rc, sqlite3_errmsg(sqlite3_db_handle(part->statement)));
  }
  return rc;
}

static int start(struct cursor *cursor) {
  cursor->started = true;
  if (cursor->options.take == 0) finalize_all(cursor);
  for (size_t i = 0; i < cursor->count && cursor->options.take > 0; i++) {
    int rc = advance(cursor, &cursor->parts[i]);
    if (rc == SQLITE_ROW) {
      cursor->heap[cursor->heap_count++] = &cursor->parts[i];
    } else if (rc != SQLITE_DONE) {
      return rc;
    }
  }
  for (size_t at = cursor->heap_count / 2; at-- > 0;) sift_down(cursor, at);
  return SQLITE_OK;
}

static void write_record(struct cursor *cursor, sqlite3_stmt *statement) {
  struct record_value columns[RECORD_COLUMNS];
  int first = (int)cursor->options.keys;
  if (cursor->options.encoded) {
    size_t size;
    const uint8_t *record = column_bytes(statement, first, &size);
    msgpack_write_raw(&cursor->writer, size == 0 ? (const uint8_t *)"\x80" : record, size == 0 ? 1 : size);
    return;
  }
  for (int i = 0; i < RECORD_COLUMNS; i++) {
    if (cursor->wanted >> i & 1) row_value(statement, first + i, &columns[i]);
  }
  const uint8_t *payload = NULL;
  size_t length = 0;
  if (sqlite3_column_type(statement, first + RECORD_COLUMNS) == SQLITE_BLOB) {
    payload = column_bytes(statement, first + RECORD_COLUMNS, &length);
  }
  size_t record = cursor->writer.length;
  record_write(&cursor->builder, &cursor->writer, columns, payload, length, cursor->options.fields,
               cursor->options.field_count);
  if (cursor->options.shown != NULL) {
    const struct record_value *type = &columns[RECORD_EVENT_TYPE];
    shown_cut(cursor->options.shown, type->bytes, type->length, &cursor->writer, record);
  }
}

/* Uses up the first row in order: writes or skips it, then moves its part on. */
static int consume(struct cursor *cursor, uint32_t *records) {
  struct part *part = cursor->heap[0];
  if (cursor->options.skip > 0) {
    cursor->options.skip--;
  } else {
    write_record(cursor, part->statement);
    ++*records;
    if (cursor->options.take != UINT64_MAX && --cursor->options.take == 0) {
      finalize_all(cursor);
      return SQLITE_OK;
    }
  }
  int rc = advance(cursor, part);
  if (rc == SQLITE_DONE) {
    cursor->heap[0] = cursor->heap[--cursor->heap_count];
  } else if (rc != SQLITE_ROW) {
    return rc;
  }
  sift_down(cursor, 0);
  return SQLITE_OK;
}

/* The whole of a frame, in the slices of cursor_advance; an SQLite result code. */
static int build_frame(struct cursor *cursor) {
  struct msgpack_writer *writer = &cursor->writer;
  if (writer->capacity > KEPT_CAPACITY) msgpack_writer_free(writer);
  writer->length = 0;
  size_t frame = result_frame_begin(writer);
  int rc = cursor->started ? SQLITE_OK : start(cursor);
  uint32_t records = 0;
  /* At least one record, whatever its size, or a caller would make no headway. */
  while (rc == SQLITE_OK && cursor->heap_count > 0 && records < cursor->max_records &&
         (records == 0 || writer->length < cursor->max_bytes)) {
    rc = consume(cursor, &records);
    if (writer->failed) rc = fail(cursor, SQLITE_NOMEM, "out of memory");
  }
  if (rc != SQLITE_OK) return rc;
  if (writer->failed) return fail(cursor, SQLITE_NOMEM, "out of memory");
  if (!result_frame_end(writer, frame, records)) return fail(cursor, SQLITE_TOOBIG, "a record exceeds 4 GiB");
  cursor->chunk = (struct cursor_chunk){records, cursor->heap_count == 0, writer->bytes, writer->length};
  return SQLITE_OK;
}

static void build(void *argument) {
  build_frame(argument);
}

bool cursor_advance(struct cursor *cursor, uint32_t max_records, size_t max_bytes, uint64_t ns) {
  if (cursor->is_ready || cursor->error != SQLITE_OK) return true;
  if (!sliced_call_is_under_way(cursor->building)) {
    cursor->max_records = max_records;
    cursor->max_bytes = max_bytes;
    sliced_call_begin(cursor->building, build, cursor);
  }
  cursor->is_ready = sliced_call_run(cursor->building, ns);
  return cursor->is_ready;
}

int cursor_fetch(struct cursor *cursor, uint32_t max_records, size_t max_bytes, struct cursor_chunk *chunk) {
  cursor_advance(cursor, max_records, max_bytes, UINT64_MAX);
  cursor->is_ready = false;
  *chunk = cursor->chunk;
  return cursor->error;
}

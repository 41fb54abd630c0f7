#include "tail.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdio.h>
#include <stdlib.h>

#include "predicate.h"
#include "result_frame.h"
#include "row_value.h"
#include "shown.h"

/* One result message holds about this much (WIRE-7). */
#define FRAME_RECORDS 1000
#define FRAME_BYTES (256u << 10)

/* A much larger buffer than usual is not kept for the next batch. */
#define KEPT_CAPACITY (1u << 20)

/* The rows of a range; column 0 is the id. */
static const char *const statements[] = {
    [TAIL_EVENTS] = "SELECT id, timestamp, cpu_id, sequence, origin_class, event_type, effective_token_guid,"
                    " true_token_guid, process_guid, boot_id, payload FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id",
    [TAIL_LOGS] = "SELECT id, timestamp, origin, is_error, message, boot_id FROM logs"
                  " WHERE id > ?1 AND id <= ?2 ORDER BY id",
};

enum { LOG_TIMESTAMP, LOG_ORIGIN, LOG_IS_ERROR, LOG_MESSAGE, LOG_BOOT_ID, LOG_COLUMNS };

static const char *const log_names[LOG_COLUMNS] = {"timestamp", "origin", "is_error", "message", "boot_id"};

struct tail_program {
  struct tail_program *next;
  /* The names of `fields` point into it. */
  uint8_t *spec;
  /* NULL: every row. */
  struct predicate_program *condition;
  /* NULL: every field. */
  struct record_field *fields;
  size_t field_count;
  struct msgpack_name *names;
  /* NULL: every field of every record. */
  struct shown *shown;
  struct msgpack_writer writer;
  /* The message being built: where it begins and what it holds. */
  size_t frame;
  uint32_t frame_records;
  uint32_t records;
};

struct tail {
  enum tail_store store;
  struct predicate_set *set;
  struct tail_program *programs;
  /* The row being looked at: its statement, and the columns fetched so far by bit. */
  sqlite3_stmt *statement;
  unsigned loaded;
  struct record_value columns[RECORD_COLUMNS];
  struct record_builder builder;
  /* The whole record of the current row, once somebody wanted it. */
  struct msgpack_writer whole;
  char message[256];
};

static int column_count(enum tail_store store) {
  return store == TAIL_EVENTS ? RECORD_COLUMNS : LOG_COLUMNS;
}

static const struct record_value *column(struct tail *tail, int index) {
  if ((tail->loaded >> index & 1) == 0) {
    row_value(tail->statement, index + 1, &tail->columns[index]);
    tail->loaded |= 1u << index;
  }
  return &tail->columns[index];
}

static void load(void *context, int index, struct record_value *value) {
  struct tail *tail = context;
  if (index < column_count(tail->store)) {
    *value = *column(tail, index);
  } else if (tail->store == TAIL_EVENTS) {
    row_value(tail->statement, index + 1, value);
  }
}

struct tail *tail_new(enum tail_store store) {
  struct tail *tail = calloc(1, sizeof *tail);
  if (tail == NULL) return NULL;
  tail->store = store;
  struct predicate_source source = {.load = load, .context = tail, .columns = column_count(store)};
  tail->set = predicate_set_new(&source);
  if (tail->set == NULL) {
    free(tail);
    return NULL;
  }
  return tail;
}

static void free_program(struct tail *tail, struct tail_program *program) {
  predicate_program_free(tail->set, program->condition);
  msgpack_writer_free(&program->writer);
  free(program->fields);
  free(program->names);
  shown_free(program->shown);
  free(program->spec);
  free(program);
}

void tail_remove(struct tail *tail, struct tail_program *program) {
  struct tail_program **at = &tail->programs;
  while (*at != program) at = &(*at)->next;
  *at = program->next;
  free_program(tail, program);
}

void tail_free(struct tail *tail) {
  if (tail == NULL) return;
  while (tail->programs != NULL) tail_remove(tail, tail->programs);
  predicate_set_free(tail->set);
  record_builder_free(&tail->builder);
  msgpack_writer_free(&tail->whole);
  free(tail);
}

const char *tail_message(const struct tail *tail) {
  return tail->message;
}

size_t tail_truths(const struct tail_program *program) {
  return program->condition == NULL ? 0 : predicate_truths(program->condition);
}

/* ---- specs ---- */

/* Reads `[name, column, path name...]`; `*name` is where the path's names go. */
static bool read_field(const struct tail *tail, struct msgpack_slice *from, struct record_field *field,
                       struct msgpack_name **name) {
  struct msgpack_item item;
  from->start = msgpack_read(from->start, from->end, &item);
  if (from->start == NULL || item.kind != MSGPACK_ARRAY || item.length < 2) return false;
  uint32_t path = item.length - 2;
  from->start = msgpack_read(from->start, from->end, &item);
  if (from->start == NULL || item.kind != MSGPACK_STR) return false;
  field->name = (struct msgpack_name){item.data, item.length};
  from->start = msgpack_read(from->start, from->end, &item);
  if (from->start == NULL) return false;
  if (item.kind == MSGPACK_SINT && item.sint == -1 && path > 0) {
    field->column = -1;
  } else if (item.kind == MSGPACK_UINT && item.uint < (uint64_t)column_count(tail->store)) {
    field->column = (int)item.uint;
  } else {
    return false;
  }
  if (tail->store == TAIL_LOGS && field->column < 0) return false;
  field->path = (struct msgpack_path){path, *name};
  for (uint32_t i = 0; i < path; i++) {
    from->start = msgpack_read(from->start, from->end, &item);
    if (from->start == NULL || item.kind != MSGPACK_STR) return false;
    *(*name)++ = (struct msgpack_name){item.data, item.length};
  }
  return true;
}

static enum tail_problem read_fields(const struct tail *tail, struct tail_program *program, struct msgpack_slice *from) {
  struct msgpack_item item;
  size_t size = (size_t)(from->end - from->start);
  from->start = msgpack_read(from->start, from->end, &item);
  if (from->start == NULL) return TAIL_MALFORMED;
  if (item.kind == MSGPACK_NIL) return TAIL_OK;
  if (item.kind != MSGPACK_ARRAY) return TAIL_MALFORMED;
  /* Every field and every name takes at least a byte of the spec. */
  program->field_count = item.length;
  program->fields = calloc(program->field_count + 1, sizeof *program->fields);
  program->names = calloc(size + 1, sizeof *program->names);
  if (program->fields == NULL || program->names == NULL) return TAIL_NO_MEMORY;
  struct msgpack_name *name = program->names;
  for (size_t i = 0; i < program->field_count; i++) {
    if (!read_field(tail, from, &program->fields[i], &name)) return TAIL_MALFORMED;
  }
  return TAIL_OK;
}

static enum tail_problem read_shown(struct tail_program *program, struct msgpack_slice *from) {
  struct msgpack_item item;
  bool malformed;
  from->start = msgpack_read(from->start, from->end, &item);
  if (from->start == NULL) return TAIL_MALFORMED;
  if (item.kind == MSGPACK_NIL) return TAIL_OK;
  if (item.kind != MSGPACK_BIN) return TAIL_MALFORMED;
  program->shown = shown_new(item.data, item.length, &malformed);
  if (program->shown != NULL) return TAIL_OK;
  return malformed ? TAIL_MALFORMED : TAIL_NO_MEMORY;
}

static enum tail_problem read_spec(struct tail *tail, struct tail_program *program, size_t length) {
  struct msgpack_slice spec = {program->spec, program->spec + length};
  struct msgpack_item item;
  bool utf8 = true;
  if (msgpack_scan(spec.start, spec.end, &utf8) != spec.end || !utf8) return TAIL_MALFORMED;
  spec.start = msgpack_read(spec.start, spec.end, &item);
  if (item.kind != MSGPACK_ARRAY || item.length < 2 || item.length > 3) return TAIL_MALFORMED;
  bool has_shown = item.length == 3;
  const uint8_t *fields = msgpack_skip(spec.start, spec.end);
  if (*spec.start != 0xc0) {
    enum predicate_problem problem;
    program->condition = predicate_compile(tail->set, (struct msgpack_slice){spec.start, fields}, &problem);
    if (problem == PREDICATE_NO_MEMORY) return TAIL_NO_MEMORY;
    if (program->condition == NULL) return TAIL_MALFORMED;
  }
  spec.start = fields;
  enum tail_problem read = read_fields(tail, program, &spec);
  return read == TAIL_OK && has_shown ? read_shown(program, &spec) : read;
}

struct tail_program *tail_add(struct tail *tail, const uint8_t *spec, size_t length, enum tail_problem *problem) {
  *problem = TAIL_NO_MEMORY;
  struct tail_program *program = calloc(1, sizeof *program);
  if (program == NULL) return NULL;
  program->spec = malloc(length + 1);
  if (program->spec != NULL) {
    if (length > 0) memcpy(program->spec, spec, length);
    *problem = read_spec(tail, program, length);
  }
  if (*problem != TAIL_OK) {
    free_program(tail, program);
    return NULL;
  }
  program->next = tail->programs;
  tail->programs = program;
  return program;
}

/* ---- records ---- */

/* One column of a log record as it is shown (QL-121). */
static void write_log_value(struct tail *tail, struct msgpack_writer *writer, int index) {
  const struct record_value *value = column(tail, index);
  switch (value->kind) {
    case RECORD_NULL: msgpack_write_nil(writer); break;
    case RECORD_INTEGER:
      if (index == LOG_IS_ERROR) {
        msgpack_write_raw(writer, value->integer != 0 ? "\xc3" : "\xc2", 1);
      } else {
        msgpack_write_int(writer, value->integer);
      }
      break;
    case RECORD_REAL: msgpack_write_double(writer, value->real); break;
    case RECORD_TEXT: msgpack_write_text(writer, value->bytes, value->length); break;
    case RECORD_BLOB:
      if (index == LOG_BOOT_ID && value->length == 16) {
        char text[GUID_TEXT_LENGTH];
        guid_format(text, value->bytes);
        msgpack_write_str(writer, text, sizeof text);
      } else {
        msgpack_write_bin(writer, value->bytes, value->length);
      }
      break;
  }
}

static void write_log(struct tail *tail, struct msgpack_writer *writer, const struct record_field *fields,
                      size_t count) {
  msgpack_write_map(writer, fields == NULL ? LOG_COLUMNS : (uint32_t)count);
  for (size_t i = 0; i < (fields == NULL ? LOG_COLUMNS : count); i++) {
    int index = fields == NULL ? (int)i : fields[i].column;
    msgpack_write_str(writer, log_names[index], (uint32_t)strlen(log_names[index]));
    write_log_value(tail, writer, index);
  }
}

static void write_event(struct tail *tail, struct msgpack_writer *writer, const struct record_field *fields,
                        size_t count) {
  for (int i = 0; i < RECORD_COLUMNS; i++) column(tail, i);
  struct record_value payload = {.kind = RECORD_NULL};
  row_value(tail->statement, RECORD_COLUMNS + 1, &payload);
  bool usable = payload.kind == RECORD_BLOB;
  record_write(&tail->builder, writer, tail->columns, usable ? payload.bytes : NULL, usable ? payload.length : 0,
               fields, count);
}

static void write_row(struct tail *tail, struct msgpack_writer *writer, const struct record_field *fields,
                      size_t count) {
  if (tail->store == TAIL_EVENTS) {
    write_event(tail, writer, fields, count);
  } else {
    write_log(tail, writer, fields, count);
  }
}

/* Leaves out of the record at `start` what the program's reader may not see. */
static void cut(struct tail *tail, struct tail_program *program, size_t start) {
  if (program->shown == NULL) return;
  const struct record_value *identifier =
      column(tail, tail->store == TAIL_EVENTS ? (int)RECORD_EVENT_TYPE : (int)LOG_ORIGIN);
  bool is_text = identifier->kind == RECORD_TEXT || identifier->kind == RECORD_BLOB;
  shown_cut(program->shown, is_text ? identifier->bytes : NULL, is_text ? identifier->length : 0, &program->writer,
            start);
}

static bool end_frame(struct tail_program *program) {
  bool fits = result_frame_end(&program->writer, program->frame, program->frame_records);
  program->frame_records = 0;
  return fits;
}

/* Appends the current row to a program's messages; a whole record is made once for all who want it. */
static bool append(struct tail *tail, struct tail_program *program) {
  struct msgpack_writer *writer = &program->writer;
  if (program->frame_records == 0) program->frame = result_frame_begin(writer);
  size_t record = writer->length;
  if (program->fields != NULL) {
    write_row(tail, writer, program->fields, program->field_count);
  } else {
    if (tail->whole.length == 0) write_row(tail, &tail->whole, NULL, 0);
    msgpack_write_raw(writer, tail->whole.bytes, tail->whole.length);
    writer->failed |= tail->whole.failed;
  }
  cut(tail, program, record);
  program->records++;
  program->frame_records++;
  bool full = program->frame_records == FRAME_RECORDS || writer->length - program->frame >= FRAME_BYTES;
  return !full || end_frame(program);
}

/* ---- scans ---- */

static int fail(struct tail *tail, int rc, const char *message) {
  snprintf(tail->message, sizeof tail->message, "%s", message);
  return rc;
}

static void begin(struct tail_part *part) {
  struct tail_program *program = part->program;
  if (program->writer.capacity > KEPT_CAPACITY || program->writer.failed) msgpack_writer_free(&program->writer);
  program->writer.length = 0;
  program->frame_records = 0;
  program->records = 0;
}

/* Tests the current row; SQLITE_OK, or why it could not be kept. */
static int look(struct tail *tail, struct tail_range *range, struct tail_part *parts, size_t count) {
  bool full = false;
  size_t total = 0;
  tail->loaded = 0;
  tail->whole.length = 0;
  predicate_next_row(tail->set);
  for (size_t i = 0; i < count; i++) {
    struct tail_program *program = parts[i].program;
    if (program->condition == NULL || predicate_matches(tail->set, program->condition, parts[i].truths)) {
      if (!append(tail, program)) return fail(tail, SQLITE_TOOBIG, "a record exceeds 4 GiB");
      if (program->writer.failed) return fail(tail, SQLITE_NOMEM, "out of memory");
    }
    total += program->writer.length;
    full |= program->writer.length >= range->max_bytes;
  }
  full |= total >= range->total_bytes;
  if (predicate_failed(tail->set)) return fail(tail, SQLITE_NOMEM, "out of memory");
  range->rows++;
  range->last = sqlite3_column_int64(tail->statement, 0);
  return full || range->rows >= range->max_rows ? SQLITE_DONE : SQLITE_OK;
}

static int scan(struct tail *tail, struct tail_range *range, struct tail_part *parts, size_t count) {
  for (;;) {
    int rc = sqlite3_step(tail->statement);
    if (rc == SQLITE_DONE) {
      range->done = true;
      return SQLITE_OK;
    }
    if (rc != SQLITE_ROW) return fail(tail, rc, sqlite3_errmsg(sqlite3_db_handle(tail->statement)));
    rc = look(tail, range, parts, count);
    if (rc == SQLITE_DONE) return SQLITE_OK;
    if (rc != SQLITE_OK) return rc;
  }
}

int tail_scan(struct tail *tail, sqlite3 *db, struct tail_range *range, struct tail_part *parts, size_t count) {
  range->last = range->after;
  range->rows = 0;
  range->done = false;
  for (size_t i = 0; i < count; i++) begin(&parts[i]);
  int rc = sqlite3_prepare_v2(db, statements[tail->store], -1, &tail->statement, NULL);
  if (rc != SQLITE_OK) return fail(tail, rc, sqlite3_errmsg(db));
  sqlite3_bind_int64(tail->statement, 1, range->after);
  sqlite3_bind_int64(tail->statement, 2, range->up_to);
  rc = scan(tail, range, parts, count);
  sqlite3_finalize(tail->statement);
  tail->statement = NULL;
  if (tail->whole.capacity > KEPT_CAPACITY || tail->whole.failed) msgpack_writer_free(&tail->whole);
  for (size_t i = 0; i < count; i++) {
    struct tail_program *program = parts[i].program;
    if (rc == SQLITE_OK && program->frame_records > 0 && !end_frame(program)) {
      rc = fail(tail, SQLITE_TOOBIG, "a record exceeds 4 GiB");
    }
    parts[i].frames = program->writer.bytes;
    parts[i].length = program->writer.length;
    parts[i].records = program->records;
  }
  return rc;
}

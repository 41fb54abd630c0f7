/*
 * kmes_batch(segment): the rows of a handoff segment as a table, so that one statement stores a
 * whole batch:
 *
 *   INSERT INTO events(boot_id, timestamp, cpu_id, sequence, origin_class, event_type,
 *                      effective_token_guid, true_token_guid, process_guid, payload)
 *   SELECT ?2, timestamp, cpu_id, sequence, origin_class, event_type,
 *          effective_token_guid, true_token_guid, process_guid, payload FROM kmes_batch(?1)
 *
 * Values point into the segment, which stays borrowed while the table is read. An event's bytes
 * are stored as they are (STO-2). A gap entry becomes a synthetic.gap row (STO-8, STO-9).
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>

#include "batch_table.h"
#include "channel.h"
#include "kmes_format.h"
#include "segment_entry.h"
#include "sqlite_parts.h"

enum {
  COLUMN_TIMESTAMP,
  COLUMN_CPU_ID,
  COLUMN_SEQUENCE,
  COLUMN_ORIGIN_CLASS,
  COLUMN_EVENT_TYPE,
  COLUMN_EFFECTIVE_TOKEN_GUID,
  COLUMN_TRUE_TOKEN_GUID,
  COLUMN_PROCESS_GUID,
  COLUMN_PAYLOAD,
  COLUMN_SEGMENT,
};

static const char schema[] =
    "CREATE TABLE kmes_batch(timestamp INTEGER, cpu_id INTEGER, sequence INTEGER, origin_class INTEGER,"
    " event_type TEXT, effective_token_guid BLOB, true_token_guid BLOB, process_guid BLOB, payload BLOB,"
    " segment INTEGER HIDDEN)";

struct batch_cursor {
  sqlite3_vtab_cursor base;
  /* The borrowed segment, 0 = none. */
  int64_t segment;
  const uint8_t *next;
  const uint8_t *end;
  struct segment_entry entry;
  sqlite3_int64 row;
  bool done;
};

static const struct batch_table_kind kind = {
    .name = "kmes_batch",
    .schema = schema,
    .argument_column = COLUMN_SEGMENT,
    .argument = "segment",
    .rows = 10000,
    .cursor_size = sizeof(struct batch_cursor),
};

static void give_back(struct batch_cursor *cursor) {
  if (cursor->segment != 0) segment_return(cursor->segment);
  cursor->segment = 0;
}

static int batch_close(sqlite3_vtab_cursor *base) {
  struct batch_cursor *cursor = (struct batch_cursor *)base;
  give_back(cursor);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int fail(struct batch_cursor *cursor, int rc, const char *what) {
  sqlite3_free(cursor->base.pVtab->zErrMsg);
  cursor->base.pVtab->zErrMsg = sqlite3_mprintf("kmes_batch: row %lld: %s", cursor->row, what);
  cursor->done = true;
  return rc;
}

static int batch_next(sqlite3_vtab_cursor *base) {
  struct batch_cursor *cursor = (struct batch_cursor *)base;
  cursor->row++;
  if (cursor->next == cursor->end) {
    cursor->done = true;
    return SQLITE_OK;
  }
  const char *problem = segment_entry_read(&cursor->entry, cursor->next, cursor->end);
  if (problem != NULL) return fail(cursor, SQLITE_CORRUPT_VTAB, problem);
  cursor->next += cursor->entry.size;
  return SQLITE_OK;
}

static int batch_filter(sqlite3_vtab_cursor *base, int index, const char *name, int argc, sqlite3_value **argv) {
  (void)index, (void)name, (void)argc;
  struct batch_cursor *cursor = (struct batch_cursor *)base;
  give_back(cursor);
  cursor->row = 0;
  cursor->done = false;
  int64_t segment = sqlite3_value_int64(argv[0]);
  uint32_t rows;
  size_t length;
  if (!segment_borrow(segment, &cursor->next, &length, &rows)) {
    return fail(cursor, SQLITE_ERROR, "the argument names no taken segment");
  }
  cursor->segment = segment;
  cursor->end = cursor->next + length;
  return batch_next(base);
}

static int batch_eof(sqlite3_vtab_cursor *base) {
  return ((struct batch_cursor *)base)->done;
}

static int batch_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid) {
  *rowid = ((struct batch_cursor *)base)->row;
  return SQLITE_OK;
}

/* SQLite integers end at 2^63-1; a stamp beyond stays the largest instead of turning negative. */
static void result_u64(sqlite3_context *context, const uint8_t *at) {
  uint64_t value = read_u64(at);
  sqlite3_result_int64(context, value > INT64_MAX ? INT64_MAX : (sqlite3_int64)value);
}

static int gap_column(const struct segment_entry *entry, sqlite3_context *context, int column) {
  if (column == COLUMN_TIMESTAMP) {
    result_u64(context, entry->start + GAP_DETECTED_AT);
  } else if (column == COLUMN_EVENT_TYPE) {
    sqlite3_result_text(context, "synthetic.gap", -1, SQLITE_STATIC);
  } else if (column == COLUMN_PAYLOAD) {
    struct msgpack_writer writer = {0};
    segment_gap_payload(entry, &writer);
    if (writer.failed) {
      sqlite3_result_error_nomem(context);
      msgpack_writer_free(&writer);
    } else {
      sqlite3_result_blob64(context, writer.bytes, writer.length, free);
    }
  }
  return SQLITE_OK;
}

static int batch_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  struct batch_cursor *cursor = (struct batch_cursor *)base;
  const struct segment_entry *entry = &cursor->entry;
  if (column == COLUMN_SEGMENT) {
    sqlite3_result_int64(context, cursor->segment);
    return SQLITE_OK;
  }
  if (entry->gap) return gap_column(entry, context, column);
  const uint8_t *p = entry->start;
  switch (column) {
    case COLUMN_TIMESTAMP: result_u64(context, p + KMES_TIMESTAMP); break;
    case COLUMN_CPU_ID: sqlite3_result_int(context, read_u16(p + KMES_CPU_ID)); break;
    case COLUMN_SEQUENCE: result_u64(context, p + KMES_SEQUENCE); break;
    case COLUMN_ORIGIN_CLASS: sqlite3_result_int(context, p[KMES_ORIGIN]); break;
    case COLUMN_EVENT_TYPE:
      sqlite3_result_text(context, (const char *)entry->type, entry->type_length, SQLITE_STATIC);
      break;
    case COLUMN_EFFECTIVE_TOKEN_GUID:
      sqlite3_result_blob(context, p + KMES_EFFECTIVE_GUID, KMES_GUID_BYTES, SQLITE_STATIC);
      break;
    case COLUMN_TRUE_TOKEN_GUID:
      sqlite3_result_blob(context, p + KMES_TRUE_GUID, KMES_GUID_BYTES, SQLITE_STATIC);
      break;
    case COLUMN_PROCESS_GUID:
      sqlite3_result_blob(context, p + KMES_PROCESS_GUID, KMES_GUID_BYTES, SQLITE_STATIC);
      break;
    case COLUMN_PAYLOAD:
      if (entry->payload_length > 0) {
        sqlite3_result_blob64(context, entry->payload, entry->payload_length, SQLITE_STATIC);
      }
      break;
  }
  return SQLITE_OK;
}

/* No xCreate: the table exists only as a function. */
static const sqlite3_module module = {
    .xConnect = batch_table_connect,
    .xBestIndex = batch_table_best_index,
    .xDisconnect = batch_table_disconnect,
    .xOpen = batch_table_open,
    .xClose = batch_close,
    .xFilter = batch_filter,
    .xNext = batch_next,
    .xEof = batch_eof,
    .xColumn = batch_column,
    .xRowid = batch_rowid,
};

int sqlite_batch_register(sqlite3 *db) {
  return sqlite3_create_module_v2(db, kind.name, &module, (void *)&kind, NULL);
}

#include "metric_rows.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <math.h>
#include <stdlib.h>

/* What the numbers of a row take, with what SQLite adds. */
enum { ROW_BYTES = 48, UNIT_BYTES = 32 };

enum metric_result metric_rows_prepare(struct metric_rows *rows, struct metric_memory *memory) {
  size_t units = rows->by_series ? rows->catalog->member_count : rows->catalog->group_count;
  if (!metric_memory_take(memory, units)) return METRIC_WANTS_MEMORY;
  rows->known = calloc(units + 1, sizeof *rows->known);
  if (rows->known != NULL) return METRIC_OK;
  memory->used -= units;
  return METRIC_NO_MEMORY;
}

void metric_rows_free(struct metric_rows *rows) {
  sqlite3_finalize(rows->unit);
  sqlite3_finalize(rows->row);
  free(rows->known);
}

/* A source with the unit's name, and with its labels if it has any. */
static const struct metric_source *describe(const struct metric_rows *rows, uint32_t unit) {
  uint32_t member = rows->by_series ? unit : rows->catalog->groups[unit].first_member;
  return metric_member_source(rows->catalog, member);
}

static size_t cost(const struct metric_rows *rows, uint32_t unit, size_t histogram) {
  if (rows->known[unit]) return ROW_BYTES + histogram;
  const struct metric_source *source = describe(rows, unit);
  return ROW_BYTES + UNIT_BYTES + histogram + source->name_length + source->labels_length;
}

bool metric_rows_fits(struct metric_rows *rows, uint32_t unit, size_t more) {
  size_t needed = cost(rows, unit, more);
  if (needed <= rows->room) return true;
  rows->waiting = needed;
  return false;
}

static int run(sqlite3_stmt *statement) {
  int rc = sqlite3_step(statement);
  sqlite3_reset(statement);
  return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int add_unit(struct metric_rows *rows, uint32_t unit) {
  const struct metric_source *source = describe(rows, unit);
  const char *text = rows->catalog->text + source->text;
  int type = rows->by_series ? source->type : rows->catalog->groups[unit].type;
  sqlite3_bind_int64(rows->unit, 1, unit);
  sqlite3_bind_text(rows->unit, 2, text, (int)source->name_length, SQLITE_STATIC);
  sqlite3_bind_text(rows->unit, 3, text + source->name_length, rows->by_series ? (int)source->labels_length : 0,
                    SQLITE_STATIC);
  if (type < 0) {
    sqlite3_bind_null(rows->unit, 4);
  } else {
    sqlite3_bind_int(rows->unit, 4, type);
  }
  return run(rows->unit);
}

int metric_rows_add(struct metric_rows *rows, uint32_t unit, int64_t timestamp, double value, const void *histogram,
                    size_t length) {
  rows->room -= cost(rows, unit, length);
  if (!rows->known[unit]) {
    int rc = add_unit(rows, unit);
    if (rc != SQLITE_OK) return rc;
    rows->known[unit] = true;
  }
  sqlite3_bind_int64(rows->row, 1, timestamp);
  sqlite3_bind_int64(rows->row, 2, unit);
  sqlite3_bind_int64(rows->row, 3, (int64_t)rows->count++);
  if (isnan(value)) {
    sqlite3_bind_null(rows->row, 4);
  } else {
    sqlite3_bind_double(rows->row, 4, value);
  }
  if (histogram == NULL) {
    sqlite3_bind_null(rows->row, 5);
  } else {
    sqlite3_bind_blob64(rows->row, 5, histogram, length, SQLITE_STATIC);
  }
  return run(rows->row);
}

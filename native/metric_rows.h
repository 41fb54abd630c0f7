/*
 * Result rows of a METRIC computation, put into the query's scratch database: a table of what the
 * records are about (name, labels, type), and one of timestamps and values that refers to it.
 */
#ifndef EVENTD_METRIC_ROWS_H
#define EVENTD_METRIC_ROWS_H

#include "metric_catalog.h"
#include "sqlite3.h"

struct metric_rows {
  /* INSERT INTO ... (id, name, labels, type) and (timestamp, unit, n, value, histogram). */
  sqlite3_stmt *unit;
  sqlite3_stmt *row;
  const struct metric_catalog *catalog;
  /* A unit is a member, or else a group. */
  bool by_series;
  /* Units that have their row already. */
  bool *known;
  uint64_t count;
  /* Bytes that may still be added in this step, and, when that was too little, what the next row takes. */
  size_t room;
  size_t waiting;
};

/* Room for the units of a finished catalog. */
enum metric_result metric_rows_prepare(struct metric_rows *rows, struct metric_memory *memory);

/* Whether a row of this unit fits, with `more` bytes beside its numbers; if not, `waiting` says what it takes. */
bool metric_rows_fits(struct metric_rows *rows, uint32_t unit, size_t more);

/* Adds a row. `histogram` may be NULL; no number as value is NULL. SQLITE_OK or an error. */
int metric_rows_add(struct metric_rows *rows, uint32_t unit, int64_t timestamp, double value, const void *histogram,
                    size_t length);

void metric_rows_free(struct metric_rows *rows);

#endif

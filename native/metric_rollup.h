/*
 * Stored rollups in place of the samples they were made of (QX-50..52, ROL-24, ROL-29..34). Per series the
 * rows of a few window sizes that divide the window of the query, in the order of time; what they leave open
 * is read from samples.
 */
#ifndef EVENTD_METRIC_ROLLUP_H
#define EVENTD_METRIC_ROLLUP_H

#include "metric_catalog.h"
#include "metric_eval.h"
#include "sqlite3.h"

/* Window sizes of one series that a query combines. */
enum { ROLLUP_TRACKS = 3 };

/* A row that makes sense. */
struct rollup_row {
  int64_t start;
  double value;
  uint64_t count;
};

/* The rows of one window size. */
struct rollup_track {
  /* Length of the window, ns; 0 = there is no such track. */
  int64_t length;
  uint16_t at;
  uint16_t count;
  bool ended;
};

struct metric_rollups {
  const struct metric_options *options;
  uint32_t databases;
  /* Per database; NULL where there are no rollups. */
  sqlite3_stmt **sizes;
  sqlite3_stmt **rows;
  sqlite3_stmt **last;
  bool any;
  /* Rows read ahead per track. */
  uint16_t ahead;
  struct rollup_track *tracks;
  struct rollup_row *ahead_rows;
  /* Rows of the store that were looked at. */
  uint64_t looked;
  sqlite3_stmt *failed;
};

/* A row as the computation takes it. */
struct rollup_piece {
  struct rollup_row row;
  /* The last ns of its window. */
  int64_t end;
};

/* Room for the statements of so many databases. False: no memory. */
bool metric_rollups_init(struct metric_rollups *rollups, const struct metric_options *options);

/* Prepares the statements of a database if it has rollups at all. SQLITE_OK or an error. */
int metric_rollups_database(struct metric_rollups *rollups, uint32_t index, sqlite3 *db);

enum metric_result metric_rollups_prepare(struct metric_rollups *rollups, struct metric_memory *memory,
                                          uint32_t sources);

/* Finds the window sizes a source has. SQLITE_OK or an error. */
int metric_rollups_open(struct metric_rollups *rollups, uint32_t index, const struct metric_source *source);

/*
 * The first row of the source whose window begins behind `after` and lies in the range; of several the
 * longest. SQLITE_ROW, SQLITE_DONE or an error.
 */
int metric_rollups_peek(struct metric_rollups *rollups, uint32_t index, const struct metric_source *source,
                        int64_t after, struct rollup_piece *piece);

/* The newest sample of the source up to `until`: SQLITE_ROW, SQLITE_DONE if it has no number, or an error. */
int metric_rollups_last(struct metric_rollups *rollups, const struct metric_source *source, int64_t until,
                        int64_t *timestamp, double *value);

/* Lets go of all statements. */
void metric_rollups_end(struct metric_rollups *rollups);
void metric_rollups_free(struct metric_rollups *rollups);

#endif

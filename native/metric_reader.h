/*
 * The samples of many series in the order of time, read a little ahead per series: one statement per
 * database serves all its series in turn, and series that were written together are read together,
 * while the pages that hold them are in the cache.
 */
#ifndef EVENTD_METRIC_READER_H
#define EVENTD_METRIC_READER_H

#include "metric_catalog.h"
#include "metric_rollup.h"
#include "sqlite3.h"

struct series_sample {
  int64_t timestamp;
  int64_t rowid;
  double value;
};

/* What a stored rollup has beside its window's start and value. */
struct series_piece {
  uint64_t count;
  /* Newest sample of its window, where that is asked for; else the start of the window. */
  int64_t last;
  double last_value;
};

/* Where the reading of a source stands. */
struct metric_place {
  /* The last row that was read; before the first, one that cannot be. */
  int64_t timestamp;
  int64_t rowid;
  /* Rollups that begin up to here are not used. */
  int64_t raw_until;
  uint16_t at;
  uint16_t count;
  bool ended;
  /* What is read ahead are rollups, not samples. */
  bool pieces;
  /* There was a sample. */
  bool any;
};

struct metric_reader {
  const struct metric_catalog *catalog;
  /* Empty unless the query may use them. */
  struct metric_rollups *rollups;
  struct series_piece *pieces;
  /* Per database, see metric_eval_database. */
  sqlite3_stmt **samples_after;
  sqlite3_stmt **samples_at;
  /* Not 0: the value is this quantile of the histogram, and samples without one are left out (QL-95). */
  double quantile;
  int64_t from;
  int64_t to;
  uint16_t ahead;
  struct series_sample *samples;
  struct metric_place *places;
  /* Binary heap of sources by their next sample. */
  uint32_t *heap;
  uint32_t heap_count;
  /* Sources that are in the heap, or without a sample. */
  uint32_t opened;
  /* Rows stepped over since the start. */
  uint64_t rows;
  /* The statement that failed. */
  sqlite3_stmt *failed;
};

/* Room for all sources of a finished catalog. */
enum metric_result metric_reader_prepare(struct metric_reader *reader, struct metric_memory *memory);

/* Reads the first samples of the next source. SQLITE_OK, SQLITE_DONE when all are open, or an error. */
int metric_reader_open(struct metric_reader *reader);

/* The source of the next sample in the order of time, then member, database, rowid. Only while `heap_count` > 0. */
static inline uint32_t metric_reader_source(const struct metric_reader *reader) { return reader->heap[0]; }

/* The next sample of that source. */
static inline const struct series_sample *metric_reader_sample(const struct metric_reader *reader, uint32_t source) {
  return &reader->samples[(size_t)source * reader->ahead + reader->places[source].at];
}

/* The rollup that the next sample stands for; NULL: it is a sample. */
static inline const struct series_piece *metric_reader_piece(const struct metric_reader *reader, uint32_t source) {
  const struct metric_place *place = &reader->places[source];
  return place->pieces ? &reader->pieces[(size_t)source * reader->rollups->ahead + place->at] : NULL;
}

/* Samples of that source that are there already, the next one included. */
static inline uint32_t metric_reader_left(const struct metric_reader *reader, uint32_t source) {
  return (uint32_t)(reader->places[source].count - reader->places[source].at);
}

/* Steps over `samples` of the first source, which are there already. SQLITE_OK or an error. */
int metric_reader_advance(struct metric_reader *reader, uint32_t samples);

/* Reads a sample of the current row; false when it has no value. */
bool metric_reader_value(sqlite3_stmt *row, double quantile, double *value);

void metric_reader_free(struct metric_reader *reader);

#endif

/* The newest samples of a logical series, whichever of its parts hold them (QL-91, QL-94, QL-101). */
#ifndef EVENTD_METRIC_LATEST_H
#define EVENTD_METRIC_LATEST_H

#include "metric_eval.h"
#include "metric_reader.h"

/* RATE and DELTA look at two. */
enum { LATEST_MAX = 2 };

struct latest_sample {
  int64_t timestamp;
  int64_t rowid;
  uint32_t database;
  /* It fulfils WHERE, which is asked only once the newest are chosen. */
  bool kept;
  bool has_value;
  double value;
};

struct metric_latest {
  const struct metric_options *options;
  const struct metric_catalog *catalog;
  sqlite3_stmt **statements;
  /* The newest first. */
  struct latest_sample samples[LATEST_MAX];
  uint32_t count;
  /* Stored histogram of the newest sample, if that is what is asked for. */
  void *histogram;
  size_t histogram_length;
  size_t histogram_room;
  bool has_histogram;
  uint64_t rows;
  /* The statement that failed. */
  sqlite3_stmt *failed;
};

/* Finds the newest samples of a member. SQLITE_OK or an error. */
int metric_latest_find(struct metric_latest *latest, uint32_t member);

/* What the options make of them; false: nothing. A histogram that is asked for is in `histogram`, its value NaN. */
bool metric_latest_value(const struct metric_latest *latest, int64_t *timestamp, double *value);

void metric_latest_free(struct metric_latest *latest);

#endif

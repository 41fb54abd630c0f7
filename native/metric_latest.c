#include "metric_latest.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMN_ROWID, COLUMN_TIMESTAMP, COLUMN_VALUE, COLUMN_HISTOGRAM, COLUMN_KEPT };

static bool is_delta(const struct metric_options *options) {
  return options->function == METRIC_RATE || options->function == METRIC_DELTA;
}

static bool newer(const struct latest_sample *a, const struct latest_sample *b) {
  if (a->timestamp != b->timestamp) return a->timestamp > b->timestamp;
  if (a->database != b->database) return a->database > b->database;
  return a->rowid > b->rowid;
}

static int keep_histogram(struct metric_latest *latest, sqlite3_stmt *row) {
  size_t length = (size_t)sqlite3_column_bytes(row, COLUMN_HISTOGRAM);
  const void *bytes = sqlite3_column_blob(row, COLUMN_HISTOGRAM);
  latest->has_histogram = bytes != NULL;
  latest->histogram_length = length;
  if (bytes == NULL) return SQLITE_OK;
  if (length > latest->histogram_room) {
    void *more = realloc(latest->histogram, length);
    if (more == NULL) return SQLITE_NOMEM;
    latest->histogram = more;
    latest->histogram_room = length;
  }
  memcpy(latest->histogram, bytes, length);
  return SQLITE_OK;
}

/* Puts a row among the newest, if it is one of them. */
static int consider(struct metric_latest *latest, const struct metric_source *source, sqlite3_stmt *row) {
  const struct metric_options *options = latest->options;
  struct latest_sample sample = {
      .timestamp = sqlite3_column_int64(row, COLUMN_TIMESTAMP),
      .rowid = sqlite3_column_int64(row, COLUMN_ROWID),
      .database = source->database,
      .kept = sqlite3_column_int(row, COLUMN_KEPT) != 0,
  };
  uint32_t wanted = is_delta(options) ? 2 : 1;
  uint32_t at = latest->count;
  while (at > 0 && newer(&sample, &latest->samples[at - 1])) at--;
  if (at == wanted) return SQLITE_OK;
  bool stored = options->function == METRIC_SAMPLE && source->type == 2;
  if (!stored) {
    double quantile = options->function == METRIC_QUANTILE ? options->quantile : 0;
    sample.has_value = metric_reader_value(row, quantile, &sample.value);
  }
  if (latest->count < wanted) latest->count++;
  for (uint32_t i = latest->count - 1; i > at; i--) latest->samples[i] = latest->samples[i - 1];
  latest->samples[at] = sample;
  return at == 0 && stored ? keep_histogram(latest, row) : SQLITE_OK;
}

int metric_latest_find(struct metric_latest *latest, uint32_t member) {
  const struct metric_member *series = &latest->catalog->members[member];
  latest->count = 0;
  latest->has_histogram = false;
  for (uint32_t i = 0; i < series->sources; i++) {
    const struct metric_source *source = &latest->catalog->sources[series->first_source + i];
    sqlite3_stmt *statement = latest->statements[source->database];
    int first = sqlite3_bind_parameter_count(statement) - 2;
    sqlite3_bind_int64(statement, first, source->series_id);
    sqlite3_bind_int64(statement, first + 1, latest->options->to);
    sqlite3_bind_int(statement, first + 2, is_delta(latest->options) ? 2 : 1);
    int rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
      latest->rows++;
      int added = consider(latest, source, statement);
      if (added == SQLITE_OK) continue;
      rc = added;
      break;
    }
    if (rc != SQLITE_DONE) {
      latest->failed = statement;
      return rc;
    }
    sqlite3_reset(statement);
  }
  return SQLITE_OK;
}

bool metric_latest_value(const struct metric_latest *latest, int64_t *timestamp, double *value) {
  const struct latest_sample *newest = &latest->samples[0];
  const struct latest_sample *previous = &latest->samples[1];
  if (latest->count == 0 || !newest->kept) return false;
  *timestamp = newest->timestamp;
  if (latest->has_histogram) {
    *value = NAN;
    return true;
  }
  if (!newest->has_value) return false;
  *value = newest->value;
  if (!is_delta(latest->options)) return true;
  if (latest->count < 2 || !previous->kept || !previous->has_value) return false;
  *value = metric_delta(previous->value, newest->value);
  if (latest->options->function == METRIC_DELTA) return true;
  uint64_t elapsed = (uint64_t)newest->timestamp - (uint64_t)previous->timestamp;
  *value /= metric_seconds(elapsed);
  return elapsed > 0;
}

void metric_latest_free(struct metric_latest *latest) {
  free(latest->histogram);
}

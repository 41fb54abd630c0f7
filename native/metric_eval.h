/*
 * METRIC: what becomes of series and samples before the result is sorted, paged and shaped (QX-3 steps
 * 2 to 9, QL-85..109). One pass over the samples in the order of time; memory grows with the number of
 * series, never with that of samples. The work is done in steps, so that its thread can do others'.
 */
#ifndef EVENTD_METRIC_EVAL_H
#define EVENTD_METRIC_EVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metric_partial.h"
#include "sqlite3.h"

/* What a sample gives: its value, what it rose by, per second or not, or a percentile (QL-93, QL-95). */
enum metric_function { METRIC_SAMPLE, METRIC_RATE, METRIC_DELTA, METRIC_QUANTILE };

/* Ids of ROL-2; which stored rollups hold what the query asks for. */
enum metric_rollup {
  ROLLUP_NONE = -1,
  ROLLUP_AVG,
  ROLLUP_MIN,
  ROLLUP_MAX,
  ROLLUP_SUM,
  ROLLUP_RATE,
  ROLLUP_DELTA,
};

enum metric_shape {
  /* Of the newest samples: one value per series, or these combined (QL-91, QL-94). */
  METRIC_LATEST,
  /* Every value of each series, or the series combined at each timestamp (QL-97). */
  METRIC_EACH,
  /* All values of the range in one (QL-96). */
  METRIC_TOTAL,
  /* The outcome of METRIC_EACH, in one value per window (QL-98, QL-108). */
  METRIC_WINDOWS,
  /* RATE or DELTA with AVG_OVER: per series and window, then the series combined (QL-106, ROL-28). */
  METRIC_DELTA_WINDOWS,
};

struct metric_options {
  enum metric_function function;
  /* 0 < quantile < 1, for METRIC_QUANTILE. */
  double quantile;
  enum metric_shape shape;
  /* Each series by itself, or one result per name (QL-86, QL-87). */
  bool by_series;
  /* How series are combined, or the values of METRIC_TOTAL. */
  enum metric_fold combine;
  enum metric_fold window;
  /* Not ROLLUP_NONE: rows of `rollups` may stand for their samples; only for shapes that add partials up. */
  enum metric_rollup rollup;
  /* Length of windows in ns, at least 1. */
  int64_t window_ns;
  /* Types of series this may be applied to: bits 1 << type (QL-92, QL-102). */
  unsigned types;
  /* Time range, both ends included; METRIC_LATEST has no `from`. */
  int64_t from;
  int64_t to;
  uint32_t databases;
};

struct metric_eval;

/* NULL: no memory. */
struct metric_eval *metric_eval_new(const struct metric_options *options);
void metric_eval_free(struct metric_eval *eval);

/* Lets go of all statements; nothing but metric_eval_free may follow. */
void metric_eval_end(struct metric_eval *eval);

/*
 * Adds a database with its statements, which it owns from now on.
 *   series   SELECT id, name, labels, type
 *   samples  SELECT rowid, timestamp, value, histogram_data of one series, by timestamp, rowid. Its last three
 *            parameters are bound here: series id, a timestamp before the first, the last timestamp.
 *   same     The same, for the rest of the samples at one timestamp: series id, timestamp, a rowid before
 *            the first.
 * For METRIC_LATEST there is no `same`, and `samples` has a fifth column that tells whether the sample fulfils
 * WHERE; it goes by timestamp, rowid, descending, and takes series id, last timestamp, count.
 * SQLITE_OK or an error, in metric_eval_message.
 */
int metric_eval_database(struct metric_eval *eval, sqlite3_stmt *series, sqlite3_stmt *samples, sqlite3_stmt *same);

/* Where the rows go: INSERT statements as in metric_rows.h, owned from now on. */
void metric_eval_target(struct metric_eval *eval, sqlite3_stmt *unit, sqlite3_stmt *row);

enum metric_state { METRIC_MORE, METRIC_DONE, METRIC_REJECTED };

struct metric_progress {
  enum metric_state state;
  /* Rows of the store that were looked at since the start. */
  uint64_t samples;
  /* Bytes that must be allowed before the next step gets on; 0 = what there was will do. */
  size_t waiting_room;
  size_t waiting_memory;
  /* METRIC_REJECTED: the series to which the function does not apply. Valid until the next call. */
  const char *name;
  size_t name_length;
  int type;
};

/*
 * Works on until about `samples` rows were read, `room` bytes of result rows added, or more memory than
 * `memory` bytes in all is needed. SQLITE_OK or an error, after which nothing but freeing is left.
 */
int metric_eval_step(struct metric_eval *eval, uint64_t samples, size_t room, size_t memory,
                     struct metric_progress *step);

const char *metric_eval_message(const struct metric_eval *eval);

#endif

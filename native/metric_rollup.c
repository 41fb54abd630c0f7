#include "metric_rollup.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <math.h>
#include <stdlib.h>

#define SECOND_NS INT64_C(1000000000)

/* Window sizes of a series that are looked at, the longest first, before the rest is left alone. */
enum { SIZES_MAX = 16 };
enum { AHEAD_ALL = 8192, AHEAD_MAX = 64, AHEAD_MIN = 4 };

static const char SIZES[] =
    "SELECT window_seconds FROM rollups WHERE series_id = ? AND function = ? AND window_seconds < ?"
    " ORDER BY window_seconds DESC LIMIT 1";
static const char ROWS[] =
    "SELECT window_start, value, sample_count FROM rollups WHERE series_id = ? AND function = ?"
    " AND window_seconds = ? AND window_start > ? AND window_start <= ? ORDER BY window_start";
static const char LAST[] =
    "SELECT timestamp, value FROM samples WHERE series_id = ? AND timestamp <= ?"
    " ORDER BY timestamp DESC, rowid DESC LIMIT 1";

bool metric_rollups_init(struct metric_rollups *rollups, const struct metric_options *options) {
  rollups->options = options;
  rollups->databases = options->databases;
  rollups->sizes = calloc((size_t)options->databases + 1, sizeof *rollups->sizes);
  rollups->rows = calloc((size_t)options->databases + 1, sizeof *rollups->rows);
  rollups->last = calloc((size_t)options->databases + 1, sizeof *rollups->last);
  return rollups->sizes != NULL && rollups->rows != NULL && rollups->last != NULL;
}

int metric_rollups_database(struct metric_rollups *rollups, uint32_t index, sqlite3 *db) {
  if (rollups->options->rollup == ROLLUP_NONE) return SQLITE_OK;
  sqlite3_stmt *probe = NULL;
  /* A file that eventd did not make may lack the table; then there is nothing to use. */
  if (sqlite3_prepare_v2(db, "SELECT 1 FROM rollups LIMIT 1", -1, &probe, NULL) != SQLITE_OK) return SQLITE_OK;
  int found = sqlite3_step(probe);
  int rc = sqlite3_finalize(probe);
  if (found != SQLITE_ROW) return rc;
  rc = sqlite3_prepare_v2(db, SIZES, -1, &rollups->sizes[index], NULL);
  if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(db, ROWS, -1, &rollups->rows[index], NULL);
  if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(db, LAST, -1, &rollups->last[index], NULL);
  rollups->any = rc == SQLITE_OK;
  return rc;
}

enum metric_result metric_rollups_prepare(struct metric_rollups *rollups, struct metric_memory *memory,
                                          uint32_t sources) {
  if (!rollups->any || rollups->tracks != NULL) return METRIC_OK;
  uint32_t ahead = AHEAD_ALL / (sources == 0 ? 1 : sources);
  rollups->ahead = (uint16_t)(ahead > AHEAD_MAX ? AHEAD_MAX : ahead < AHEAD_MIN ? AHEAD_MIN : ahead);
  size_t tracks = (size_t)sources * ROLLUP_TRACKS;
  size_t each = sizeof *rollups->tracks + rollups->ahead * sizeof *rollups->ahead_rows;
  size_t before = memory->used;
  if (!metric_memory_take(memory, tracks * each)) return METRIC_WANTS_MEMORY;
  rollups->tracks = calloc(tracks + 1, sizeof *rollups->tracks);
  rollups->ahead_rows = malloc((tracks + 1) * rollups->ahead * sizeof *rollups->ahead_rows);
  if (rollups->tracks != NULL && rollups->ahead_rows != NULL) return METRIC_OK;
  memory->used = before;
  return METRIC_NO_MEMORY;
}

/* Whether windows of this length, ns, tile what is computed (ROL-24). */
static bool tiles(const struct metric_options *options, int64_t length) {
  return options->shape == METRIC_TOTAL || options->window_ns % length == 0;
}

int metric_rollups_open(struct metric_rollups *rollups, uint32_t index, const struct metric_source *source) {
  sqlite3_stmt *statement = rollups->sizes[source->database];
  if (statement == NULL) return SQLITE_OK;
  struct rollup_track *tracks = &rollups->tracks[(size_t)index * ROLLUP_TRACKS];
  int64_t longest = INT64_MAX / SECOND_NS;
  if (rollups->options->shape != METRIC_TOTAL) longest = rollups->options->window_ns / SECOND_NS;
  int64_t below = longest + 1;
  uint32_t found = 0;
  for (int looked = 0; looked < SIZES_MAX && found < ROLLUP_TRACKS; looked++) {
    sqlite3_bind_int64(statement, 1, source->series_id);
    sqlite3_bind_int(statement, 2, (int)rollups->options->rollup);
    sqlite3_bind_int64(statement, 3, below);
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) below = sqlite3_column_int64(statement, 0);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
      sqlite3_reset(statement);
    } else {
      rollups->failed = statement;
      return rc;
    }
    if (rc == SQLITE_DONE || below <= 0) break;
    if (tiles(rollups->options, below * SECOND_NS)) tracks[found++].length = below * SECOND_NS;
  }
  return SQLITE_OK;
}

/* What a row that eventd has written is never like; it is as if it were not there (ROL-32). */
static bool makes_sense(const struct metric_rollups *rollups, sqlite3_stmt *statement, int64_t length,
                        struct rollup_row *row) {
  int type = sqlite3_column_type(statement, 1);
  if (sqlite3_column_type(statement, 0) != SQLITE_INTEGER || sqlite3_column_type(statement, 2) != SQLITE_INTEGER ||
      (type != SQLITE_FLOAT && type != SQLITE_INTEGER)) {
    return false;
  }
  int64_t count = sqlite3_column_int64(statement, 2);
  *row = (struct rollup_row){
      .start = sqlite3_column_int64(statement, 0),
      .value = sqlite3_column_double(statement, 1),
      .count = (uint64_t)count,
  };
  if (row->start % length != 0 || count <= 0 || !isfinite(row->value)) return false;
  bool deltas = rollups->options->rollup == ROLLUP_RATE || rollups->options->rollup == ROLLUP_DELTA;
  return deltas ? row->value >= 0 : isfinite(row->value * (double)count);
}

static int read_ahead(struct metric_rollups *rollups, const struct metric_source *source, struct rollup_track *track,
                      struct rollup_row *rows, int64_t after) {
  const struct metric_options *options = rollups->options;
  track->at = track->count = 0;
  /* The window must end within the range; it cannot where that is shorter. */
  track->ended = options->to < options->from || options->to - options->from < track->length - 1;
  if (track->ended) return SQLITE_OK;
  sqlite3_stmt *statement = rollups->rows[source->database];
  sqlite3_bind_int64(statement, 1, source->series_id);
  sqlite3_bind_int(statement, 2, (int)options->rollup);
  sqlite3_bind_int64(statement, 3, track->length / SECOND_NS);
  sqlite3_bind_int64(statement, 4, after);
  sqlite3_bind_int64(statement, 5, options->to - (track->length - 1));
  int rc = SQLITE_ROW;
  while (track->count < rollups->ahead && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
    rollups->looked++;
    if (makes_sense(rollups, statement, track->length, &rows[track->count])) track->count++;
  }
  if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
    rollups->failed = statement;
    return rc;
  }
  sqlite3_reset(statement);
  track->ended = rc == SQLITE_DONE;
  return SQLITE_OK;
}

int metric_rollups_peek(struct metric_rollups *rollups, uint32_t index, const struct metric_source *source,
                        int64_t after, struct rollup_piece *piece) {
  if (rollups->tracks == NULL) return SQLITE_DONE;
  bool found = false;
  for (uint32_t i = 0; i < ROLLUP_TRACKS; i++) {
    size_t at = (size_t)index * ROLLUP_TRACKS + i;
    struct rollup_track *track = &rollups->tracks[at];
    struct rollup_row *rows = &rollups->ahead_rows[at * rollups->ahead];
    if (track->length == 0) break;
    while (track->at < track->count && rows[track->at].start <= after) track->at++;
    if (track->at == track->count && !track->ended) {
      int rc = read_ahead(rollups, source, track, rows, after);
      if (rc != SQLITE_OK) return rc;
    }
    if (track->at == track->count || (found && rows[track->at].start >= piece->row.start)) continue;
    piece->row = rows[track->at];
    piece->end = piece->row.start + (track->length - 1);
    found = true;
    /* Shorter ones cannot begin earlier. */
    if (after < INT64_MAX && piece->row.start == after + 1) break;
  }
  return found ? SQLITE_ROW : SQLITE_DONE;
}

int metric_rollups_last(struct metric_rollups *rollups, const struct metric_source *source, int64_t until,
                        int64_t *timestamp, double *value) {
  sqlite3_stmt *statement = rollups->last[source->database];
  sqlite3_bind_int64(statement, 1, source->series_id);
  sqlite3_bind_int64(statement, 2, until);
  int rc = sqlite3_step(statement);
  if (rc == SQLITE_ROW) {
    rollups->looked++;
    *timestamp = sqlite3_column_int64(statement, 0);
    *value = sqlite3_column_double(statement, 1);
    int type = sqlite3_column_type(statement, 1);
    if (type != SQLITE_FLOAT && type != SQLITE_INTEGER) rc = SQLITE_DONE;
  }
  if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
    sqlite3_reset(statement);
  } else {
    rollups->failed = statement;
  }
  return rc;
}

void metric_rollups_end(struct metric_rollups *rollups) {
  for (uint32_t i = 0; rollups->last != NULL && i < rollups->databases; i++) {
    sqlite3_finalize(rollups->sizes[i]);
    sqlite3_finalize(rollups->rows[i]);
    sqlite3_finalize(rollups->last[i]);
    rollups->sizes[i] = rollups->rows[i] = rollups->last[i] = NULL;
  }
}

void metric_rollups_free(struct metric_rollups *rollups) {
  metric_rollups_end(rollups);
  free(rollups->sizes);
  free(rollups->rows);
  free(rollups->last);
  free(rollups->tracks);
  free(rollups->ahead_rows);
}

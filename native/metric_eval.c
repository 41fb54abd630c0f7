#include "metric_eval.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdio.h>
#include <stdlib.h>

#include "metric_latest.h"
#include "metric_shape.h"

enum { TYPES = 3 };

/* What a second row of the same unit takes at most. */
enum { SECOND_ROW = 64 };

enum phase {
  /* Collects the series of all databases. */
  PHASE_SERIES,
  PHASE_TYPES,
  PHASE_MEMORY,
  /* Looks up the newest samples, member by member. */
  PHASE_LATEST,
  /* Reads the first samples of each source, */
  PHASE_OPEN,
  /* then all in the order of time, */
  PHASE_MERGE,
  /* then ends what is open, unit by unit. */
  PHASE_FLUSH,
  PHASE_DONE,
};

struct metric_eval {
  struct metric_options options;
  enum phase phase;
  /* Database, member or unit that is next. */
  uint32_t next;
  uint32_t count;
  sqlite3_stmt **series;
  sqlite3_stmt **samples;
  sqlite3_stmt **same;
  /* Statements with a row: while they are open, all others see the same snapshot, and no interrupt is forgotten. */
  sqlite3_stmt **anchors;
  struct metric_catalog catalog;
  struct metric_memory memory;
  struct metric_rows rows;
  struct metric_reader reader;
  struct metric_rollups rollups;
  struct metric_shaper shaper;
  struct metric_latest latest;
  /* Of the latest values of a name, until the last of its series is reached. */
  struct metric_partial together;
  /* The series' current row is still to be added; or the member's latest values are known already. */
  bool pending;
  int error;
  char message[256];
};

struct metric_eval *metric_eval_new(const struct metric_options *options) {
  struct metric_eval *eval = calloc(1, sizeof *eval);
  if (eval == NULL) return NULL;
  eval->options = *options;
  eval->series = calloc((size_t)options->databases + 1, sizeof *eval->series);
  eval->samples = calloc((size_t)options->databases + 1, sizeof *eval->samples);
  eval->same = calloc((size_t)options->databases + 1, sizeof *eval->same);
  eval->anchors = calloc((size_t)options->databases + 1, sizeof *eval->anchors);
  bool rollups = metric_rollups_init(&eval->rollups, &eval->options);
  if (eval->series == NULL || eval->samples == NULL || eval->same == NULL || eval->anchors == NULL || !rollups) {
    metric_eval_free(eval);
    return NULL;
  }
  eval->rows = (struct metric_rows){.catalog = &eval->catalog, .by_series = options->by_series};
  eval->reader = (struct metric_reader){
      .catalog = &eval->catalog,
      .rollups = &eval->rollups,
      .samples_after = eval->samples,
      .samples_at = eval->same,
      .quantile = options->function == METRIC_QUANTILE ? options->quantile : 0,
      .from = options->from,
      .to = options->to,
  };
  eval->shaper =
      (struct metric_shaper){.options = &eval->options, .catalog = &eval->catalog, .rows = &eval->rows};
  eval->latest =
      (struct metric_latest){.options = &eval->options, .catalog = &eval->catalog, .statements = eval->samples};
  return eval;
}

static void finalize_all(struct metric_eval *eval) {
  for (uint32_t i = 0; i < eval->count; i++) {
    sqlite3_finalize(eval->series[i]);
    sqlite3_finalize(eval->samples[i]);
    sqlite3_finalize(eval->same[i]);
    sqlite3_finalize(eval->anchors[i]);
  }
  eval->count = 0;
  metric_rollups_end(&eval->rollups);
  sqlite3_finalize(eval->rows.unit);
  sqlite3_finalize(eval->rows.row);
  eval->rows.unit = eval->rows.row = NULL;
}

void metric_eval_end(struct metric_eval *eval) {
  finalize_all(eval);
  if (eval->error == SQLITE_OK) eval->error = SQLITE_MISUSE;
}

void metric_eval_free(struct metric_eval *eval) {
  if (eval == NULL) return;
  finalize_all(eval);
  metric_rows_free(&eval->rows);
  metric_reader_free(&eval->reader);
  metric_rollups_free(&eval->rollups);
  metric_shaper_free(&eval->shaper);
  metric_latest_free(&eval->latest);
  metric_catalog_free(&eval->catalog);
  free(eval->series);
  free(eval->samples);
  free(eval->same);
  free(eval->anchors);
  free(eval);
}

const char *metric_eval_message(const struct metric_eval *eval) {
  return eval->message;
}

/* Keeps the error; the statements go, so that no read transaction outlives it. */
static int fail(struct metric_eval *eval, int rc, const char *message) {
  snprintf(eval->message, sizeof eval->message, "%s", message);
  eval->error = rc;
  finalize_all(eval);
  return rc;
}

static int fail_in(struct metric_eval *eval, int rc, sqlite3_stmt *statement) {
  return fail(eval, rc, rc == SQLITE_NOMEM ? "out of memory" : sqlite3_errmsg(sqlite3_db_handle(statement)));
}

int metric_eval_database(struct metric_eval *eval, sqlite3_stmt *series, sqlite3_stmt *samples, sqlite3_stmt *same) {
  if (eval->count == eval->options.databases) {
    sqlite3_finalize(series);
    sqlite3_finalize(samples);
    sqlite3_finalize(same);
    return fail(eval, SQLITE_MISUSE, "more databases than announced");
  }
  uint32_t index = eval->count++;
  eval->series[index] = series;
  eval->samples[index] = samples;
  eval->same[index] = same;
  bool lacks = eval->options.shape != METRIC_LATEST && (same == NULL || sqlite3_bind_parameter_count(same) < 3);
  if (lacks || sqlite3_bind_parameter_count(samples) < 3) {
    return fail(eval, SQLITE_MISUSE, "a statement over samples lacks its parameters");
  }
  sqlite3 *db = sqlite3_db_handle(series);
  int rc = sqlite3_prepare_v2(db, "SELECT 1 FROM series", -1, &eval->anchors[index], NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(eval->anchors[index]);
  if (rc == SQLITE_ROW || rc == SQLITE_DONE) rc = metric_rollups_database(&eval->rollups, index, db);
  return rc == SQLITE_OK ? SQLITE_OK : fail(eval, rc, sqlite3_errmsg(db));
}

void metric_eval_target(struct metric_eval *eval, sqlite3_stmt *unit, sqlite3_stmt *row) {
  eval->rows.unit = unit;
  eval->rows.row = row;
}

/* --- phases: each works until it is over, or the step has to end ------------------------------------- */

/* Why a phase stopped. */
enum progress { NEXT_PHASE, STEP_ENDS, FAILED };

static enum progress sqlite_failed(struct metric_eval *eval, int rc, sqlite3_stmt *statement) {
  fail_in(eval, rc, statement);
  return FAILED;
}

static enum progress memory_result(struct metric_eval *eval, enum metric_result result) {
  if (result == METRIC_WANTS_MEMORY) return STEP_ENDS;
  fail(eval, SQLITE_NOMEM, "out of memory");
  return FAILED;
}

static enum metric_result add_series(struct metric_eval *eval, sqlite3_stmt *row) {
  int64_t type = sqlite3_column_int64(row, 3);
  if (type < 0 || type >= TYPES) return METRIC_OK;
  const unsigned char *name = sqlite3_column_text(row, 1);
  struct metric_source source = {
      .series_id = sqlite3_column_int64(row, 0),
      .name_length = (uint32_t)sqlite3_column_bytes(row, 1),
      .database = eval->next,
      .type = (int)type,
  };
  const unsigned char *labels = sqlite3_column_text(row, 2);
  source.labels_length = (uint32_t)sqlite3_column_bytes(row, 2);
  return metric_catalog_add(&eval->catalog, &eval->memory, &source, (const char *)name, (const char *)labels);
}

static enum progress collect_series(struct metric_eval *eval, uint64_t samples) {
  uint64_t looked = 0;
  for (; eval->next < eval->count; eval->next++) {
    sqlite3_stmt *statement = eval->series[eval->next];
    int rc = SQLITE_ROW;
    while (eval->pending || (rc = sqlite3_step(statement)) == SQLITE_ROW) {
      if (!eval->pending && looked++ == samples) {
        eval->pending = true;
        return STEP_ENDS;
      }
      enum metric_result result = add_series(eval, statement);
      eval->pending = result == METRIC_WANTS_MEMORY;
      if (result != METRIC_OK) return memory_result(eval, result);
    }
    if (rc != SQLITE_DONE) return sqlite_failed(eval, rc, statement);
    sqlite3_reset(statement);
  }
  enum metric_result result = metric_catalog_finish(&eval->catalog, &eval->memory);
  return result == METRIC_OK ? NEXT_PHASE : memory_result(eval, result);
}

/* QL-105: one series of a wrong type is enough. */
static const struct metric_source *find_offender(const struct metric_eval *eval) {
  for (uint32_t i = 0; i < eval->catalog.member_count; i++) {
    const struct metric_source *source = metric_member_source(&eval->catalog, i);
    if ((eval->options.types >> source->type & 1) == 0) return source;
  }
  return NULL;
}

static enum progress take_memory(struct metric_eval *eval) {
  enum metric_result result = METRIC_OK;
  if (eval->rows.known == NULL) result = metric_rows_prepare(&eval->rows, &eval->memory);
  if (eval->options.shape != METRIC_LATEST) {
    if (result == METRIC_OK) {
      result = metric_rollups_prepare(&eval->rollups, &eval->memory, eval->catalog.source_count);
    }
    if (result == METRIC_OK && eval->reader.samples == NULL) {
      result = metric_reader_prepare(&eval->reader, &eval->memory);
    }
    if (result == METRIC_OK && eval->shaper.members == NULL) {
      result = metric_shaper_prepare(&eval->shaper, &eval->memory);
    }
  }
  return result == METRIC_OK ? NEXT_PHASE : memory_result(eval, result);
}

/* Adds what the found samples of a member give, alone or as the last of its name. */
static int add_latest(struct metric_eval *eval, uint32_t member, bool *added) {
  int64_t timestamp = 0;
  double value = 0;
  bool any = metric_latest_value(&eval->latest, &timestamp, &value);
  if (eval->options.by_series) {
    size_t length = eval->latest.has_histogram ? eval->latest.histogram_length : 0;
    *added = !any || metric_rows_fits(&eval->rows, member, length);
    if (!any || !*added) return SQLITE_OK;
    const void *histogram = eval->latest.has_histogram ? eval->latest.histogram : NULL;
    return metric_rows_add(&eval->rows, member, timestamp, value, histogram, length);
  }
  uint32_t index = eval->catalog.members[member].group;
  const struct metric_group *group = &eval->catalog.groups[index];
  bool last = member + 1 == group->first_member + group->members;
  *added = !last || metric_rows_fits(&eval->rows, index, 0);
  if (!*added) return SQLITE_OK;
  if (any) metric_partial_add(&eval->together, value, timestamp);
  if (!last) return SQLITE_OK;
  struct metric_partial together = eval->together;
  eval->together = (struct metric_partial){0};
  if (together.count == 0) return SQLITE_OK;
  double combined = metric_partial_value(&together, eval->options.combine);
  return metric_rows_add(&eval->rows, index, together.newest, combined, NULL, 0);
}

static enum progress find_latest(struct metric_eval *eval, uint64_t samples) {
  for (uint64_t looked = 0; eval->next < eval->catalog.member_count; eval->next++) {
    if (looked >= samples) return STEP_ENDS;
    if (!eval->pending) {
      int rc = metric_latest_find(&eval->latest, eval->next);
      if (rc != SQLITE_OK) return sqlite_failed(eval, rc, eval->latest.failed);
      looked += eval->catalog.members[eval->next].sources;
    }
    bool added;
    int rc = add_latest(eval, eval->next, &added);
    if (rc != SQLITE_OK) return sqlite_failed(eval, rc, eval->rows.row);
    eval->pending = !added;
    if (!added) return STEP_ENDS;
  }
  return NEXT_PHASE;
}

static enum progress open_sources(struct metric_eval *eval, uint64_t samples) {
  for (uint64_t end = eval->reader.rows + samples, looked = 0; eval->reader.rows < end && looked < samples; looked++) {
    int rc = metric_reader_open(&eval->reader);
    if (rc == SQLITE_DONE) return NEXT_PHASE;
    if (rc != SQLITE_OK) return sqlite_failed(eval, rc, eval->reader.failed);
  }
  return STEP_ENDS;
}

static enum progress merge(struct metric_eval *eval, uint64_t samples) {
  struct metric_reader *reader = &eval->reader;
  bool blocks = metric_shaper_takes_blocks(&eval->options);
  uint64_t done = 0;
  while (reader->heap_count > 0) {
    if (done >= samples) return STEP_ENDS;
    uint32_t source = metric_reader_source(reader);
    uint32_t member = eval->catalog.sources[source].member;
    uint32_t unit = eval->options.by_series ? member : eval->catalog.members[member].group;
    /* The parts of one logical series take turns. */
    bool block = blocks && eval->catalog.members[member].sources == 1;
    uint32_t count = block ? metric_reader_left(reader, source) : 1;
    const struct series_sample *sample = metric_reader_sample(reader, source);
    const struct series_piece *piece = metric_reader_piece(reader, source);
    uint32_t added = 0;
    for (; added < count && metric_rows_fits(&eval->rows, unit, 0); added++) {
      int rc = piece == NULL ? metric_shaper_add(&eval->shaper, member, sample + added)
                             : metric_shaper_add_piece(&eval->shaper, member, sample + added, piece + added);
      if (rc != SQLITE_OK) return sqlite_failed(eval, rc, eval->rows.row);
    }
    done += added;
    if (added > 0) {
      int rc = metric_reader_advance(reader, added);
      if (rc != SQLITE_OK) return sqlite_failed(eval, rc, reader->failed);
    }
    if (added < count) return STEP_ENDS;
  }
  return NEXT_PHASE;
}

static enum progress flush(struct metric_eval *eval) {
  uint32_t units = eval->options.by_series ? eval->catalog.member_count : eval->catalog.group_count;
  for (; eval->next < units; eval->next++) {
    if (!metric_rows_fits(&eval->rows, eval->next, SECOND_ROW)) return STEP_ENDS;
    int rc = metric_shaper_flush(&eval->shaper, eval->next);
    if (rc != SQLITE_OK) return sqlite_failed(eval, rc, eval->rows.row);
  }
  return NEXT_PHASE;
}

static enum progress run_phase(struct metric_eval *eval, uint64_t samples) {
  switch (eval->phase) {
    case PHASE_SERIES: return collect_series(eval, samples);
    case PHASE_MEMORY: return take_memory(eval);
    case PHASE_LATEST: return find_latest(eval, samples);
    case PHASE_OPEN: return open_sources(eval, samples);
    case PHASE_MERGE: return merge(eval, samples);
    case PHASE_FLUSH: return flush(eval);
    default: return NEXT_PHASE;
  }
}

static enum phase next_phase(const struct metric_eval *eval) {
  if (eval->phase == PHASE_MEMORY) return eval->options.shape == METRIC_LATEST ? PHASE_LATEST : PHASE_OPEN;
  return eval->phase == PHASE_LATEST ? PHASE_DONE : eval->phase + 1;
}

/* Rows of one step are one transaction of the scratch database. */
static int control(struct metric_eval *eval, const char *sql) {
  sqlite3 *db = sqlite3_db_handle(eval->rows.row);
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  return rc == SQLITE_OK ? SQLITE_OK : fail(eval, rc, sqlite3_errmsg(db));
}

static void run_phases(struct metric_eval *eval, uint64_t samples, struct metric_progress *step) {
  while (eval->phase != PHASE_DONE) {
    const struct metric_source *offender = eval->phase == PHASE_TYPES ? find_offender(eval) : NULL;
    if (offender != NULL) {
      step->state = METRIC_REJECTED;
      step->name = eval->catalog.text + offender->text;
      step->name_length = offender->name_length;
      step->type = offender->type;
      return;
    }
    if (run_phase(eval, samples) != NEXT_PHASE) return;
    eval->phase = next_phase(eval);
    eval->next = 0;
  }
  step->state = METRIC_DONE;
}

int metric_eval_step(struct metric_eval *eval, uint64_t samples, size_t room, size_t memory,
                     struct metric_progress *step) {
  if (eval->error != SQLITE_OK) return eval->error;
  *step = (struct metric_progress){.state = METRIC_MORE};
  if (eval->rows.row == NULL || eval->rows.unit == NULL) return fail(eval, SQLITE_MISUSE, "there is no target");
  eval->memory.limit = memory > eval->memory.used ? memory : eval->memory.used;
  eval->memory.wanted = 0;
  eval->rows.room = room;
  eval->rows.waiting = 0;
  int rc = control(eval, "BEGIN");
  if (rc != SQLITE_OK) return rc;
  run_phases(eval, samples, step);
  if (eval->error == SQLITE_OK) control(eval, "COMMIT");
  step->samples = eval->reader.rows + eval->rollups.looked + eval->latest.rows;
  step->waiting_room = eval->rows.waiting;
  step->waiting_memory = eval->memory.wanted;
  return eval->error;
}

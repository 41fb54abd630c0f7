/*
 * Builders over samples. Time is cut into slices: of each the samples of every source are read by one
 * statement per database, then walked in the order of time. So thousands of series need no more
 * statements than one, and a slice is as long as its samples fit into a buffer.
 */
#include "range_build_internal.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>
#include <string.h>

#include "range_units.h"

/* Samples of one slice: this many, or some for each source if these are more. */
#define SLICE_SAMPLES 16384
#define SLICE_SAMPLES_PER_SOURCE 8

/* The first slice is this part of the whole; later ones grow and shrink with what they hold. */
#define FIRST_SLICE 256

/* What looking a source up costs, in rows. */
#define SEEK_ROWS 4

struct sample {
  int64_t time;
  double value;
};

struct database {
  sqlite3_stmt *samples;
  /* Stays at its first row, so that all reads see the same state of the database. */
  sqlite3_stmt *anchor;
};

/* One series in one database, with its part of the slice. */
struct source {
  size_t database;
  int64_t id;
  size_t series;
  uint8_t *skip;
  size_t skip_count;
  size_t skip_hint;
  size_t next;
  size_t end;
};

struct samples {
  struct range_build base;
  int64_t from;
  int64_t to;
  struct range_test test;
  struct range_units *units;
  struct database *databases;
  size_t database_room;
  size_t database_count;
  struct source *sources;
  size_t source_room;
  size_t source_count;
  /* The slice: its times, its samples source by source, and how many sources are read. */
  int64_t slice_from;
  int64_t slice_to;
  struct sample *slice;
  size_t slice_count;
  size_t slice_room;
  size_t read;
  /* Length of the slices in ns. */
  uint64_t length;
  /* Binary heap of the sources with samples left in a slice that is read, the earliest first. */
  struct source **heap;
  size_t heap_count;
  bool walking;
  bool started;
  /* Whether the condition holds now, and since when. */
  bool holds;
  int64_t since;
};

static int compare_numbers(const void *a, const void *b) { return number_compare(a, b); }

static void end(struct range_build *base) {
  struct samples *build = (struct samples *)base;
  for (size_t i = 0; i < build->database_count; i++) {
    sqlite3_finalize(build->databases[i].samples);
    sqlite3_finalize(build->databases[i].anchor);
    build->databases[i] = (struct database){0};
  }
}

static void destroy(struct range_build *base) {
  struct samples *build = (struct samples *)base;
  for (size_t i = 0; i < build->source_count; i++) free(build->sources[i].skip);
  free(build->databases);
  free(build->sources);
  free(build->slice);
  free(build->heap);
  free(build->test.numbers);
  range_units_free(build->units);
}

bool range_samples_database(struct range_build *base, sqlite3_stmt *statement) {
  struct samples *build = (struct samples *)base;
  if (build->database_count == build->database_room) {
    sqlite3_finalize(statement);
    return false;
  }
  build->databases[build->database_count++].samples = statement;
  return true;
}

bool range_samples_add(struct range_build *base, size_t database, int64_t id, size_t series, const uint8_t *skip,
                       size_t skip_length) {
  struct samples *build = (struct samples *)base;
  if (build->source_count == build->source_room) return false;
  struct source *source = &build->sources[build->source_count];
  *source = (struct source){.database = database, .id = id, .series = series};
  if (skip != NULL && skip_length > 0) {
    source->skip = malloc(skip_length);
    if (source->skip == NULL) return false;
    memcpy(source->skip, skip, skip_length);
    source->skip_count = skip_length / RANGE_BYTES;
  }
  build->source_count++;
  return true;
}

static struct sample *first(const struct samples *build, const struct source *source) {
  return &build->slice[source->next];
}

/* Of equal times the source added first comes last: its value is what remains. */
static bool before(const struct samples *build, const struct source *a, const struct source *b) {
  int64_t left = first(build, a)->time;
  int64_t right = first(build, b)->time;
  return left != right ? left < right : a > b;
}

static void sift_down(struct samples *build, size_t at) {
  struct source **heap = build->heap;
  for (;;) {
    size_t earliest = at;
    size_t child = at * 2 + 1;
    if (child < build->heap_count && before(build, heap[child], heap[earliest])) earliest = child;
    if (child + 1 < build->heap_count && before(build, heap[child + 1], heap[earliest])) earliest = child + 1;
    if (earliest == at) return;
    struct source *moved = heap[at];
    heap[at] = heap[earliest];
    heap[earliest] = moved;
    at = earliest;
  }
}

/* Room for every source's newest value at one time: a slice of one ns always fits. */
static size_t slice_limit(const struct samples *build) {
  size_t each = build->source_count * SLICE_SAMPLES_PER_SOURCE;
  return each > SLICE_SAMPLES ? each : SLICE_SAMPLES;
}

/* Keeps a sample of `source`; of several at one time, or before the query's range, the last alone counts. */
static int keep(struct samples *build, struct source *source, int64_t time, double value) {
  if (time < build->from) time = build->from;
  if (build->slice_count > source->next && build->slice[build->slice_count - 1].time == time) {
    build->slice[build->slice_count - 1].value = value;
    return SQLITE_OK;
  }
  if (build->slice_count == build->slice_room) {
    size_t room = build->slice_room == 0 ? 1024 : build->slice_room * 2;
    struct sample *slice = realloc(build->slice, room * sizeof *slice);
    if (slice == NULL) return range_build_fail(&build->base, SQLITE_NOMEM, "out of memory");
    build->slice = slice;
    build->slice_room = room;
  }
  build->slice[build->slice_count++] = (struct sample){time, value};
  return SQLITE_OK;
}

static bool overfull(const struct samples *build) {
  return build->slice_count > slice_limit(build) && build->length > 1;
}

/* The end of the range to skip that holds `time`, else `time`. */
static int64_t skipped_until(struct source *source, int64_t time) {
  if (source->skip_count == 0) return time;
  if (!ranges_contain(source->skip, source->skip_count, time, &source->skip_hint)) return time;
  return ranges_to(source->skip, source->skip_hint);
}

/*
 * Reads the slice's samples of one source from `*lowest` on. True: there may be more, from the new
 * `*lowest` on. Stops early when the slice is overfull, and at an error, which is the builder's state.
 */
static bool read_run(struct samples *build, struct source *source, int64_t *lowest, size_t *rows) {
  sqlite3_stmt *statement = build->databases[source->database].samples;
  sqlite3_reset(statement);
  sqlite3_bind_int64(statement, 1, source->id);
  sqlite3_bind_int64(statement, 2, *lowest);
  sqlite3_bind_int64(statement, 3, build->slice_to);
  *rows += SEEK_ROWS;
  for (int rc; (rc = sqlite3_step(statement)) != SQLITE_DONE; ++*rows) {
    if (rc != SQLITE_ROW) {
      range_build_fail_statement(&build->base, rc, statement);
      return false;
    }
    int64_t time = sqlite3_column_int64(statement, 0);
    if (keep(build, source, time, sqlite3_column_double(statement, 1)) != SQLITE_OK) return false;
    if (overfull(build)) return false;
    int64_t last = skipped_until(source, time);
    if (last == time) continue;
    *lowest = last < build->slice_to ? last + 1 : last;
    return last < build->slice_to;
  }
  return false;
}

/* Reads all of the slice's samples of one source, unless it stops as above. */
static int read_source(struct samples *build, struct source *source, size_t *rows) {
  int64_t lowest = build->slice_from;
  source->next = build->slice_count;
  while (read_run(build, source, &lowest, rows)) continue;
  if (build->base.state != SQLITE_ROW) return build->base.state;
  source->end = build->slice_count;
  sqlite3_reset(build->databases[source->database].samples);
  return SQLITE_OK;
}

/* The slice that begins at `from`, nothing read yet. It never ends before the query's range begins. */
static void begin_slice(struct samples *build, int64_t from) {
  build->slice_from = from;
  uint64_t rest = (uint64_t)build->to - (uint64_t)from;
  build->slice_to = build->length > rest ? build->to : (int64_t)((uint64_t)from + build->length - 1);
  if (build->slice_to < build->from) build->slice_to = build->from < build->to ? build->from : build->to;
  build->slice_count = 0;
  build->read = 0;
  build->walking = false;
}

static void begin_walk(struct samples *build) {
  build->walking = true;
  build->heap_count = 0;
  for (size_t i = 0; i < build->source_count; i++) {
    struct source *source = &build->sources[i];
    if (source->next < source->end) build->heap[build->heap_count++] = source;
  }
  for (size_t at = build->heap_count / 2; at-- > 0;) sift_down(build, at);
  /* The next slice may hold more when this one held little. */
  size_t limit = slice_limit(build);
  if (build->slice_count < limit / 8) {
    build->length = build->length > UINT64_MAX / 4 ? UINT64_MAX : build->length * 4;
  } else if (build->slice_count < limit / 4) {
    build->length = build->length > UINT64_MAX / 2 ? UINT64_MAX : build->length * 2;
  } else if (build->slice_count > limit / 4 * 3 && build->length > 1) {
    build->length /= 2;
  }
}

static int read_slice(struct samples *build, size_t *used, size_t rows) {
  while (build->read < build->source_count && *used < rows) {
    if (read_source(build, &build->sources[build->read], used) != SQLITE_OK) return build->base.state;
    build->read++;
    if (!overfull(build)) continue;
    build->length /= 2;
    begin_slice(build, build->slice_from);
  }
  if (build->read == build->source_count) begin_walk(build);
  return SQLITE_OK;
}

/* The state from `time` on is known: no more samples of that time are to come. */
static int settle(struct samples *build, int64_t time) {
  bool holds = range_units_hold(build->units);
  if (holds == build->holds) return SQLITE_OK;
  build->holds = holds;
  if (!holds && build->since < time) return range_build_append(&build->base, build->since, time - 1);
  build->since = time;
  return SQLITE_OK;
}

static int walk_slice(struct samples *build, size_t *used, size_t rows) {
  while (build->heap_count > 0 && *used < rows) {
    struct source *source = build->heap[0];
    const struct sample *sample = first(build, source);
    int64_t time = sample->time;
    range_units_set(build->units, source->series, sample->value);
    ++*used;
    if (++source->next == source->end) build->heap[0] = build->heap[--build->heap_count];
    sift_down(build, 0);
    bool settled = build->heap_count == 0 || first(build, build->heap[0])->time != time;
    if (settled && settle(build, time) != SQLITE_OK) return build->base.state;
  }
  return SQLITE_OK;
}

static int hold_snapshots(struct samples *build) {
  for (size_t i = 0; i < build->database_count; i++) {
    struct database *database = &build->databases[i];
    sqlite3 *db = sqlite3_db_handle(database->samples);
    int rc = sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_schema", -1, &database->anchor, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(database->anchor);
    if (rc != SQLITE_ROW) return range_build_fail_statement(&build->base, rc, database->samples);
  }
  build->started = true;
  return SQLITE_OK;
}

static int step(struct range_build *base, size_t rows) {
  struct samples *build = (struct samples *)base;
  if (build->from > build->to || build->source_count == 0) return SQLITE_DONE;
  if (!build->started && hold_snapshots(build) != SQLITE_OK) return base->state;
  for (size_t used = 0; used < rows;) {
    int rc = build->walking ? walk_slice(build, &used, rows) : read_slice(build, &used, rows);
    if (rc != SQLITE_OK) return rc;
    if (!build->walking || build->heap_count > 0) continue;
    if (build->slice_to < build->to) {
      begin_slice(build, build->slice_to + 1);
      continue;
    }
    if (build->holds && range_build_append(base, build->since, build->to) != SQLITE_OK) return base->state;
    return SQLITE_DONE;
  }
  return SQLITE_ROW;
}

struct range_build *range_samples_new(const struct range_samples_options *options) {
  struct samples *build = calloc(1, sizeof *build);
  if (build == NULL) {
    free(options->test.numbers);
    return NULL;
  }
  range_build_init(&build->base, options->limit);
  build->base.step = step;
  build->base.end = end;
  build->base.destroy = destroy;
  build->from = options->from;
  build->to = options->to;
  build->test = options->test;
  build->database_room = options->databases;
  build->source_room = options->sources;
  build->databases = calloc(options->databases + 1, sizeof *build->databases);
  build->sources = calloc(options->sources + 1, sizeof *build->sources);
  build->heap = calloc(options->sources + 1, sizeof *build->heap);
  /* Lists are searched by halves. */
  qsort(build->test.numbers, build->test.count, sizeof *build->test.numbers, compare_numbers);
  build->units = range_units_new(&build->test, options->units, options->series);
  if (build->databases == NULL || build->sources == NULL || build->heap == NULL || build->units == NULL) {
    range_build_free(&build->base);
    return NULL;
  }
  if (options->oldest <= options->to) {
    build->length = ((uint64_t)options->to - (uint64_t)options->oldest) / FIRST_SLICE + 1;
    begin_slice(build, options->oldest);
  }
  return &build->base;
}

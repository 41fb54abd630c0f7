/* Builders of spans: the rows of several sorted statements, merged. */
#include "range_build_internal.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>

/* One statement and its current row. */
struct source {
  sqlite3_stmt *statement;
  int64_t from;
  int64_t to;
};

struct spans {
  struct range_build base;
  struct source *sources;
  size_t room;
  size_t count;
  /* Binary heap of the sources that have a row, the earliest first. */
  struct source **heap;
  size_t heap_count;
  bool started;
};

static void end(struct range_build *base) {
  struct spans *build = (struct spans *)base;
  for (size_t i = 0; i < build->count; i++) {
    sqlite3_finalize(build->sources[i].statement);
    build->sources[i].statement = NULL;
  }
  build->heap_count = 0;
}

static void destroy(struct range_build *base) {
  struct spans *build = (struct spans *)base;
  free(build->sources);
  free(build->heap);
}

bool range_spans_add(struct range_build *base, sqlite3_stmt *statement) {
  struct spans *build = (struct spans *)base;
  if (build->count == build->room) {
    sqlite3_finalize(statement);
    return false;
  }
  build->sources[build->count++] = (struct source){.statement = statement};
  return true;
}

static void sift_down(struct spans *build, size_t at) {
  struct source **heap = build->heap;
  for (;;) {
    size_t first = at;
    size_t child = at * 2 + 1;
    if (child < build->heap_count && heap[child]->from < heap[first]->from) first = child;
    if (child + 1 < build->heap_count && heap[child + 1]->from < heap[first]->from) first = child + 1;
    if (first == at) return;
    struct source *moved = heap[at];
    heap[at] = heap[first];
    heap[first] = moved;
    at = first;
  }
}

/* Moves a source to its next row: SQLITE_ROW, SQLITE_DONE (its statement is gone), or an error. */
static int advance(struct spans *build, struct source *source) {
  int rc = sqlite3_step(source->statement);
  if (rc == SQLITE_ROW) {
    source->from = sqlite3_column_int64(source->statement, 0);
    source->to = sqlite3_column_int64(source->statement, 1);
  } else if (rc == SQLITE_DONE) {
    sqlite3_finalize(source->statement);
    source->statement = NULL;
  } else {
    return range_build_fail_statement(&build->base, rc, source->statement);
  }
  return rc;
}

static int start(struct spans *build) {
  build->started = true;
  for (size_t i = 0; i < build->count; i++) {
    int rc = advance(build, &build->sources[i]);
    if (rc == SQLITE_ROW) {
      build->heap[build->heap_count++] = &build->sources[i];
    } else if (rc != SQLITE_DONE) {
      return rc;
    }
  }
  for (size_t at = build->heap_count / 2; at-- > 0;) sift_down(build, at);
  return SQLITE_OK;
}

static int step(struct range_build *base, size_t rows) {
  struct spans *build = (struct spans *)base;
  if (!build->started && start(build) != SQLITE_OK) return base->state;
  for (size_t i = 0; i < rows && build->heap_count > 0; i++) {
    struct source *source = build->heap[0];
    if (source->from <= source->to && range_build_append(base, source->from, source->to) != SQLITE_OK) {
      return base->state;
    }
    int rc = advance(build, source);
    if (rc == SQLITE_DONE) {
      build->heap[0] = build->heap[--build->heap_count];
    } else if (rc != SQLITE_ROW) {
      return rc;
    }
    sift_down(build, 0);
  }
  return build->heap_count > 0 ? SQLITE_ROW : SQLITE_DONE;
}

struct range_build *range_spans_new(size_t sources, size_t limit) {
  struct spans *build = calloc(1, sizeof *build);
  if (build == NULL) return NULL;
  range_build_init(&build->base, limit);
  build->base.step = step;
  build->base.end = end;
  build->base.destroy = destroy;
  build->room = sources;
  build->sources = calloc(sources + 1, sizeof *build->sources);
  build->heap = calloc(sources + 1, sizeof *build->heap);
  if (build->sources != NULL && build->heap != NULL) return &build->base;
  range_build_free(&build->base);
  return NULL;
}

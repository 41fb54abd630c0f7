#include "range_build_internal.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdio.h>
#include <stdlib.h>

void range_build_init(struct range_build *build, size_t limit) {
  build->owner = pthread_self();
  build->state = SQLITE_ROW;
  build->set.limit = limit;
}

void range_build_free(struct range_build *build) {
  if (build == NULL) return;
  build->end(build);
  build->destroy(build);
  range_writer_free(&build->set);
  free(build);
}

bool range_build_is_own(const struct range_build *build) { return pthread_equal(build->owner, pthread_self()); }

const struct range_writer *range_build_set(const struct range_build *build) { return &build->set; }

const char *range_build_message(const struct range_build *build) { return build->message; }

int range_build_fail(struct range_build *build, int rc, const char *message) {
  snprintf(build->message, sizeof build->message, "%s", message);
  build->state = rc;
  build->end(build);
  return rc;
}

int range_build_fail_statement(struct range_build *build, int rc, sqlite3_stmt *statement) {
  return range_build_fail(build, rc, sqlite3_errmsg(sqlite3_db_handle(statement)));
}

int range_build_append(struct range_build *build, int64_t from, int64_t to) {
  switch (range_append(&build->set, from, to)) {
    case RANGE_OK: return SQLITE_OK;
    case RANGE_NO_MEMORY: return range_build_fail(build, SQLITE_NOMEM, "out of memory");
    case RANGE_TOO_LARGE: break;
  }
  return range_build_fail(build, SQLITE_TOOBIG, "too many time ranges");
}

int range_build_step(struct range_build *build, size_t rows) {
  if (build->state != SQLITE_ROW) return build->state;
  build->state = build->step(build, rows);
  if (build->state == SQLITE_DONE) build->end(build);
  return build->state;
}

/* What the two kinds of range builders have in common. */
#ifndef EVENTD_RANGE_BUILD_INTERNAL_H
#define EVENTD_RANGE_BUILD_INTERNAL_H

#include "range_build.h"

/* The first member of every builder. */
struct range_build {
  pthread_t owner;
  /* What the next step answers: SQLITE_ROW while there is work. */
  int state;
  struct range_writer set;
  char message[256];
  /* SQLITE_ROW, SQLITE_DONE or the error of range_build_fail. */
  int (*step)(struct range_build *build, size_t rows);
  /* Finalises all statements; safe twice. */
  void (*end)(struct range_build *build);
  /* Frees what the builder has besides. */
  void (*destroy)(struct range_build *build);
};

void range_build_init(struct range_build *build, size_t limit);

/* Ends the builder, so that no read transaction outlives the failure, and returns `rc`. */
int range_build_fail(struct range_build *build, int rc, const char *message);

/* The same with what SQLite says about the statement's connection. */
int range_build_fail_statement(struct range_build *build, int rc, sqlite3_stmt *statement);

/* Adds a range to the set; SQLITE_OK or the error that ended the builder. */
int range_build_append(struct range_build *build, int64_t from, int64_t to);

#endif

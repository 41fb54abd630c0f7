/*
 * What the C peers share: the connection with its three statements, transactions, and the time taken.
 * Whatever fails ends the program with one line.
 */
#ifndef EVENTD_SQLITE_LOOP_H
#define EVENTD_SQLITE_LOOP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "sqlite3.h"

struct loop {
  sqlite3 *db;
  sqlite3_stmt *insert, *begin, *commit;
  /* Seconds when the measurement began, on the wall and of this process. */
  double started, cpu_started;
};

static inline void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
  exit(1);
}

static inline void check(sqlite3 *db, int rc, const char *what) {
  if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) fail(what, sqlite3_errmsg(db));
}

static inline double wall_seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static inline double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  check(db, sqlite3_prepare_v2(db, sql, -1, &statement, NULL), sql);
  return statement;
}

static inline void step(struct loop *loop, sqlite3_stmt *statement, const char *what) {
  check(loop->db, sqlite3_step(statement), what);
  check(loop->db, sqlite3_reset(statement), what);
}

/* Opens DATABASE, which has its schema already, and runs each of `pragmas`, which ends with NULL. */
static inline struct loop loop_open(const char *file, char *const *pragmas, const char *insert) {
  struct loop loop = {0};
  check(NULL, sqlite3_open_v2(file, &loop.db, SQLITE_OPEN_READWRITE, NULL), file);
  for (; *pragmas != NULL; pragmas++) {
    char sql[256];
    snprintf(sql, sizeof sql, "PRAGMA %s", *pragmas);
    check(loop.db, sqlite3_exec(loop.db, sql, NULL, NULL, NULL), sql);
  }
  loop.insert = prepare(loop.db, insert);
  loop.begin = prepare(loop.db, "BEGIN IMMEDIATE");
  loop.commit = prepare(loop.db, "COMMIT");
  return loop;
}

static inline void loop_start(struct loop *loop) {
  loop->started = wall_seconds();
  loop->cpu_started = cpu_seconds();
}

/* Prints the JSON line with what passed since `loop_start`, and closes. */
static inline void loop_finish(struct loop *loop) {
  double wall = wall_seconds() - loop->started, cpu = cpu_seconds() - loop->cpu_started;
  sqlite3_finalize(loop->insert);
  sqlite3_finalize(loop->begin);
  sqlite3_finalize(loop->commit);
  sqlite3_close(loop->db);
  printf("{\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", wall, cpu);
}

#endif

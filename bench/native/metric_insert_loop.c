/*
 * The peer to beat on the metric path: one prepared INSERT per sample, bound and stepped in a plain C
 * loop in the order of arrival, with the same file, pragmas, batch size and checkpoint rule as
 * eventd's writer, on the very SQLite that better-sqlite3 is linked with. It gets its samples for
 * nothing: nothing is received, decoded or looked up.
 *
 *   metric_insert_loop DATABASE SAMPLES SERIES BATCH START_NS [PRAGMA ...]
 *
 * DATABASE has its schema and the series 1 to SERIES already. Sample i belongs to series
 * 1 + i % SERIES, at START_NS + (i / SERIES) * 15 s + i % SERIES. Checkpoints come from the pragma
 * wal_autocheckpoint. Prints one JSON line: seconds, cpuSeconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "sqlite3.h"

static void fail(const char *what, const char *why) {
  fprintf(stderr, "metric_insert_loop: %s: %s\n", what, why);
  exit(1);
}

static void check(sqlite3 *db, int rc, const char *what) {
  if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) fail(what, sqlite3_errmsg(db));
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu_now(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void step(sqlite3 *db, sqlite3_stmt *statement, const char *what) {
  check(db, sqlite3_step(statement), what);
  check(db, sqlite3_reset(statement), what);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  check(db, sqlite3_prepare_v2(db, sql, -1, &statement, NULL), sql);
  return statement;
}

int main(int argc, char **argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: metric_insert_loop DATABASE SAMPLES SERIES BATCH START_NS [PRAGMA ...]\n");
    return 2;
  }
  unsigned long long samples = strtoull(argv[2], NULL, 10), series = strtoull(argv[3], NULL, 10);
  unsigned long long batch = strtoull(argv[4], NULL, 10), start = strtoull(argv[5], NULL, 10);
  if (series == 0 || batch == 0) fail("arguments", "SERIES and BATCH must be above 0");

  sqlite3 *db;
  check(NULL, sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE, NULL), argv[1]);
  for (int i = 6; i < argc; i++) {
    char sql[256];
    snprintf(sql, sizeof sql, "PRAGMA %s", argv[i]);
    check(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
  }
  sqlite3_stmt *insert =
      prepare(db, "INSERT INTO samples(series_id, timestamp, value, histogram_data) VALUES (?1, ?2, ?3, NULL)");
  sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE"), *commit = prepare(db, "COMMIT");

  double started = now(), cpu_started = cpu_now();
  for (unsigned long long done = 0; done < samples;) {
    step(db, begin, "BEGIN");
    for (unsigned long long i = 0; i < batch && done < samples; i++, done++) {
      sqlite3_bind_int64(insert, 1, (sqlite3_int64)(1 + done % series));
      sqlite3_bind_int64(insert, 2, (sqlite3_int64)(start + done / series * 15000000000u + done % series));
      sqlite3_bind_double(insert, 3, (double)(done % 1009) + 0.25);
      step(db, insert, "INSERT");
    }
    step(db, commit, "COMMIT");
  }
  double seconds = now() - started, cpu_seconds = cpu_now() - cpu_started;
  sqlite3_finalize(insert);
  sqlite3_finalize(begin);
  sqlite3_finalize(commit);
  sqlite3_close(db);
  printf("{\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", seconds, cpu_seconds);
  return 0;
}

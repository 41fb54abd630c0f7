/*
 * The peer to beat on the log path: one prepared INSERT per line, bound and stepped in a plain C loop,
 * with the same file, pragmas, batch size and checkpoint rule as eventd's writer, on the very SQLite
 * that better-sqlite3 is linked with. It gets its lines for nothing: nothing is received or decoded.
 *
 *   log_insert_loop DATABASE RECORDS ORIGINS MESSAGE_BYTES BATCH START_NS [PRAGMA ...]
 *
 * DATABASE has its schema already. Line i comes from origin "load-<i % ORIGINS>" at START_NS + i * 5 us;
 * every eighth is an error; its text begins with i in 12 digits. Checkpoints come from the pragma
 * wal_autocheckpoint. Prints one JSON line: seconds, cpuSeconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "sqlite3.h"

enum { DIGITS = 12, MAX_MESSAGE = 65536 };

static void fail(const char *what, const char *why) {
  fprintf(stderr, "log_insert_loop: %s: %s\n", what, why);
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

static void write_number(char *digits, unsigned long long number) {
  for (int i = DIGITS - 1; i >= 0; i--, number /= 10) digits[i] = (char)('0' + number % 10);
}

int main(int argc, char **argv) {
  if (argc < 7) {
    fprintf(stderr, "usage: log_insert_loop DATABASE RECORDS ORIGINS MESSAGE_BYTES BATCH START_NS [PRAGMA ...]\n");
    return 2;
  }
  unsigned long long records = strtoull(argv[2], NULL, 10), origins = strtoull(argv[3], NULL, 10);
  unsigned long long length = strtoull(argv[4], NULL, 10), batch = strtoull(argv[5], NULL, 10);
  unsigned long long start = strtoull(argv[6], NULL, 10);
  if (origins == 0 || batch == 0) fail("arguments", "ORIGINS and BATCH must be above 0");
  if (length < DIGITS || length > MAX_MESSAGE) fail("arguments", "MESSAGE_BYTES is out of range");

  sqlite3 *db;
  check(NULL, sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE, NULL), argv[1]);
  for (int i = 7; i < argc; i++) {
    char sql[256];
    snprintf(sql, sizeof sql, "PRAGMA %s", argv[i]);
    check(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
  }
  sqlite3_stmt *insert =
      prepare(db, "INSERT INTO logs(boot_id, timestamp, origin, is_error, message) VALUES (?1, ?2, ?3, ?4, ?5)");
  sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE"), *commit = prepare(db, "COMMIT");
  static const char boot[16] = {0x5a};
  static char message[MAX_MESSAGE];
  for (size_t i = DIGITS; i < length; i++) message[i] = (char)(i == DIGITS ? ' ' : 'a' + (i - DIGITS) % 26);
  check(db, sqlite3_bind_blob(insert, 1, boot, sizeof boot, SQLITE_STATIC), "bind");

  double started = now(), cpu_started = cpu_now();
  for (unsigned long long done = 0; done < records;) {
    step(db, begin, "BEGIN");
    for (unsigned long long i = 0; i < batch && done < records; i++, done++) {
      char origin[32];
      int origin_length = snprintf(origin, sizeof origin, "load-%llu", done % origins);
      write_number(message, done);
      sqlite3_bind_int64(insert, 2, (sqlite3_int64)(start + done * 5000u));
      sqlite3_bind_text(insert, 3, origin, origin_length, SQLITE_STATIC);
      sqlite3_bind_int(insert, 4, done % 8 == 0);
      sqlite3_bind_text(insert, 5, message, (int)length, SQLITE_STATIC);
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

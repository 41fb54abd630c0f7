/* Reading ahead, over a disk that is slow for what is not in memory yet. */
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "expect.h"
#include "sqlite3.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

/* What SQLite hands to extensions. */
static const void *sqlite_api;

static int load(sqlite3 *db, char **error, const void *api) {
  sqlite_api = api;
  return sqlite3_eventd_init(db, error, api);
}

#define PAGE 8192
#define ROWS 4000
#define MOST_PAGES 4096

/* Of the file of the connection under test. */
static struct {
  const sqlite3_io_methods *original;
  sqlite3_io_methods methods;
  bool in_memory[MOST_PAGES];
  /* Whether reads of more than a page fail. */
  bool refuses;
  unsigned waits;
  size_t ahead;
} disk;

static int read_disk(sqlite3_file *file, void *to, int length, sqlite3_int64 offset) {
  if (length > PAGE) {
    if (disk.refuses) return SQLITE_IOERR_READ;
    disk.ahead += (size_t)length;
  }
  bool missing = false;
  for (sqlite3_int64 at = offset / PAGE; at * PAGE < offset + length && at < MOST_PAGES; at++) {
    missing = missing || !disk.in_memory[at];
    disk.in_memory[at] = true;
  }
  if (missing && length <= PAGE) {
    disk.waits++;
    usleep(100);
  }
  return disk.original->xRead(file, to, length, offset);
}

static char path[] = "/tmp/eventd-read-ahead-XXXXXX";
static size_t file_pages;

static void run(sqlite3 *db, const char *sql) {
  EXPECT(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static void fill(void) {
  close(mkstemp(path));
  sqlite3 *db;
  EXPECT(sqlite3_open(path, &db) == SQLITE_OK);
  run(db, "PRAGMA page_size = 8192; CREATE TABLE t(id INTEGER PRIMARY KEY, time INTEGER, payload BLOB);"
          "CREATE INDEX by_time ON t(time); BEGIN");
  char sql[128];
  for (int i = 1; i <= ROWS; i++) {
    snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, %d, zeroblob(1500))", i, i * 10);
    run(db, sql);
  }
  run(db, "COMMIT");
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(db, "PRAGMA page_count", -1, &statement, NULL) == SQLITE_OK);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  file_pages = (size_t)sqlite3_column_int64(statement, 0);
  EXPECT(file_pages > 500 && file_pages < MOST_PAGES);
  sqlite3_finalize(statement);
  sqlite3_close(db);
}

/* A connection to a file of which nothing, or everything, is in memory. */
static sqlite3 *open_disk(bool in_memory, bool refuses) {
  sqlite3 *db;
  sqlite3_file *file;
  EXPECT(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK);
  EXPECT(sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK);
  disk.original = file->pMethods;
  disk.methods = *file->pMethods;
  disk.methods.xRead = read_disk;
  file->pMethods = &disk.methods;
  memset(disk.in_memory, in_memory, sizeof disk.in_memory);
  disk.refuses = refuses;
  disk.waits = 0;
  disk.ahead = 0;
  run(db, "PRAGMA cache_size = 20; SELECT eventd_read_ahead()");
  return db;
}

/* Reads rows, which must be `first`, `first` + `step`, ...; how many there were. */
static int scan(sqlite3 *db, const char *sql, int64_t first, int64_t step) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  int rows = 0;
  bool right = true;
  int rc;
  while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
    right = right && sqlite3_column_int64(statement, 0) == first + rows * step;
    right = right && sqlite3_column_bytes(statement, 1) == 1500;
    rows++;
  }
  EXPECT(rc == SQLITE_DONE);
  EXPECT(right);
  sqlite3_finalize(statement);
  return rows;
}

static const char newest_first[] = "SELECT time, payload FROM t ORDER BY time DESC";

int main(void) {
  sqlite3_auto_extension((void (*)(void))load);
  fill();

  title("[QX-26] who reads a store from its newest record on waits for the disk once per piece, not per page");
  sqlite3 *db = open_disk(false, false);
  EXPECT(scan(db, newest_first, ROWS * 10, -10) == ROWS);
  EXPECT(disk.waits < file_pages / 10);
  EXPECT(disk.ahead > file_pages * PAGE / 2);
  EXPECT(disk.ahead <= file_pages * PAGE);
  sqlite3_close(db);

  title("[QX-26] a few records, and reading forwards, take nothing along");
  db = open_disk(false, false);
  EXPECT(scan(db, "SELECT time, payload FROM t ORDER BY time DESC LIMIT 20", ROWS * 10, -10) == 20);
  EXPECT(scan(db, "SELECT time, payload FROM t ORDER BY id", 10, 10) == ROWS);
  EXPECT(disk.ahead == 0);
  sqlite3_close(db);

  title("[QX-26] what is in memory is not read ahead");
  db = open_disk(true, false);
  EXPECT(scan(db, newest_first, ROWS * 10, -10) == ROWS);
  /* The scheduler may make a few reads look slow. */
  EXPECT(disk.ahead <= file_pages * PAGE / 4);
  sqlite3_close(db);

  title("[QX-21] what cannot be read ahead is left to the reader who comes for it");
  db = open_disk(false, true);
  EXPECT(scan(db, newest_first, ROWS * 10, -10) == ROWS);
  sqlite3_close(db);

  title("[QX-60] a connection may be told twice, and get the extension twice");
  db = open_disk(false, false);
  EXPECT(sqlite3_eventd_init(db, NULL, sqlite_api) == SQLITE_OK);
  run(db, "SELECT eventd_read_ahead()");
  EXPECT(scan(db, newest_first, ROWS * 10, -10) == ROWS);
  EXPECT(disk.ahead <= file_pages * PAGE);
  sqlite3_close(db);
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  run(db, "SELECT eventd_read_ahead()");
  sqlite3_close(db);

  unlink(path);
  return expect_result();
}

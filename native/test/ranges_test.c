/* Sets of time ranges: how they are written, asked in SQL, and made of rows; under sanitizers. */
#include "../range_build.h"
#include "../range_set.h"
#include "expect.h"
#include "sqlite3.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

static sqlite3 *open_db(void) {
  sqlite3 *db = NULL;
  sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init);
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  return db;
}

static void run(sqlite3 *db, const char *sql) { EXPECT(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK); }

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  return statement;
}

static void writing(void) {
  title("[QL-112] ranges that overlap or touch become one, also at the ends of time");
  struct range_writer writer = {.limit = 3 * RANGE_BYTES};
  EXPECT(range_append(&writer, 1, 3) == RANGE_OK);
  EXPECT(range_append(&writer, 2, 2) == RANGE_OK);
  EXPECT(range_append(&writer, 4, 5) == RANGE_OK);
  EXPECT(range_append(&writer, 7, 7) == RANGE_OK);
  EXPECT(writer.length == 2 * RANGE_BYTES);
  EXPECT(ranges_from(writer.bytes, 0) == 1 && ranges_to(writer.bytes, 0) == 5);
  EXPECT(range_append(&writer, INT64_MAX - 1, INT64_MAX) == RANGE_OK);
  EXPECT(range_append(&writer, INT64_MAX, INT64_MAX) == RANGE_OK);
  EXPECT(writer.length == 3 * RANGE_BYTES && ranges_valid(writer.bytes, writer.length));
  static const uint8_t layout[] = {1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0};
  EXPECT(memcmp(writer.bytes, layout, sizeof layout) == 0);
  range_writer_free(&writer);
  EXPECT(writer.length == 0);

  title("[QX-15] a set does not outgrow its limit");
  writer.limit = 100 * RANGE_BYTES;
  for (int i = 0; i < 100; i++) EXPECT(range_append(&writer, i * 10, i * 10) == RANGE_OK);
  EXPECT(range_append(&writer, 5000, 5000) == RANGE_TOO_LARGE);
  EXPECT(range_append(&writer, 991, 992) == RANGE_OK);
  EXPECT(writer.length == 100 * RANGE_BYTES);
  range_writer_free(&writer);
}

static void finding(void) {
  title("[QX-4] a time is found from wherever the search stood last");
  struct range_writer writer = {.limit = 1 << 20};
  for (int i = 1; i <= 20; i++) range_append(&writer, i * 10, i * 10 + 4);
  unsigned char *bytes = exact_copy(writer.bytes, writer.length);
  for (size_t hint = 0; hint <= 20; hint++) {
    for (int64_t time = 0; time < 220; time++) {
      size_t at = hint;
      EXPECT(ranges_contain(bytes, 20, time, &at) == (time >= 10 && time % 10 <= 4 && time < 205));
      EXPECT(ranges_contain(bytes, 20, time, &at) == (time >= 10 && time % 10 <= 4 && time < 205));
    }
  }
  size_t at = 0;
  EXPECT(!ranges_contain(bytes, 0, 5, &at));
  EXPECT(!ranges_contain(bytes, 20, INT64_MIN, &at) && !ranges_contain(bytes, 20, INT64_MAX, &at));
  free(bytes);
  range_writer_free(&writer);
}

/* The first value of a statement whose parameters are all these bytes; -1 NULL, -2 an error. */
static int64_t ask(sqlite3 *db, const char *sql, const void *bytes, int length) {
  sqlite3_stmt *statement = prepare(db, sql);
  unsigned char *copy = exact_copy(bytes, (size_t)length);
  for (int i = 1; i <= sqlite3_bind_parameter_count(statement); i++) {
    sqlite3_bind_blob(statement, i, copy, length, SQLITE_STATIC);
  }
  int rc = sqlite3_step(statement);
  int64_t value = rc != SQLITE_ROW ? -2 : sqlite3_column_type(statement, 0) == SQLITE_NULL ? -1 : sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  free(copy);
  return value;
}

static void in_sql(void) {
  title("[QL-112] [QX-4] SQL asks a set for times, its start and its end");
  sqlite3 *db = open_db();
  struct range_writer writer = {.limit = 1 << 20};
  range_append(&writer, 10, 19);
  range_append(&writer, 30, 30);
  const uint8_t *set = writer.bytes;
  EXPECT(ask(db, "SELECT ranges_start(?)", set, 32) == 10);
  EXPECT(ask(db, "SELECT ranges_end(?)", set, 32) == 30);
  EXPECT(ask(db, "SELECT ranges_start(?)", "", 0) == -1);
  EXPECT(ask(db, "SELECT ranges_end(?)", "", 0) == -1);
  EXPECT(ask(db, "SELECT in_ranges(5, ?)", "", 0) == 0);
  EXPECT(ask(db, "SELECT in_ranges(19, ?)", set, 32) == 1);
  EXPECT(ask(db, "SELECT in_ranges(NULL, ?)", set, 32) == 0);
  EXPECT(ask(db, "SELECT in_ranges('19', ?)", set, 32) == 0);
  EXPECT(ask(db, "SELECT in_ranges(19.0, ?)", set, 32) == 0);
  run(db, "CREATE TABLE t(a INTEGER); WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 40)"
          " INSERT INTO t SELECT i FROM n ORDER BY i * 7 % 41");
  EXPECT(ask(db, "SELECT sum(a) FROM t WHERE in_ranges(a, ?)", set, 32) == 145 + 30);
  EXPECT(ask(db, "SELECT count(*) FROM t WHERE a BETWEEN ranges_start(?) AND ranges_end(?)", set, 32) == 21);

  title("[QX-15] bytes that are no set are an SQL error, never half an answer");
  static const struct {
    int64_t times[4];
    int length;
  } malformed[] = {
      {{1, 2}, 8}, {{1, 2}, 15}, {{1, 2, 5}, 24}, {{2, 1}, 16}, {{1, 5, 5, 9}, 32}, {{1, 5, 6, 9}, 32},
      {{5, 9, 1, 2}, 32}, {{1, INT64_MAX, INT64_MIN, 0}, 32},
  };
  for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
    EXPECT(ask(db, "SELECT in_ranges(1, ?)", malformed[i].times, malformed[i].length) == -2);
    EXPECT(ask(db, "SELECT ranges_start(?)", malformed[i].times, malformed[i].length) == -2);
    EXPECT(ask(db, "SELECT ranges_end(?)", malformed[i].times, malformed[i].length) == -2);
    EXPECT(ask(db, "SELECT in_ranges(NULL, ?)", malformed[i].times, malformed[i].length) == -2);
  }
  EXPECT(ask(db, "SELECT in_ranges(1, NULL)", NULL, 0) == -2);
  EXPECT(ask(db, "SELECT in_ranges(1, 'ranges of text..')", NULL, 0) == -2);
  EXPECT(ask(db, "SELECT ranges_start(NULL)", NULL, 0) == -2);
  range_writer_free(&writer);
  sqlite3_close(db);
}

static bool is_set(const struct range_build *build, size_t count, const int64_t *times) {
  const struct range_writer *set = range_build_set(build);
  if (set->length != count * RANGE_BYTES) return false;
  for (size_t i = 0; i < count; i++) {
    if (ranges_from(set->bytes, i) != times[2 * i] || ranges_to(set->bytes, i) != times[2 * i + 1]) return false;
  }
  return true;
}

static void spans(void) {
  title("[QL-114] spans of several databases are merged into one set, a few rows at a time");
  sqlite3 *first = open_db();
  sqlite3 *second = open_db();
  run(first, "CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 4), (10, 12), (30, 29), (40, 45)");
  run(second, "CREATE TABLE t(a, b); INSERT INTO t VALUES (3, 8), (9, 9), (20, 21)");
  struct range_build *build = range_spans_new(2, 48);
  EXPECT(range_spans_add(build, prepare(first, "SELECT a, b FROM t ORDER BY a")));
  EXPECT(range_spans_add(build, prepare(second, "SELECT a, b FROM t ORDER BY a")));
  int calls = 0;
  while (range_build_step(build, 2) == SQLITE_ROW) calls++;
  EXPECT(calls == 3);
  EXPECT(range_build_step(build, 2) == SQLITE_DONE);
  EXPECT(is_set(build, 3, (int64_t[]){1, 12, 20, 21, 40, 45}));
  range_build_free(build);

  title("[QX-15] a builder stops at its limit and says so again when asked again");
  build = range_spans_new(1, 32);
  EXPECT(range_spans_add(build, prepare(first, "SELECT a, a FROM t ORDER BY a")));
  EXPECT(range_build_step(build, 100) == SQLITE_TOOBIG);
  EXPECT(range_build_step(build, 100) == SQLITE_TOOBIG);
  EXPECT(strstr(range_build_message(build), "too many") != NULL);
  range_build_free(build);

  title("[QX-65] an interrupt ends a builder");
  build = range_spans_new(2, 32);
  const char *endless = "WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n";
  EXPECT(range_spans_add(build, prepare(first, endless)));
  EXPECT(range_spans_add(build, prepare(second, endless)));
  EXPECT(!range_spans_add(build, prepare(second, endless)));
  EXPECT(range_build_step(build, 100) == SQLITE_ROW);
  sqlite3_interrupt(second);
  EXPECT(range_build_step(build, 100) == SQLITE_INTERRUPT);
  EXPECT(range_build_step(build, 100) == SQLITE_INTERRUPT);
  range_build_free(build);
  /* A connection with statements left would refuse. */
  EXPECT(sqlite3_close(first) == SQLITE_OK);
  EXPECT(sqlite3_close(second) == SQLITE_OK);
}

static struct range_test above(double limit) {
  struct number *number = malloc(sizeof *number);
  *number = (struct number){.kind = NUMBER_REAL, .real = limit};
  return (struct range_test){TEST_ABOVE, number, 1};
}

static const char samples_sql[] =
    "SELECT ts, value FROM s WHERE series = ? AND ts >= ? AND ts <= ? ORDER BY ts, rowid";

static struct range_build *open_samples(sqlite3 *db, const struct range_samples_options *options) {
  struct range_build *build = range_samples_new(options);
  for (size_t i = 0; i < options->databases; i++) EXPECT(range_samples_database(build, prepare(db, samples_sql)));
  return build;
}

/* Runs a builder `rows` rows at a time; how many calls it took. */
static int finish(struct range_build *build, size_t rows) {
  int calls = 1;
  while (range_build_step(build, rows) == SQLITE_ROW) calls++;
  EXPECT(range_build_step(build, rows) == SQLITE_DONE);
  return calls;
}

static void samples(void) {
  sqlite3 *db = open_db();
  run(db, "CREATE TABLE s(series, ts, value REAL); INSERT INTO s VALUES"
          " (1, 4, 9), (1, 5, 9), (1, 20, 1), (1, 20, 9), (1, 30, 1), (1, 50, 9),"
          " (2, 25, 9), (2, 35, 9), (2, 40, 0)");
  uint32_t each[] = {0, 1};
  uint32_t one[] = {0, 0};
  struct range_samples_options options = {
      .databases = 1, .sources = 2, .limit = 1 << 20, .oldest = 5, .from = 10, .to = 60, .units = each, .series = 2};

  title("[QL-111] [QL-112] [QL-113] several series: the times at which any of them fulfils the test");
  for (size_t rows = 1; rows < 100; rows += 9) {
    options.test = above(5);
    struct range_build *build = open_samples(db, &options);
    EXPECT(range_samples_add(build, 0, 1, 0, NULL, 0));
    EXPECT(range_samples_add(build, 0, 2, 1, NULL, 0));
    EXPECT(!range_samples_add(build, 0, 2, 1, NULL, 0));
    finish(build, rows);
    EXPECT(is_set(build, 2, (int64_t[]){10, 39, 50, 60}));
    range_build_free(build);
  }

  title("[QL-111] one unit: the mean of the newest values, of those series that have one");
  options.units = one;
  options.test = above(4.9);
  struct range_build *build = open_samples(db, &options);
  EXPECT(range_samples_add(build, 0, 1, 0, NULL, 0));
  EXPECT(range_samples_add(build, 0, 2, 1, NULL, 0));
  finish(build, 3);
  /* 10: 9. 25: (9 + 9) / 2. 30: (1 + 9) / 2 = 5. 40: (1 + 0) / 2. 50: (9 + 0) / 2. */
  EXPECT(is_set(build, 1, (int64_t[]){10, 39}));
  range_build_free(build);

  title("[QL-101] [QL-111] one series in two databases: of equal times the one named first is the newest");
  options.databases = 2;
  options.series = 1;
  for (int round = 0; round < 2; round++) {
    options.test = above(5);
    build = open_samples(db, &options);
    run(db, round == 0 ? "INSERT INTO s VALUES (5, 20, 9), (6, 20, 1)" : "SELECT 1");
    EXPECT(range_samples_add(build, 0, round == 0 ? 5 : 6, 0, NULL, 0));
    EXPECT(range_samples_add(build, 1, round == 0 ? 6 : 5, 0, NULL, 0));
    finish(build, 1);
    EXPECT(is_set(build, round == 0 ? 1 : 0, (int64_t[]){20, 60}));
    range_build_free(build);
  }

  title("[QL-119] of a range to skip only the first sample is read, and it ends the range before it");
  run(db, "INSERT INTO s VALUES (3, 10, 9), (3, 21, 1), (3, 22, 99), (3, 39, 99), (3, 40, 9), (3, 41, 1)");
  struct range_writer skip = {.limit = 1 << 10};
  range_append(&skip, 20, 39);
  range_append(&skip, 59, INT64_MAX);
  options.databases = 1;
  options.sources = 1;
  options.from = options.oldest = 10;
  options.to = INT64_MAX;
  options.test = above(5);
  build = open_samples(db, &options);
  /* The samples of 99 belie the range to skip: that shows whether they are read. */
  EXPECT(range_samples_add(build, 0, 3, 0, skip.bytes, skip.length));
  finish(build, 1);
  EXPECT(is_set(build, 2, (int64_t[]){10, 20, 40, 40}));
  range_build_free(build);
  range_writer_free(&skip);

  title("[QL-51] a query window that is empty has no ranges");
  options.from = 45;
  options.to = 44;
  options.test = above(5);
  build = open_samples(db, &options);
  EXPECT(range_samples_add(build, 0, 3, 0, NULL, 0));
  finish(build, 100);
  EXPECT(is_set(build, 0, NULL));
  range_build_free(build);
  EXPECT(sqlite3_close(db) == SQLITE_OK);
}

/* Bursts far denser than a slice holds, between long times with little. */
static void slices(void) {
  title("[QL-112] [QX-24] slices shrink for dense times and grow for sparse ones, with the same result");
  sqlite3 *db = open_db();
  run(db, "CREATE TABLE s(series, ts, value REAL);"
          "WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299999)"
          " INSERT INTO s SELECT 1 + i % 3, 5000000000000 + i, i % 100 = 99 FROM n;"
          "WITH n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
          " INSERT INTO s SELECT 1, i * 10000000000, 0 FROM n;"
          "CREATE INDEX i ON s(series, ts)");
  uint32_t units[] = {0, 1, 2};
  struct range_samples_options options = {
      .databases = 1, .sources = 3, .limit = 1 << 20, .to = INT64_MAX, .units = units, .series = 3, .test = above(0.5)};
  struct range_build *build = open_samples(db, &options);
  for (int i = 0; i < 3; i++) EXPECT(range_samples_add(build, 0, i + 1, (size_t)i, NULL, 0));
  finish(build, 5000);
  const struct range_writer *set = range_build_set(build);
  /* Sample i is above for the three steps until the next one of its series. */
  bool right = set->length == 3000 * RANGE_BYTES;
  for (int64_t i = 0; right && i < 2999; i++) {
    int64_t from = INT64_C(5000000000000) + i * 100 + 99;
    right = ranges_from(set->bytes, (size_t)i) == from && ranges_to(set->bytes, (size_t)i) == from + 2;
  }
  EXPECT(right);
  EXPECT(ranges_to(set->bytes, 2999) == INT64_MAX);
  range_build_free(build);
  EXPECT(sqlite3_close(db) == SQLITE_OK);
}

int main(void) {
  writing();
  finding();
  in_sql();
  spans();
  samples();
  slices();
  return expect_result();
}

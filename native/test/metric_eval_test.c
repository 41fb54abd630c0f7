/* METRIC computations on a real SQLite, step by step, and their parts, under sanitizers. */
#include "../metric_eval.h"

#include <math.h>

#include "../combine_tree.h"
#include "../histogram.h"
#include "../msgpack.h"
#include "expect.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t random_below(uint64_t limit) {
  random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
  return (random_state >> 11) % limit;
}

/* ---- Parts ---- */

static void tree(void) {
  title("[QL-97] the tree holds the aggregate of the newest values, whatever came before");
  for (uint32_t series = 1; series < 40; series++) {
    for (enum metric_fold fold = FOLD_AVG; fold <= FOLD_SUM; fold++) {
      struct combine_node *nodes = calloc(combine_tree_size(series), sizeof *nodes);
      double values[40];
      bool known[40] = {false};
      for (int change = 0; change < 60; change++) {
        uint32_t index = (uint32_t)random_below(series);
        values[index] = change % 17 == 3 ? INFINITY : (double)random_below(1000) - 500;
        known[index] = true;
        combine_tree_set(nodes, series, index, values[index], fold);
        struct metric_partial all = {0};
        for (uint32_t i = 0; i < series; i++) {
          if (known[i]) metric_partial_add(&all, values[i], 0);
        }
        double expected = metric_partial_value(&all, fold);
        double found = combine_tree_value(nodes, fold);
        EXPECT(found == expected || fabs(found - expected) <= 1e-9 * fabs(expected));
      }
      /* The way does not show: the same values set once give the same bits. */
      struct combine_node *fresh = calloc(combine_tree_size(series), sizeof *fresh);
      for (uint32_t i = series; i-- > 0;) {
        if (known[i]) combine_tree_set(fresh, series, i, values[i], fold);
      }
      double once = combine_tree_value(fresh, fold), often = combine_tree_value(nodes, fold);
      EXPECT(memcmp(&once, &often, sizeof once) == 0);
      free(nodes);
      free(fresh);
    }
  }
}

static void partials(void) {
  title("[ROL-24] [ROL-25] [ROL-6] partial aggregates of pieces merge into that of the whole");
  struct metric_partial whole = {0}, merged = {0}, piece = {0};
  for (int i = 0; i < 100000; i++) {
    double value = i % 2 == 0 ? 1e15 : 0.1 - 1e15;
    metric_partial_add(&whole, value, i);
    metric_partial_add(&piece, value, i);
    if (random_below(100) > 0) continue;
    metric_partial_merge(&merged, &piece);
    piece = (struct metric_partial){0};
  }
  metric_partial_merge(&merged, &piece);
  EXPECT(whole.count == merged.count && whole.min == merged.min && whole.max == merged.max);
  EXPECT(whole.newest == merged.newest);
  /* Adding these up plainly is off by more than the sum; 0.125 is what 0.1 - 1e15 keeps of 0.1. */
  double sum = metric_partial_value(&whole, FOLD_SUM);
  EXPECT(fabs(sum - 6250) < 1e-6);
  EXPECT(fabs(metric_partial_value(&merged, FOLD_SUM) - sum) <= 1e-9 * sum);
  title("[ROL-27] [ROL-28] without elapsed time there is no rate, but a mean of deltas");
  struct metric_deltas deltas = {0};
  double value;
  EXPECT(!metric_deltas_value(&deltas, true, &value) && !metric_deltas_value(&deltas, false, &value));
  metric_deltas_add(&deltas, 3, 0);
  EXPECT(!metric_deltas_value(&deltas, true, &value));
  EXPECT(metric_deltas_value(&deltas, false, &value) && value == 3);
  metric_deltas_add(&deltas, 2, UINT64_C(500000000));
  EXPECT(metric_deltas_value(&deltas, true, &value) && value == 10);
}

static size_t pack(struct msgpack_writer *w, const double *bounds, const uint64_t *counts, uint32_t n, uint64_t total) {
  w->length = 0;
  msgpack_write_map(w, 4);
  msgpack_write_str(w, "boundaries", 10);
  msgpack_write_array(w, n);
  for (uint32_t i = 0; i < n; i++) msgpack_write_double(w, bounds[i]);
  msgpack_write_str(w, "counts", 6);
  msgpack_write_array(w, n);
  for (uint32_t i = 0; i < n; i++) msgpack_write_uint(w, counts[i]);
  msgpack_write_str(w, "total_count", 11);
  msgpack_write_uint(w, total);
  msgpack_write_str(w, "sum", 3);
  msgpack_write_double(w, 1);
  return w->length;
}

static void histograms(void) {
  title("[QL-95] a stored histogram that is none, or cut anywhere, has no percentile");
  struct msgpack_writer w = {0};
  double value = 0;
  size_t n = pack(&w, (double[]){1, 2}, (uint64_t[]){UINT64_MAX / 2, UINT64_MAX}, 2, UINT64_MAX);
  EXPECT(histogram_quantile(w.bytes, n, 0.75, &value) && fabs(value - 1.5) < 1e-9);
  for (size_t cut = 0; cut < n; cut++) {
    unsigned char *copy = exact_copy(w.bytes, cut);
    EXPECT(!histogram_quantile(copy, cut, 0.5, &value));
    free(copy);
  }
  EXPECT(!histogram_quantile(NULL, 0, 0.5, &value));
  for (size_t at = 0; at < n; at++) {
    unsigned char *copy = exact_copy(w.bytes, n);
    for (int byte = 0; byte < 256; byte += 5) {
      copy[at] = (unsigned char)byte;
      /* Any answer will do; the sanitizers watch. */
      histogram_quantile(copy, n, 0.99, &value);
    }
    free(copy);
  }
  msgpack_writer_free(&w);
}

/* ---- The whole ---- */

static sqlite3 *open_db(void) {
  sqlite3 *db = NULL;
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  return db;
}

static void run_sql(sqlite3 *db, const char *sql) {
  if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK) return;
  fprintf(stderr, "%s\n", sqlite3_errmsg(db));
  abort();
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  return statement;
}

static sqlite3 *store(int seed) {
  sqlite3 *db = open_db();
  random_state = UINT64_C(0x1234567) + (uint64_t)seed * 7919;
  run_sql(db,
          "CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT, labels TEXT, type INTEGER);"
          "CREATE TABLE samples (series_id INTEGER, timestamp INTEGER, value REAL, histogram_data BLOB);"
          "CREATE INDEX i ON samples (series_id, timestamp);");
  for (uint64_t i = 0; i < 12; i++) {
    char sql[256];
    snprintf(sql, sizeof sql, "INSERT INTO series VALUES (%llu, 'm%llu', 'k=%llu', %llu)", (unsigned long long)i + 1,
             (unsigned long long)random_below(3), (unsigned long long)random_below(5),
             (unsigned long long)random_below(2));
    run_sql(db, sql);
    for (uint64_t at = random_below(50), n = random_below(700); n > 0; n--, at += random_below(9)) {
      snprintf(sql, sizeof sql, "INSERT INTO samples VALUES (%llu, %llu, %llu / 8.0, NULL)", (unsigned long long)i + 1,
               (unsigned long long)at, (unsigned long long)random_below(1000));
      run_sql(db, sql);
    }
  }
  return db;
}

static struct metric_eval *start(sqlite3 *const *stores, sqlite3 *scratch, const struct metric_options *options) {
  bool latest = options->shape == METRIC_LATEST;
  struct metric_eval *eval = metric_eval_new(options);
  for (uint32_t i = 0; i < options->databases; i++) {
    static const char columns[] = "SELECT rowid, timestamp, value, histogram_data";
    static const char backwards[] = "timestamp <= ? ORDER BY timestamp DESC, rowid DESC LIMIT ?";
    static const char forwards[] = "timestamp > ? AND timestamp <= ? ORDER BY timestamp, rowid";
    static const char at[] = "timestamp = ? AND rowid > ? ORDER BY rowid";
    char samples[256], same[256];
    snprintf(samples, sizeof samples, "%s%s FROM samples WHERE series_id = ? AND %s", columns, latest ? ", 1" : "",
             latest ? backwards : forwards);
    snprintf(same, sizeof same, "%s FROM samples WHERE series_id = ? AND %s", columns, at);
    EXPECT(metric_eval_database(eval, prepare(stores[i], "SELECT id, name, labels, type FROM series"),
                                prepare(stores[i], samples), latest ? NULL : prepare(stores[i], same)) == SQLITE_OK);
  }
  run_sql(scratch,
          "DROP TABLE IF EXISTS units; DROP TABLE IF EXISTS results;"
          "CREATE TABLE units (id INTEGER PRIMARY KEY, name, labels, type);"
          "CREATE TABLE results (timestamp, unit, n, value, histogram)");
  metric_eval_target(eval, prepare(scratch, "INSERT INTO units VALUES (?, ?, ?, ?)"),
                     prepare(scratch, "INSERT INTO results VALUES (?, ?, ?, ?, ?)"));
  return eval;
}

/* All rows as one text; the caller frees it. */
static char *outcome(sqlite3 *scratch) {
  sqlite3_stmt *statement = prepare(scratch,
                                    "SELECT group_concat(row, char(10)) FROM (SELECT name || ' ' || labels || ' ' ||"
                                    " ifnull(type, '-') || ' ' || timestamp || ' ' ||"
                                    " ifnull(printf('%!.17g', value), '-') AS row FROM results"
                                    " JOIN units ON id = unit ORDER BY timestamp, unit, n)");
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  const unsigned char *text = sqlite3_column_text(statement, 0);
  char *copy = strdup(text == NULL ? "" : (const char *)text);
  sqlite3_finalize(statement);
  return copy;
}

/* Runs to the end in steps that allow little; what a step asks for, the next one gets. */
static char *run(sqlite3 *const *stores, sqlite3 *scratch, const struct metric_options *options, uint64_t samples,
                 size_t room, size_t memory) {
  struct metric_eval *eval = start(stores, scratch, options);
  struct metric_progress step;
  size_t allowed = room;
  int steps = 0;
  do {
    EXPECT(metric_eval_step(eval, samples, allowed, memory, &step) == SQLITE_OK);
    allowed = step.waiting_room > room ? step.waiting_room : room;
    if (step.waiting_memory > memory) memory = step.waiting_memory;
    if (++steps > 100000) abort();
  } while (step.state == METRIC_MORE);
  EXPECT(step.state == METRIC_DONE);
  metric_eval_free(eval);
  return outcome(scratch);
}

static void steps(void) {
  title("[QX-65] [QL-97] [QL-106] small steps and little memory give the same bits as one large step");
  sqlite3 *scratch = open_db();
  for (int seed = 0; seed < 4; seed++) {
    sqlite3 *stores[2] = {store(seed), store(seed + 100)};
    for (enum metric_function function = METRIC_SAMPLE; function <= METRIC_DELTA; function++) {
      for (enum metric_shape shape = METRIC_LATEST; shape <= METRIC_DELTA_WINDOWS; shape++) {
        if (shape == METRIC_DELTA_WINDOWS && function == METRIC_SAMPLE) continue;
        for (int by_series = 0; by_series < 2; by_series++) {
          struct metric_options options = {
              .function = function,
              .shape = shape,
              .by_series = by_series == 1,
              .combine = (enum metric_fold)random_below(4),
              .window = (enum metric_fold)random_below(4),
              .window_ns = 97,
              .types = 3,
              .from = 20,
              .to = 2000,
              .databases = 2,
          };
          char *whole = run(stores, scratch, &options, UINT32_MAX, SIZE_MAX, SIZE_MAX);
          char *pieces = run(stores, scratch, &options, 1 + random_below(30), random_below(200), 0);
          EXPECT(strcmp(whole, pieces) == 0);
          EXPECT(strlen(whole) > 10);
          free(whole);
          free(pieces);
        }
      }
    }
    sqlite3_close(stores[0]);
    sqlite3_close(stores[1]);
  }
  sqlite3_close(scratch);
}

/* Rows of two window sizes for all functions, some of which are missing; their sums are exact. */
static void roll_up(sqlite3 *db) {
  run_sql(db,
          "UPDATE samples SET timestamp = timestamp * 100000000;"
          "CREATE TABLE rollups (id INTEGER PRIMARY KEY, series_id, function, window_seconds, window_start, value,"
          " sample_count, UNIQUE (series_id, function, window_seconds, window_start));");
  for (int seconds = 1; seconds <= 3; seconds += 2) {
    static const char *const folds[] = {"avg(value)", "min(value)", "max(value)", "sum(value)", "sum(d)", "sum(d)"};
    for (int function = 0; function < 6; function++) {
      char sql[700];
      snprintf(sql, sizeof sql,
               "WITH s AS (SELECT *, lag(value) OVER w AS p FROM samples"
               " WINDOW w AS (PARTITION BY series_id ORDER BY timestamp, rowid)),"
               " t AS (SELECT *, CASE WHEN value < p THEN value ELSE value - p END AS d FROM s)"
               " INSERT INTO rollups (series_id, function, window_seconds, window_start, value, sample_count)"
               " SELECT series_id, %d, %d, timestamp / %d000000000 * %d000000000 AS k, %s, count(*) FROM t"
               " GROUP BY series_id, k HAVING (%d < 4 OR count(d) = count(*)) AND (k / 1000000000 + series_id) %% 7 > 1",
               function, seconds, seconds, seconds, folds[function], function);
      run_sql(db, sql);
    }
  }
}

static void rollups(void) {
  title("[ROL-29] [ROL-30] [QX-50] [QX-51] with rollups the result has the same bits wherever sums are exact, in steps of any size");
  sqlite3 *scratch = open_db();
  for (int seed = 0; seed < 6; seed++) {
    sqlite3 *db = store(seed + 40);
    roll_up(db);
    for (enum metric_rollup rollup = ROLLUP_MIN; rollup <= ROLLUP_DELTA; rollup++) {
      for (int variant = 0; variant < 4; variant++) {
        bool deltas = rollup >= ROLLUP_RATE;
        bool by_series = variant % 2 == 0 || (!deltas && variant == 3);
        if (!deltas && rollup == ROLLUP_SUM && variant > 1) continue;
        struct metric_options options = {
            .function = rollup == ROLLUP_RATE ? METRIC_RATE : deltas ? METRIC_DELTA : METRIC_SAMPLE,
            .shape = deltas ? METRIC_DELTA_WINDOWS : variant > 1 ? METRIC_WINDOWS : METRIC_TOTAL,
            .by_series = by_series,
            .combine = (enum metric_fold)(deltas ? FOLD_AVG : rollup),
            .window = (enum metric_fold)(deltas ? FOLD_AVG : rollup),
            .rollup = rollup,
            .window_ns = INT64_C(3000000000),
            .types = 3,
            .from = (int64_t)random_below(400) * 100000000,
            .to = (int64_t)(500 + random_below(2500)) * 100000000 - (int64_t)random_below(2),
            .databases = 1,
        };
        char *with = run(&db, scratch, &options, UINT32_MAX, SIZE_MAX, SIZE_MAX);
        char *pieces = run(&db, scratch, &options, 1 + random_below(9), random_below(200), 0);
        options.rollup = ROLLUP_NONE;
        char *without = run(&db, scratch, &options, UINT32_MAX, SIZE_MAX, SIZE_MAX);
        EXPECT(strcmp(with, without) == 0);
        EXPECT(strcmp(with, pieces) == 0);
        EXPECT(strlen(with) > 10);
        free(with);
        free(pieces);
        free(without);
      }
    }
    sqlite3_close(db);
  }
  sqlite3_close(scratch);
}

static void ends(void) {
  sqlite3 *db = store(1), *scratch = open_db();
  struct metric_options options = {
      .shape = METRIC_EACH, .by_series = true, .window_ns = 1, .types = 3, .to = INT64_MAX, .databases = 1};
  struct metric_progress step;

  title("[QL-105] a series of a wrong type ends the computation with its name");
  run_sql(db, "UPDATE series SET type = 2, name = 'bad' WHERE id = 7");
  struct metric_eval *eval = start(&db, scratch, &options);
  EXPECT(metric_eval_step(eval, 100000, 1 << 20, 1 << 20, &step) == SQLITE_OK);
  EXPECT(step.state == METRIC_REJECTED && step.type == 2 && step.name_length == 3 && memcmp(step.name, "bad", 3) == 0);
  metric_eval_free(eval);
  run_sql(db, "UPDATE series SET type = 1 WHERE id = 7");

  title("[QX-68] [QX-65] an interrupt between two statements is not forgotten, and lets go of the snapshot");
  eval = start(&db, scratch, &options);
  EXPECT(metric_eval_step(eval, 10, 1 << 20, 1 << 20, &step) == SQLITE_OK && step.state == METRIC_MORE);
  sqlite3_interrupt(db);
  EXPECT(metric_eval_step(eval, 100000, 1 << 20, 1 << 20, &step) == SQLITE_INTERRUPT);
  EXPECT(metric_eval_step(eval, 100000, 1 << 20, 1 << 20, &step) == SQLITE_INTERRUPT);
  EXPECT(sqlite3_next_stmt(db, NULL) == NULL);
  metric_eval_free(eval);
  run_sql(scratch, "ROLLBACK");

  title("[QX-68] a computation that is ended early lets go of its statements");
  eval = start(&db, scratch, &options);
  EXPECT(metric_eval_step(eval, 10, 1 << 20, 1 << 20, &step) == SQLITE_OK && step.state == METRIC_MORE);
  metric_eval_end(eval);
  EXPECT(sqlite3_next_stmt(db, NULL) == NULL);
  EXPECT(metric_eval_step(eval, 10, 1 << 20, 1 << 20, &step) == SQLITE_MISUSE);
  metric_eval_free(eval);

  title("[QL-101] values that are no numbers, and unknown types, are left out");
  run_sql(db, "DELETE FROM samples; DELETE FROM series; INSERT INTO series VALUES (1, 'm', '', 1), (2, 'm', '', 9);"
              "INSERT INTO samples VALUES (1, 5, 'text', NULL), (1, 6, NULL, NULL), (1, 7, 3, NULL), (2, 8, 1, NULL)");
  char *text = run(&db, scratch, &options, 100, 1000, 0);
  EXPECT(strcmp(text, "m  1 7 3.0") == 0);
  free(text);
  sqlite3_close(db);
  sqlite3_close(scratch);
}

/* The selected fields of a record, as hex. */
static void expect_record(sqlite3 *db, const char *labels, const char *fields, const char *hex) {
  sqlite3_stmt *statement = prepare(db, "SELECT lower(hex(sample_record(5, 'm', ?, 1.5, NULL, 1, ?)))");
  sqlite3_bind_text(statement, 1, labels, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, fields, -1, SQLITE_STATIC);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  EXPECT(strcmp((const char *)sqlite3_column_text(statement, 0), hex) == 0);
  sqlite3_finalize(statement);
}

static void records(void) {
  title("[QL-121] [QL-122] [QL-100] a record with SELECT has the fields named, and no label that is missing");
  sqlite3 *db = open_db();
  expect_record(db, "a=b", "type,a", "82" "a474797065" "01" "a161" "a162");
  expect_record(db, "type=b,z=y", "z,type,none", "82" "a17a" "a179" "a474797065" "01");
  expect_record(db, "", "a", "80");
  expect_record(db, "no label at all", "a", "80");
  expect_record(db, "a=b,", ",a,,", "81" "a161" "a162");
  expect_record(db, NULL, "timestamp", "81" "a974696d657374616d70" "05");
  expect_record(db, "a=b", NULL, "80");
  sqlite3_close(db);
}

int main(void) {
  sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init);
  tree();
  partials();
  histograms();
  steps();
  rollups();
  ends();
  records();
  return expect_result();
}

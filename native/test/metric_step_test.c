#include "../metric_step.h"

#include <errno.h>

#include "../handle.h"
#include "../sample_order.h"
#include "../sqlite_parts.h"
#include "expect.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const sqlite3_api_routines *api);

/* ---- Building ---- */

static void text(struct msgpack_writer *w, const char *value) { msgpack_write_str(w, value, (uint32_t)strlen(value)); }

/* One scalar sample: a gauge for name "g...", else a counter. */
static void scalar(struct msgpack_writer *w, const char *name, const char *type, uint64_t timestamp, double value) {
  msgpack_write_map(w, 4);
  text(w, "name");
  text(w, name);
  text(w, "type");
  text(w, type);
  text(w, "timestamp");
  msgpack_write_uint(w, timestamp);
  text(w, "value");
  msgpack_write_double(w, value);
}

static void histogram(struct msgpack_writer *w, const char *name, uint64_t timestamp, double boundary) {
  msgpack_write_map(w, 4);
  text(w, "name");
  text(w, name);
  text(w, "type");
  text(w, "histogram");
  text(w, "timestamp");
  msgpack_write_uint(w, timestamp);
  text(w, "value");
  msgpack_write_map(w, 4);
  text(w, "boundaries");
  msgpack_write_array(w, 1);
  msgpack_write_double(w, boundary);
  text(w, "counts");
  msgpack_write_array(w, 1);
  msgpack_write_uint(w, 3);
  text(w, "total_count");
  msgpack_write_uint(w, 4);
  text(w, "sum");
  msgpack_write_double(w, 0.5);
}

struct world {
  struct datagrams batch;
  int64_t batch_handle, cache_handle;
  struct series_cache *cache;
};

static void drop_cache(void *cache) { series_cache_free(cache); }

static void open_world(struct world *world, uint32_t capacity) {
  if (!datagrams_init(&world->batch, 1 << 20)) abort();
  world->cache = series_cache_new(capacity);
  world->cache_handle = handle_open(HANDLE_SERIES_CACHE, world->cache, drop_cache);
  world->batch_handle = 0;
}

static void send(struct world *world, struct msgpack_writer *w) {
  EXPECT(datagrams_append(&world->batch, 1000, w->bytes, w->length));
  msgpack_writer_free(w);
}

static struct metric_step *take(struct world *world) {
  world->batch_handle = datagrams_publish(&world->batch, NULL);
  return metric_step_open(&world->batch);
}

static size_t decode(struct world *world, struct metric_step *step, uint32_t max) {
  EXPECT(handle_acquire(HANDLE_SERIES_CACHE, world->cache_handle) == world->cache);
  EXPECT(metric_step_decode(step, &world->batch, world->cache, world->cache_handle, max));
  return metric_step_count(step);
}

static void close_world(struct world *world) {
  if (world->batch_handle != 0) handle_close(HANDLE_DATAGRAMS, world->batch_handle);
  handle_close(HANDLE_SERIES_CACHE, world->cache_handle);
  datagrams_free(&world->batch);
}

static bool is_sample(const struct metric_step *step, size_t place, int64_t series, int64_t timestamp, double value) {
  struct metric_sample sample = metric_step_sample(step, place);
  return sample.series_id == series && sample.timestamp == timestamp && sample.value == value;
}

static bool named(const struct metric_step *step, uint32_t index, const char *name, enum metric_type type) {
  struct unresolved_series series = metric_step_series(step, index);
  return series.name_length == strlen(name) && memcmp(series.name, name, series.name_length) == 0 &&
         series.labels_length == 0 && series.type == type;
}

/* ---- Cases ---- */

static void resolution(void) {
  title("[MET-28] [MET-32] each unknown series is asked for once, known ones not at all");
  struct world world;
  open_world(&world, 1000);
  struct msgpack_writer w = {0};
  msgpack_write_array(&w, 5);
  scalar(&w, "b", "gauge", 3, 1);
  scalar(&w, "a", "counter", 2, 2);
  scalar(&w, "b", "gauge", 1, 3);
  histogram(&w, "a", 4, 1);
  histogram(&w, "a", 5, 2);
  send(&world, &w);
  scalar(&w, "a", "counter", 1, 4);
  send(&world, &w);
  struct metric_step *step = take(&world);
  EXPECT(decode(&world, step, 100) == 6 && metric_step_unresolved(step) == 4);
  EXPECT(named(step, 0, "b", METRIC_GAUGE) && named(step, 1, "a", METRIC_COUNTER));
  EXPECT(named(step, 2, "a", METRIC_HISTOGRAM) && named(step, 3, "a", METRIC_HISTOGRAM));
  EXPECT(metric_step_series(step, 2).histogram && !metric_step_series(step, 1).histogram);
  EXPECT(metric_step_series(step, 2).boundaries_hash == boundary_hash(FNV1A64_START, 1));
  EXPECT(metric_step_sort(step) == EAGAIN && !metric_step_sorted(step));
  metric_step_resolve(step, 0, 20, METRIC_GAUGE);
  metric_step_resolve(step, 1, 10, METRIC_COUNTER);
  metric_step_resolve(step, 2, 30, METRIC_HISTOGRAM);
  EXPECT(metric_step_sort(step) == EAGAIN);
  metric_step_resolve(step, 3, 40, METRIC_HISTOGRAM);
  EXPECT(metric_step_sort(step) == 0 && metric_step_count(step) == 6);
  EXPECT(is_sample(step, 0, 10, 1, 4) && is_sample(step, 1, 10, 2, 2) && is_sample(step, 2, 20, 1, 3));
  EXPECT(is_sample(step, 3, 20, 3, 1) && is_sample(step, 4, 30, 4, 0) && is_sample(step, 5, 40, 5, 0));
  EXPECT(metric_step_sample(step, 0).histogram == NULL && metric_step_sample(step, 4).histogram_length > 0);
  handle_close(HANDLE_DATAGRAMS, world.batch_handle);
  scalar(&w, "a", "counter", 9, 1);
  send(&world, &w);
  step = take(&world);
  EXPECT(decode(&world, step, 100) == 1 && metric_step_unresolved(step) == 0);
  EXPECT(metric_step_sort(step) == 0 && is_sample(step, 0, 10, 9, 1));
  EXPECT(series_cache_status(world.cache).misses == 4 && series_cache_status(world.cache).hits == 1);
  close_world(&world);
}

static void types(void) {
  title("[MET-35] a sample of another type than its series is dropped, known or new");
  struct world world;
  open_world(&world, 1000);
  struct msgpack_writer w = {0};
  msgpack_write_array(&w, 4);
  scalar(&w, "x", "gauge", 1, 1);
  scalar(&w, "x", "counter", 2, 2);
  scalar(&w, "y", "counter", 3, 3);
  histogram(&w, "x", 4, 1);
  send(&world, &w);
  scalar(&w, "x", "gauge", 5, 5);
  send(&world, &w);
  struct metric_step *step = take(&world);
  EXPECT(decode(&world, step, 4) == 4 && metric_step_unresolved(step) == 3);
  /* The store knows x as a counter: the first sample was wrong. */
  metric_step_resolve(step, 0, 1, METRIC_COUNTER);
  metric_step_resolve(step, 1, 2, METRIC_COUNTER);
  metric_step_resolve(step, 2, 3, METRIC_HISTOGRAM);
  EXPECT(metric_step_sort(step) == 0 && metric_step_count(step) == 3);
  EXPECT(is_sample(step, 0, 1, 2, 2) && is_sample(step, 1, 2, 3, 3) && is_sample(step, 2, 3, 4, 0));
  EXPECT(decode(&world, step, 4) == 0 && metric_step_unresolved(step) == 0 && metric_step_sort(step) == 0);
  close_world(&world);
}

static void steps(void) {
  title("[MET-40] [MET-25] a step ends at its size, inside a datagram too, and counts only valid records");
  struct world world;
  open_world(&world, 1000);
  struct msgpack_writer w = {0};
  msgpack_write_array(&w, 7);
  for (int i = 0; i < 5; i++) {
    if (i == 1) msgpack_write_uint(&w, 3);
    if (i == 3) scalar(&w, "m", "wrong", 1, 1);
    scalar(&w, "m", "gauge", (uint64_t)i, i);
  }
  send(&world, &w);
  struct metric_step *step = take(&world);
  struct datagrams_map rest;
  EXPECT(decode(&world, step, 2) == 2 && datagrams_map(&world.batch, &rest));
  metric_step_resolve(step, 0, 1, METRIC_GAUGE);
  EXPECT(metric_step_sort(step) == 0 && is_sample(step, 0, 1, 0, 0) && is_sample(step, 1, 1, 1, 1));
  EXPECT(decode(&world, step, 2) == 2 && metric_step_unresolved(step) == 0);
  EXPECT(metric_step_sort(step) == 0 && is_sample(step, 0, 1, 2, 2) && is_sample(step, 1, 1, 3, 3));
  EXPECT(decode(&world, step, 2) == 1 && !datagrams_map(&world.batch, &rest));
  EXPECT(decode(&world, step, 2) == 0);
  close_world(&world);
}

static void many_series(void) {
  title("[MET-33] [MET-28] more series than the cache holds are resolved all the same");
  struct world world;
  open_world(&world, 10);
  struct msgpack_writer w = {0};
  char name[16];
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 1000; i++) {
      snprintf(name, sizeof name, "m%d", i);
      scalar(&w, name, "gauge", (uint64_t)round, i);
      send(&world, &w);
    }
  }
  struct metric_step *step = take(&world);
  EXPECT(decode(&world, step, 10000) == 2000 && metric_step_unresolved(step) == 1000);
  for (uint32_t i = 0; i < 1000; i++) {
    snprintf(name, sizeof name, "m%u", i);
    EXPECT(named(step, i, name, METRIC_GAUGE));
    metric_step_resolve(step, i, 5000 - i, METRIC_GAUGE);
  }
  EXPECT(series_cache_status(world.cache).entries <= 10);
  EXPECT(metric_step_sort(step) == 0 && metric_step_count(step) == 2000);
  for (size_t i = 0; i < 2000; i++) EXPECT(is_sample(step, i, 4001 + (int64_t)i / 2, (int64_t)i % 2, 999 - (double)(i / 2)));
  close_world(&world);
}

static void slices(void) {
  title("[MET-28] [MET-35] [MET-45] a sorted step goes slice by slice; what is left can be resolved anew");
  struct world world;
  open_world(&world, 1000);
  struct msgpack_writer w = {0};
  for (uint64_t time = 0; time < 3; time++) {
    scalar(&w, "a", "gauge", time, 1);
    send(&world, &w);
    scalar(&w, "b", "gauge", time, 2);
    send(&world, &w);
  }
  struct metric_step *step = take(&world);
  EXPECT(decode(&world, step, 100) == 6 && metric_step_left(step) == 0);
  metric_step_resolve(step, 0, 1, METRIC_GAUGE);
  metric_step_resolve(step, 1, 2, METRIC_GAUGE);
  EXPECT(metric_step_sort(step) == 0 && metric_step_left(step) == 6);
  struct metric_slice whole = metric_step_present(step);
  EXPECT(whole.first == 0 && whole.end == 6);
  EXPECT(metric_step_slice(step, 2) == 2 && metric_step_left(step) == 4);
  EXPECT(metric_step_slice(step, 2) == 2 && metric_step_left(step) == 2);
  struct metric_slice second = metric_step_present(step);
  EXPECT(second.first == 2 && second.end == 4 && is_sample(step, 3, 2, 0, 2));
  /* Both of b's that are left; a has none. */
  metric_step_again(step);
  EXPECT(metric_step_unresolved(step) == 1 && named(step, 0, "b", METRIC_GAUGE) && metric_step_left(step) == 0);
  EXPECT(metric_step_sort(step) == EAGAIN);
  metric_step_resolve(step, 0, 7, METRIC_GAUGE);
  EXPECT(metric_step_sort(step) == 0 && metric_step_left(step) == 2);
  EXPECT(is_sample(step, 0, 7, 1, 2) && is_sample(step, 1, 7, 2, 2));
  EXPECT(metric_step_slice(step, 1) == 1);
  /* It has become a counter meanwhile. */
  metric_step_again(step);
  metric_step_resolve(step, 0, 8, METRIC_COUNTER);
  EXPECT(metric_step_sort(step) == 0 && metric_step_left(step) == 0 && metric_step_slice(step, 5) == 0);
  close_world(&world);
}

static void another_kind(void) {
  title("[MET-38] a batch that was decoded as something else is refused");
  struct datagrams batch = {0};
  int state;
  batch.decoded.state = &state;
  EXPECT(metric_step_of(&batch) == NULL && metric_step_open(&batch) == NULL && errno == EINVAL);
}

/* ---- Order ---- */

static void stable_order(void) {
  title("[MET-45] order is by series, then timestamp, and equal ones stay as they came");
  enum { MOST = 5000 };
  static struct sample_place places[MOST], spare[MOST];
  uint64_t state = 0x2545f4914f6cdd1d;
  for (size_t count = 0; count <= MOST; count = count < 70 ? count + 1 : count * 3 / 2) {
    for (uint32_t i = 0; i < count; i++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      places[i] = (struct sample_place){(int64_t)(state % 7) - 3, (int64_t)(state >> 40) % 11 - 5, i};
    }
    sample_order_sort(places, spare, count);
    for (size_t i = 1; i < count; i++) {
      const struct sample_place *a = &places[i - 1], *b = &places[i];
      EXPECT(a->series_id < b->series_id ||
             (a->series_id == b->series_id &&
              (a->timestamp < b->timestamp || (a->timestamp == b->timestamp && a->index < b->index))));
    }
  }
}

/* ---- In SQL ---- */

static sqlite3 *connection(void) {
  sqlite3 *db;
  if (sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init) != SQLITE_OK) abort();
  if (sqlite3_open(":memory:", &db) != SQLITE_OK) abort();
  return db;
}

static sqlite3_stmt *rows(sqlite3 *db, int64_t batch) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(db, "SELECT series_id, timestamp, value, histogram_data FROM metric_batch(?)", -1,
                            &statement, NULL) == SQLITE_OK);
  sqlite3_bind_int64(statement, 1, batch);
  return statement;
}

static bool refused(sqlite3 *db, int64_t batch, const char *why) {
  sqlite3_stmt *statement = rows(db, batch);
  bool result = sqlite3_step(statement) == SQLITE_ERROR && strcmp(sqlite3_errmsg(db), why) == 0;
  sqlite3_finalize(statement);
  return result;
}

static void in_sql(void) {
  title("[MET-39] metric_batch yields the sorted samples, histograms as blobs and without them NULL");
  struct world world;
  open_world(&world, 1000);
  struct msgpack_writer w = {0};
  histogram(&w, "h", 8, 1);
  send(&world, &w);
  scalar(&w, "g", "gauge", 7, -2.5);
  send(&world, &w);
  sqlite3 *db = connection();
  EXPECT(refused(db, 0, "metric_batch: the argument names no taken batch"));
  struct metric_step *step = take(&world);
  EXPECT(decode(&world, step, 10) == 2);
  EXPECT(refused(db, world.batch_handle, "metric_batch: the batch is not sorted yet"));
  metric_step_resolve(step, 0, 5, METRIC_HISTOGRAM);
  metric_step_resolve(step, 1, 4, METRIC_GAUGE);
  EXPECT(metric_step_sort(step) == 0);
  sqlite3_stmt *statement = rows(db, world.batch_handle);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  EXPECT(sqlite3_column_int64(statement, 0) == 4 && sqlite3_column_int64(statement, 1) == 7);
  EXPECT(sqlite3_column_double(statement, 2) == -2.5 && sqlite3_column_type(statement, 3) == SQLITE_NULL);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  EXPECT(sqlite3_column_type(statement, 2) == SQLITE_FLOAT && sqlite3_column_double(statement, 2) == 0);
  struct metric_sample stored = metric_step_sample(step, 1);
  EXPECT(sqlite3_column_bytes(statement, 3) == (int)stored.histogram_length);
  EXPECT(memcmp(sqlite3_column_blob(statement, 3), stored.histogram, stored.histogram_length) == 0);
  title("[MET-39] while a statement reads the batch nobody can decode it further");
  EXPECT(!datagrams_lock_decode(&world.batch));
  EXPECT(sqlite3_step(statement) == SQLITE_DONE);
  sqlite3_reset(statement);
  EXPECT(datagrams_lock_decode(&world.batch));
  EXPECT(refused(db, world.batch_handle, "metric_batch: the batch is being decoded"));
  datagrams_unlock_decode(&world.batch);
  sqlite3_finalize(statement);
  sqlite3_close(db);
  close_world(&world);
}

int main(void) {
  resolution();
  types();
  steps();
  many_series();
  slices();
  another_kind();
  stable_order();
  in_sql();
  return expect_result();
}

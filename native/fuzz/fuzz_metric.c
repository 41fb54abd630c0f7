/*
 * Any bytes as a metric datagram: every accepted sample keeps the rules, the text of every series
 * is canonical, and decoding in small steps finds what decoding at once finds.
 */
#include <math.h>
#include <stdlib.h>

#include "../handle.h"
#include "../metric_step.h"
#include "../utf8.h"

enum { CAPACITY = 1 << 17, MOST = 1 << 16, RECEIPT = 1000 };

static void must(bool condition) {
  if (!condition) abort();
}

static void keep(void *cache) { (void)cache; }

/* Canonical labels: valid parts, keys strictly rising (MET-3, MET-29). */
static void check_labels(const uint8_t *labels, size_t n) {
  struct label last = {0};
  for (size_t at = 0; at < n;) {
    const uint8_t *start = labels + at;
    const uint8_t *comma = memchr(start, ',', n - at);
    size_t length = comma != NULL ? (size_t)(comma - start) : n - at;
    const uint8_t *equals = memchr(start, '=', length);
    must(equals != NULL);
    struct label now = {start, equals + 1, (uint32_t)(equals - start), (uint32_t)(start + length - equals - 1)};
    must(label_valid(now.key, now.key_length) && label_valid(now.value, now.value_length));
    size_t common = now.key_length < last.key_length ? now.key_length : last.key_length;
    int order = last.key != NULL ? memcmp(last.key, now.key, common) : -1;
    must(order < 0 || (order == 0 && last.key_length < now.key_length));
    last = now;
    at += length + 1;
    must(at != n);
  }
}

/* What is stored is well-formed and as large as its bound allows (MET-39). */
static void check_histogram(const struct metric_sample *sample) {
  const uint8_t *end = sample->histogram + sample->histogram_length;
  must(msgpack_valid(sample->histogram, sample->histogram_length, 2));
  struct msgpack_slice map = {sample->histogram, end}, part;
  struct msgpack_item bounds, counts, number;
  must(msgpack_find_key(map, (const uint8_t *)"counts", 6, &part));
  must(msgpack_read(part.start, part.end, &counts) != NULL && counts.kind == MSGPACK_ARRAY);
  must(msgpack_find_key(map, (const uint8_t *)"boundaries", 10, &part));
  const uint8_t *p = msgpack_read(part.start, part.end, &bounds);
  must(p != NULL && bounds.kind == MSGPACK_ARRAY && bounds.length == counts.length);
  double last = 0;
  for (uint32_t i = 0; i < bounds.length; i++) {
    p = msgpack_read(p, part.end, &number);
    must(p != NULL && number.kind == MSGPACK_FLOAT64 && (i == 0 ? !isnan(number.real) : number.real > last));
    last = number.real;
  }
}

static void resolve(struct metric_step *step) {
  for (uint32_t i = 0; i < metric_step_unresolved(step); i++) {
    struct unresolved_series series = metric_step_series(step, i);
    must(utf8_valid(series.name, series.name_length));
    check_labels(series.labels, series.labels_length);
    must(series.histogram == (series.type == METRIC_HISTOGRAM));
    /* The same id for the same key, also in a later step that has to ask again. */
    uint64_t id = fnv1a64(FNV1A64_START, series.name, series.name_length + 1 + series.labels_length);
    id = fnv1a64(id, &series.boundaries_hash, sizeof series.boundaries_hash) ^ series.histogram;
    metric_step_resolve(step, i, (int64_t)id, series.type);
  }
}

/* Decodes everything in steps of `max`; returns how many samples there were. */
static size_t run(struct datagrams *batch, uint32_t max) {
  struct series_cache *cache = series_cache_new(1000);
  int64_t cache_handle = handle_open(HANDLE_SERIES_CACHE, cache, keep);
  struct metric_step *step = metric_step_open(batch);
  struct datagrams_map rest;
  size_t total = 0;
  do {
    must(handle_acquire(HANDLE_SERIES_CACHE, cache_handle) == cache);
    must(metric_step_decode(step, batch, cache, cache_handle, max));
    size_t decoded = metric_step_count(step);
    must(decoded <= max);
    resolve(step);
    must(metric_step_sort(step) == 0);
    size_t left = metric_step_count(step);
    must(left <= decoded);
    total += left;
    for (size_t i = 0; i < left; i++) {
      struct metric_sample sample = metric_step_sample(step, i);
      must(isfinite(sample.value) && sample.timestamp >= 0);
      if (sample.histogram != NULL) check_histogram(&sample);
      if (i == 0) continue;
      struct metric_sample before = metric_step_sample(step, i - 1);
      must(before.series_id < sample.series_id ||
           (before.series_id == sample.series_id && before.timestamp <= sample.timestamp));
    }
  } while (datagrams_map(batch, &rest));
  batch->decoded.clear(step);
  handle_close(HANDLE_SERIES_CACHE, cache_handle);
  series_cache_free(cache);
  return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct datagrams batch;
  if (batch.bytes == NULL) must(datagrams_init(&batch, CAPACITY));
  size_t counts[2];
  for (int round = 0; round < 2; round++) {
    must(datagrams_append(&batch, RECEIPT, data, size));
    int64_t handle = datagrams_publish(&batch, NULL);
    counts[round] = run(&batch, round == 0 ? MOST : 3);
    handle_close(HANDLE_DATAGRAMS, handle);
  }
  /* A sample of the wrong type goes when it is decoded or when the step is sorted; either way it goes. */
  must(counts[0] == counts[1]);
  return 0;
}

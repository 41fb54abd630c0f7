#include "metric_step.h"

#include <errno.h>
#include <stdlib.h>

#include "handle.h"
#include "sample_order.h"

/* Short of memory. */
#define NO_SERIES UINT32_MAX

/* A decoded sample; `histogram` is an offset into the step's bytes, which may still move. */
struct sample {
  int64_t series_id;
  int64_t timestamp;
  double value;
  size_t histogram;
  uint32_t histogram_length;
  /* Index of its series. */
  uint32_t series;
  uint8_t type;
  /* A slice has had it. */
  bool done;
};

struct series {
  uint64_t hash;
  size_t key; /* offset into the step's bytes */
  size_t key_length;
  uint32_t name_length;
  uint32_t labels_length;
  uint64_t boundaries_hash;
  /* Its place in the cache while the step is being decoded; NULL = it has none. */
  struct series_cache_entry *cached;
  int64_t id;
  uint8_t type;
  /* The type in the store, once resolved. */
  uint8_t stored_type;
  bool histogram;
  bool resolved;
  /* It is among the pending ones. */
  bool asked;
};

struct metric_step {
  struct metric_decoder decoder;
  /* NULL until a step is begun, and again when it is forgotten. */
  struct series_cache *cache;
  int64_t cache_handle; /* 0 = none held */

  struct sample *samples;
  size_t count, room;
  /* Histograms and keys of series. */
  struct msgpack_writer bytes;

  /* The distinct series of the step, and the indexes of those that have to be resolved. */
  struct series *series;
  uint32_t *pending;
  uint32_t series_count, pending_count, series_room;
  /* Finds series by key: index + 1, 0 = free. A power of two, at most half full. */
  uint32_t *table;
  size_t table_size;

  struct sample_place *order;
  size_t order_room;
  bool sorted;
  /* Sorted: the places that are read as a table, and where the next slice begins. */
  size_t slice_first, slice_end, next;
};

enum { FIRST_SAMPLES = 1024, FIRST_SERIES = 64 };

static void forget(void *state) {
  struct metric_step *step = state;
  if (step->cache_handle != 0) handle_release(step->cache_handle);
  step->cache = NULL;
  step->cache_handle = 0;
  step->count = 0;
  step->bytes.length = 0;
  step->bytes.failed = false;
  if (step->series_count > 0) memset(step->table, 0, step->table_size * sizeof *step->table);
  step->series_count = step->pending_count = 0;
  step->sorted = false;
}

static void destroy(void *state) {
  struct metric_step *step = state;
  forget(step);
  metric_decoder_free(&step->decoder);
  msgpack_writer_free(&step->bytes);
  free(step->samples);
  free(step->series);
  free(step->pending);
  free(step->table);
  free(step->order);
  free(step);
}

struct metric_step *metric_step_of(const struct datagrams *batch) {
  struct metric_step *step = batch->decoded.destroy == destroy ? batch->decoded.state : NULL;
  return step != NULL && step->cache != NULL ? step : NULL;
}

struct metric_step *metric_step_open(struct datagrams *batch) {
  if (batch->decoded.state != NULL) {
    errno = EINVAL;
    return batch->decoded.destroy == destroy ? batch->decoded.state : NULL;
  }
  struct metric_step *step = calloc(1, sizeof *step);
  if (step == NULL) return NULL;
  batch->decoded = (struct datagrams_decoded){.state = step, .clear = forget, .destroy = destroy};
  return step;
}

/* ---- Series ---- */

static uint32_t *table_slot(const struct metric_step *step, uint64_t hash, const uint8_t *key, size_t length) {
  size_t mask = step->table_size - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    uint32_t *slot = &step->table[at];
    if (*slot == 0) return slot;
    const struct series *series = &step->series[*slot - 1];
    if (series->hash != hash || series->key_length != length) continue;
    if (memcmp(step->bytes.bytes + series->key, key, length) == 0) return slot;
  }
}

static bool grow_series(struct metric_step *step) {
  if (step->series_count < step->series_room) return true;
  uint32_t room = step->series_room == 0 ? FIRST_SERIES : step->series_room * 2;
  struct series *moved = realloc(step->series, room * sizeof *moved);
  if (moved == NULL) return false;
  step->series = moved;
  uint32_t *pending = realloc(step->pending, room * sizeof *pending);
  if (pending == NULL) return false;
  step->pending = pending;
  uint32_t *table = calloc((size_t)room * 2, sizeof *table);
  if (table == NULL) return false;
  free(step->table);
  step->table = table;
  step->table_size = (size_t)room * 2;
  step->series_room = room;
  for (uint32_t i = 0; i < step->series_count; i++) {
    size_t at = step->series[i].hash & (step->table_size - 1);
    while (table[at] != 0) at = (at + 1) & (step->table_size - 1);
    table[at] = i + 1;
  }
  return true;
}

static void ask_for(struct metric_step *step, uint32_t index) {
  struct series *series = &step->series[index];
  if (series->asked) return;
  series->asked = true;
  series->resolved = false;
  step->pending[step->pending_count++] = index;
}

/* The index of the record's series, which the cache may know; NO_SERIES when memory is short. */
static uint32_t series_of(struct metric_step *step, const struct metric_record *record) {
  const struct series_key *key = &record->key;
  if (!grow_series(step)) return NO_SERIES;
  uint64_t hash = series_cache_hash(step->cache, key->bytes, key->length);
  uint32_t *slot = table_slot(step, hash, key->bytes, key->length);
  if (*slot != 0) {
    struct series *known = &step->series[*slot - 1];
    if (known->cached != NULL) series_cache_use(step->cache, known->cached);
    return *slot - 1;
  }
  size_t offset = step->bytes.length;
  msgpack_write_raw(&step->bytes, key->bytes, key->length);
  if (step->bytes.failed) return NO_SERIES;
  uint32_t index = step->series_count++;
  *slot = index + 1;
  struct series *series = &step->series[index];
  *series = (struct series){
      .hash = hash,
      .key = offset,
      .key_length = key->length,
      .name_length = key->name_length,
      .labels_length = key->labels_length,
      .boundaries_hash = key->boundaries_hash,
      .type = (uint8_t)record->type,
      .histogram = key->histogram,
  };
  series->resolved =
      series_cache_find(step->cache, hash, key->bytes, key->length, &series->id, &series->stored_type);
  if (series->resolved) {
    series->cached = series_cache_found(step->cache);
  } else {
    series_cache_missed(step->cache);
    ask_for(step, index);
  }
  return index;
}

uint32_t metric_step_unresolved(const struct metric_step *step) { return step->pending_count; }

struct unresolved_series metric_step_series(const struct metric_step *step, uint32_t index) {
  const struct series *series = &step->series[step->pending[index]];
  const uint8_t *key = step->bytes.bytes + series->key;
  return (struct unresolved_series){
      .name = key,
      .labels = key + series->name_length + 1,
      .name_length = series->name_length,
      .labels_length = series->labels_length,
      .histogram = series->histogram,
      .boundaries_hash = series->boundaries_hash,
      .type = (enum metric_type)series->type,
  };
}

void metric_step_resolve(struct metric_step *step, uint32_t index, int64_t id, enum metric_type type) {
  struct series *series = &step->series[step->pending[index]];
  series->id = id;
  series->stored_type = (uint8_t)type;
  series->resolved = true;
  step->sorted = false;
  series_cache_lock(step->cache);
  series_cache_put(step->cache, series->hash, step->bytes.bytes + series->key, series->key_length, id, (uint8_t)type);
  series_cache_unlock(step->cache);
}

/* ---- Decoding ---- */

static struct sample *add_sample(struct metric_step *step) {
  if (step->count == step->room) {
    size_t room = step->room == 0 ? FIRST_SAMPLES : step->room * 2;
    struct sample *moved = realloc(step->samples, room * sizeof *moved);
    if (moved == NULL) return NULL;
    step->samples = moved;
    step->room = room;
  }
  return &step->samples[step->count++];
}

/* False: no memory. */
static bool take(struct metric_step *step, const struct metric_record *record) {
  uint32_t index = series_of(step, record);
  if (index == NO_SERIES) return false;
  const struct series *series = &step->series[index];
  if (series->resolved && series->stored_type != record->type) return true;
  size_t histogram = step->bytes.length;
  if (record->key.histogram) metric_write_histogram(&step->bytes, record);
  struct sample *sample = step->bytes.failed ? NULL : add_sample(step);
  if (sample == NULL) return false;
  *sample = (struct sample){
      .timestamp = record->timestamp,
      .value = record->value,
      .histogram = histogram,
      .histogram_length = (uint32_t)(step->bytes.length - histogram),
      .series = index,
      .type = (uint8_t)record->type,
  };
  return true;
}

bool metric_step_decode(struct metric_step *step, struct datagrams *batch, struct series_cache *cache,
                        int64_t cache_handle, uint32_t max) {
  forget(step);
  step->cache = cache;
  step->cache_handle = cache_handle;
  struct datagrams_map map;
  bool room = true;
  series_cache_lock(cache);
  while (room && step->count < max && datagrams_map(batch, &map)) {
    struct metric_record record;
    const uint8_t *after;
    enum metric_verdict verdict = metric_decode(&step->decoder, &map, &record, &after);
    if (verdict == METRIC_VALID) room = take(step, &record);
    if (verdict == METRIC_NO_MEMORY) room = false;
    if (room) datagrams_pass(batch, after);
  }
  series_cache_unlock(cache);
  step->bytes.failed = false;
  return room || step->count > 0;
}

size_t metric_step_count(const struct metric_step *step) { return step->count; }

/* ---- Order ---- */

/* Gives every sample its series and drops those of another type; false when one has none yet. */
static bool settle(struct metric_step *step) {
  for (uint32_t i = 0; i < step->pending_count; i++) {
    if (!step->series[step->pending[i]].resolved) return false;
  }
  size_t kept = 0;
  for (size_t i = 0; i < step->count; i++) {
    struct sample *sample = &step->samples[i];
    const struct series *series = &step->series[sample->series];
    if (sample->type != series->stored_type) continue;
    sample->series_id = series->id;
    step->samples[kept++] = *sample;
  }
  step->count = kept;
  return true;
}

int metric_step_sort(struct metric_step *step) {
  if (step->sorted) return 0;
  /* Twice the samples: sample_order_sort works between two halves. */
  size_t room = step->count * 2;
  if (room > step->order_room) {
    struct sample_place *moved = realloc(step->order, room * sizeof *moved);
    if (moved == NULL) return ENOMEM;
    step->order = moved;
    step->order_room = room;
  }
  if (!settle(step)) return EAGAIN;
  for (size_t i = 0; i < step->count; i++) {
    step->order[i] = (struct sample_place){step->samples[i].series_id, step->samples[i].timestamp, (uint32_t)i};
  }
  sample_order_sort(step->order, step->order + step->count, step->count);
  step->sorted = true;
  step->slice_first = step->next = 0;
  step->slice_end = step->count;
  return 0;
}

bool metric_step_sorted(const struct metric_step *step) { return step->sorted; }

/* ---- Slices ---- */

size_t metric_step_slice(struct metric_step *step, size_t max) {
  size_t left = step->count - step->next;
  step->slice_first = step->next;
  step->slice_end = step->next += left < max ? left : max;
  return step->slice_end - step->slice_first;
}

int64_t metric_step_oldest(const struct metric_step *step) {
  int64_t oldest = INT64_MAX;
  if (!step->sorted) return oldest;
  for (size_t place = step->slice_first; place < step->slice_end; place++) {
    if (step->order[place].timestamp < oldest) oldest = step->order[place].timestamp;
  }
  return oldest;
}

size_t metric_step_left(const struct metric_step *step) { return step->sorted ? step->count - step->next : 0; }

struct metric_slice metric_step_present(const struct metric_step *step) {
  return (struct metric_slice){step->slice_first, step->slice_end};
}

void metric_step_again(struct metric_step *step) {
  if (!step->sorted) return;
  for (size_t place = 0; place < step->next; place++) step->samples[step->order[place].index].done = true;
  for (uint32_t i = 0; i < step->series_count; i++) step->series[i].asked = false;
  step->pending_count = 0;
  size_t kept = 0;
  for (size_t i = 0; i < step->count; i++) {
    if (step->samples[i].done) continue;
    step->samples[kept] = step->samples[i];
    ask_for(step, step->samples[kept++].series);
  }
  step->count = kept;
  step->sorted = false;
}

struct metric_sample metric_step_sample(const struct metric_step *step, size_t place) {
  const struct sample *sample = &step->samples[step->order[place].index];
  return (struct metric_sample){
      .series_id = sample->series_id,
      .timestamp = sample->timestamp,
      .value = sample->value,
      .histogram = sample->histogram_length > 0 ? step->bytes.bytes + sample->histogram : NULL,
      .histogram_length = sample->histogram_length,
  };
}

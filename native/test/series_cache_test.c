#include "../series_cache.h"

#include <stdbool.h>

#include "../labels.h"
#include "expect.h"

static void put(struct series_cache *cache, const char *key, int64_t id, uint8_t type) {
  size_t n = strlen(key);
  uint8_t *copy = exact_copy(key, n);
  series_cache_put(cache, series_cache_hash(cache, copy, n), copy, n, id, type);
  free(copy);
}

/* The id, or -1. */
static int64_t find(struct series_cache *cache, const char *key, uint8_t *type) {
  int64_t id = -1;
  uint8_t found;
  size_t n = strlen(key);
  uint8_t *copy = exact_copy(key, n);
  if (!series_cache_find(cache, series_cache_hash(cache, copy, n), copy, n, &id, type != NULL ? type : &found)) id = -1;
  free(copy);
  return id;
}

static uint32_t entries(const struct series_cache *cache) { return series_cache_status(cache).entries; }

static void hits(void) {
  title("[MET-32] [MET-37] a series is found by its whole key, with id and type, and counted");
  struct series_cache *cache = series_cache_new(1000);
  uint8_t type = 9;
  put(cache, "a", 1, 0);
  put(cache, "ab", 2, 2);
  put(cache, "", INT64_MIN, 1);
  EXPECT(find(cache, "a", &type) == 1 && type == 0);
  EXPECT(find(cache, "ab", &type) == 2 && type == 2);
  EXPECT(find(cache, "", &type) == INT64_MIN && type == 1);
  EXPECT(find(cache, "b", NULL) == -1);
  put(cache, "a", 7, 1);
  EXPECT(find(cache, "a", &type) == 7 && type == 1 && entries(cache) == 3);
  series_cache_missed(cache);
  struct series_cache_status now = series_cache_status(cache);
  EXPECT(now.hits == 4 && now.misses == 1);
  series_cache_free(cache);
}

static void collisions(void) {
  title("[MET-31] [MET-32] keys with the same hash stay apart");
  struct series_cache *cache = series_cache_new(1000);
  uint8_t type;
  int64_t id = 0;
  for (int i = 0; i < 100; i++) series_cache_put(cache, 42, (uint8_t[]){(uint8_t)i}, 1, i, 0);
  for (int i = 0; i < 100; i++) {
    EXPECT(series_cache_find(cache, 42, (uint8_t[]){(uint8_t)i}, 1, &id, &type) && id == i);
  }
  EXPECT(!series_cache_find(cache, 42, (uint8_t[]){100}, 1, &id, &type));
  EXPECT(!series_cache_find(cache, 43, (uint8_t[]){1}, 1, &id, &type));
  series_cache_free(cache);
}

static void recency(void) {
  title("[MET-32] a full cache gives up what was not used for longest");
  /* Small entries: the bound in bytes does not show. */
  struct series_cache *cache = series_cache_new(64);
  char key[16];
  for (int i = 0; i < 64; i++) snprintf(key, sizeof key, "k%d", i), put(cache, key, i, 0);
  EXPECT(find(cache, "k0", NULL) == 0);
  put(cache, "new", 1000, 0);
  EXPECT(find(cache, "k0", NULL) == 0 && find(cache, "k1", NULL) == -1 && find(cache, "k2", NULL) == 2);
  put(cache, "newer", 1001, 0);
  EXPECT(find(cache, "k3", NULL) == -1 && find(cache, "k4", NULL) == 4 && entries(cache) == 64);
  series_cache_free(cache);
}

static void transactions(void) {
  title("[MET-37] entries of a transaction go when it is rolled back, and only those");
  struct series_cache *cache = series_cache_new(1000);
  put(cache, "kept", 1, 0);
  series_cache_committed(cache);
  put(cache, "lost", 2, 0);
  put(cache, "kept too", 3, 0);
  EXPECT(find(cache, "kept", NULL) == 1);
  series_cache_rolled_back(cache);
  EXPECT(find(cache, "kept", NULL) == 1 && find(cache, "lost", NULL) == -1 && find(cache, "kept too", NULL) == -1);
  put(cache, "lost", 4, 0);
  series_cache_committed(cache);
  series_cache_rolled_back(cache);
  EXPECT(find(cache, "lost", NULL) == 4 && entries(cache) == 2);
  /* What replaced a committed entry is as uncertain as a new one. */
  put(cache, "kept", 5, 0);
  series_cache_rolled_back(cache);
  EXPECT(find(cache, "kept", NULL) == -1 && entries(cache) == 1);
  series_cache_free(cache);
}

static void deletion(void) {
  title("[MET-37] series that were deleted are forgotten, in any order and number");
  struct series_cache *cache = series_cache_new(1000);
  char key[16];
  for (int i = 0; i < 500; i++) snprintf(key, sizeof key, "k%d", i), put(cache, key, i, 0);
  int64_t ids[300];
  for (int i = 0; i < 300; i++) ids[i] = (int64_t)((i * 7) % 300) * 2 - 50;
  series_cache_forget(cache, ids, 300);
  series_cache_forget(cache, NULL, 0);
  for (int i = 0; i < 500; i++) {
    snprintf(key, sizeof key, "k%d", i);
    EXPECT(find(cache, key, NULL) == (i % 2 == 0 ? -1 : i));
  }
  series_cache_free(cache);
}

static void capacity(void) {
  title("[MET-37] a changed capacity applies at once");
  struct series_cache *cache = series_cache_new(10000);
  char key[16];
  for (int i = 0; i < 5000; i++) snprintf(key, sizeof key, "k%d", i), put(cache, key, i, 0);
  size_t before = series_cache_status(cache).bytes;
  series_cache_limit(cache, 1000);
  EXPECT(entries(cache) == 1000 && series_cache_status(cache).bytes < before / 3);
  EXPECT(find(cache, "k3999", NULL) == -1 && find(cache, "k4000", NULL) == 4000 && find(cache, "k4999", NULL) == 4999);
  put(cache, "one more", 1, 0);
  EXPECT(entries(cache) == 1000);
  series_cache_limit(cache, 2000);
  put(cache, "two more", 2, 0);
  EXPECT(entries(cache) == 1001 && find(cache, "k4002", NULL) == 4002);
  series_cache_free(cache);
}

/* ---- Against a plain model ---- */

enum { MODEL_KEYS = 40, MODEL_CAPACITY = 16 };

struct model {
  struct {
    int key;
    int64_t id;
    bool uncommitted;
  } used[MODEL_KEYS]; /* newest first */
  int count, capacity;
};

static int model_at(const struct model *model, int key) {
  for (int i = 0; i < model->count; i++) {
    if (model->used[i].key == key) return i;
  }
  return -1;
}

static void model_remove(struct model *model, int at) {
  memmove(model->used + at, model->used + at + 1, (size_t)(model->count - at - 1) * sizeof *model->used);
  model->count--;
}

static void model_front(struct model *model, int key, int64_t id, bool uncommitted) {
  memmove(model->used + 1, model->used, (size_t)model->count * sizeof *model->used);
  model->used[0].key = key;
  model->used[0].id = id;
  model->used[0].uncommitted = uncommitted;
  model->count++;
}

static void one_step(struct model *model, struct series_cache *cache, uint32_t chance, int key, int64_t id) {
  char name[16];
  snprintf(name, sizeof name, "key %d", key);
  int at = model_at(model, key);
  if (chance < 45) {
    EXPECT(find(cache, name, NULL) == (at < 0 ? -1 : model->used[at].id));
    if (at < 0) return;
    int64_t known = model->used[at].id;
    bool uncommitted = model->used[at].uncommitted;
    model_remove(model, at);
    model_front(model, key, known, uncommitted);
  } else if (chance < 88) {
    put(cache, name, id, 0);
    if (at >= 0) model_remove(model, at);
    if (model->count == model->capacity) model->count--;
    model_front(model, key, id, true);
  } else if (chance < 92) {
    series_cache_committed(cache);
    for (int i = 0; i < model->count; i++) model->used[i].uncommitted = false;
  } else if (chance < 95) {
    series_cache_rolled_back(cache);
    for (int i = model->count; i-- > 0;) {
      if (model->used[i].uncommitted) model_remove(model, i);
    }
  } else if (chance < 98) {
    int64_t ids[] = {id / 2, at < 0 ? id : model->used[at].id};
    for (int i = model->count; i-- > 0;) {
      if (model->used[i].id == ids[0] || model->used[i].id == ids[1]) model_remove(model, i);
    }
    series_cache_forget(cache, ids, 2);
  } else {
    model->capacity = 1 + key % MODEL_CAPACITY;
    if (model->count > model->capacity) model->count = model->capacity;
    series_cache_limit(cache, (uint32_t)model->capacity);
  }
  EXPECT(entries(cache) == (uint32_t)model->count);
}

static void against_model(void) {
  title("[MET-32] [MET-37] 200,000 random operations agree with a plain list in order of use");
  struct model model = {.capacity = MODEL_CAPACITY};
  struct series_cache *cache = series_cache_new(MODEL_CAPACITY);
  uint64_t state = 88172645463325252u;
  for (int64_t i = 1; i <= 200000 && expect_failures == 0; i++) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    one_step(&model, cache, (uint32_t)(state % 100), (int)((state >> 32) % MODEL_KEYS), i);
  }
  series_cache_free(cache);
}

/* ---- Memory ---- */

static void bounded(void) {
  title("[MET-34] a million series through 50,000 entries stay within 15 MB, 300 bytes for each");
  struct series_cache *cache = series_cache_new(50000);
  char key[128];
  size_t most = 0;
  for (int i = 0; i < 1000000; i++) {
    snprintf(key, sizeof key, "http.requests.total\xffhost=server%d,method=GET,path=/api/v1/things,status=200", i);
    put(cache, key, i, 0);
    if (i % 4096 == 0) series_cache_committed(cache);
    size_t bytes = series_cache_status(cache).bytes;
    if (bytes > most) most = bytes;
  }
  EXPECT(entries(cache) == 50000);
  EXPECT(most <= 50000 * 300 && most / 50000 >= 100);
  series_cache_free(cache);
}

static void long_keys(void) {
  title("[MET-34] names and labels of any length cannot take more than the cache was given");
  struct series_cache *cache = series_cache_new(1000);
  size_t limit = 1000 * SERIES_CACHE_ENTRY_BYTES, table = series_cache_status(cache).bytes;
  enum { LONGEST = 212992 };
  uint8_t *key = malloc(LONGEST);
  if (key == NULL) abort();
  memset(key, 'x', LONGEST);
  for (uint32_t i = 0; i < 5000; i++) {
    memcpy(key, &i, sizeof i);
    size_t n = i % 3 == 0 ? 100 : i % 3 == 1 ? 5000 : LONGEST;
    series_cache_put(cache, series_cache_hash(cache, key, n), key, n, i, 0);
    EXPECT(series_cache_status(cache).bytes <= limit + table + 1024 * sizeof(void *));
  }
  /* What is too large is left out; what is merely long still finds its place. */
  int64_t id;
  uint8_t type;
  for (uint32_t i = 4998; i < 5000; i++) {
    memcpy(key, &i, sizeof i);
    size_t n = i % 3 == 0 ? 100 : 5000;
    EXPECT(series_cache_find(cache, series_cache_hash(cache, key, n), key, n, &id, &type) && id == i);
  }
  memcpy(key, &(uint32_t){4997}, 4);
  EXPECT(!series_cache_find(cache, series_cache_hash(cache, key, LONGEST), key, LONGEST, &id, &type));
  EXPECT(entries(cache) > 90);
  free(key);
  series_cache_free(cache);
}

int main(void) {
  hits();
  collisions();
  recency();
  transactions();
  deletion();
  capacity();
  against_model();
  bounded();
  long_keys();
  return expect_result();
}

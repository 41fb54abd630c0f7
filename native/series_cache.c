#include "series_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "siphash.h"

/* The heap's own header and rounding, on average. */
enum { HEAP_BYTES = 16, MIN_BUCKETS = 256 };

/* No long entry takes more than this part of all memory, so that a few cannot empty the cache. */
enum { LARGEST_PART = 64 };

struct entry {
  struct entry *next_in_bucket;
  /* Order of use: the cache's `used` is the ring's anchor. */
  struct entry *newer, *older;
  uint64_t hash;
  int64_t id;
  uint32_t key_length;
  /* The transaction that put it; see `era`. */
  uint32_t era;
  uint8_t type;
  uint8_t key[];
};

struct series_cache {
  pthread_mutex_t lock;
  struct siphash_key secret;
  struct entry **buckets;
  size_t bucket_count; /* a power of two */
  struct entry used;   /* anchor: `older` is the newest entry, `newer` the oldest */
  uint32_t entries, capacity;
  size_t entry_bytes;
  /* Rises with every commit; entries of the present one may still be rolled back. */
  uint32_t era;
  uint32_t uncommitted;
  uint64_t hits, misses;
};

static size_t entry_size(size_t key_length) { return sizeof(struct entry) + key_length + HEAP_BYTES; }

static size_t byte_limit(const struct series_cache *cache) {
  return (size_t)cache->capacity * SERIES_CACHE_ENTRY_BYTES;
}

struct series_cache *series_cache_new(uint32_t capacity) {
  struct series_cache *cache = calloc(1, sizeof *cache);
  if (cache == NULL) return NULL;
  cache->buckets = calloc(MIN_BUCKETS, sizeof *cache->buckets);
  if (cache->buckets == NULL) {
    free(cache);
    return NULL;
  }
  cache->bucket_count = MIN_BUCKETS;
  cache->capacity = capacity;
  cache->used.newer = cache->used.older = &cache->used;
  cache->secret = siphash_random_key();
  pthread_mutex_init(&cache->lock, NULL);
  return cache;
}

void series_cache_free(struct series_cache *cache) {
  if (cache == NULL) return;
  for (struct entry *entry = cache->used.older; entry != &cache->used;) {
    struct entry *older = entry->older;
    free(entry);
    entry = older;
  }
  free(cache->buckets);
  pthread_mutex_destroy(&cache->lock);
  free(cache);
}

void series_cache_lock(struct series_cache *cache) { pthread_mutex_lock(&cache->lock); }
void series_cache_unlock(struct series_cache *cache) { pthread_mutex_unlock(&cache->lock); }

uint64_t series_cache_hash(const struct series_cache *cache, const uint8_t *key, size_t length) {
  return siphash13(&cache->secret, key, length);
}

/* ---- Order of use ---- */

static void unlink_use(struct entry *entry) {
  entry->newer->older = entry->older;
  entry->older->newer = entry->newer;
}

static void link_newest(struct series_cache *cache, struct entry *entry) {
  entry->newer = &cache->used;
  entry->older = cache->used.older;
  entry->older->newer = entry;
  cache->used.older = entry;
}

/* ---- Buckets ---- */

static struct entry **bucket_of(const struct series_cache *cache, uint64_t hash) {
  return &cache->buckets[hash & (cache->bucket_count - 1)];
}

/* The link that leads to the key's entry, or to where it would be. */
static struct entry **find_link(const struct series_cache *cache, uint64_t hash, const uint8_t *key, size_t length) {
  struct entry **link = bucket_of(cache, hash);
  for (; *link != NULL; link = &(*link)->next_in_bucket) {
    const struct entry *entry = *link;
    /* Hashes only narrow; the whole key decides (MET-31). */
    if (entry->hash == hash && entry->key_length == length && memcmp(entry->key, key, length) == 0) break;
  }
  return link;
}

/* Without memory for another table the present one goes on, with longer chains. */
static void rehash(struct series_cache *cache, size_t bucket_count) {
  struct entry **buckets = calloc(bucket_count, sizeof *buckets);
  if (buckets == NULL) return;
  free(cache->buckets);
  cache->buckets = buckets;
  cache->bucket_count = bucket_count;
  for (struct entry *entry = cache->used.older; entry != &cache->used; entry = entry->older) {
    struct entry **bucket = bucket_of(cache, entry->hash);
    entry->next_in_bucket = *bucket;
    *bucket = entry;
  }
}

static void remove_entry(struct series_cache *cache, struct entry *entry) {
  struct entry **link = bucket_of(cache, entry->hash);
  while (*link != entry) link = &(*link)->next_in_bucket;
  *link = entry->next_in_bucket;
  unlink_use(entry);
  cache->entries--;
  cache->entry_bytes -= entry_size(entry->key_length);
  free(entry);
}

/* Drops the least recently used entries until both bounds hold, with `bytes` more in mind. */
static void make_room(struct series_cache *cache, uint32_t entries, size_t bytes) {
  while (cache->entries > 0 && (cache->entries + (uint64_t)entries > cache->capacity ||
                                cache->entry_bytes + bytes > byte_limit(cache))) {
    remove_entry(cache, cache->used.newer);
  }
}

bool series_cache_find(struct series_cache *cache, uint64_t hash, const uint8_t *key, size_t length, int64_t *id,
                       uint8_t *type) {
  struct entry *entry = *find_link(cache, hash, key, length);
  if (entry == NULL) return false;
  unlink_use(entry);
  link_newest(cache, entry);
  cache->hits++;
  *id = entry->id;
  *type = entry->type;
  return true;
}

struct series_cache_entry *series_cache_found(struct series_cache *cache) {
  return (struct series_cache_entry *)cache->used.older;
}

void series_cache_use(struct series_cache *cache, struct series_cache_entry *found) {
  struct entry *entry = (struct entry *)found;
  unlink_use(entry);
  link_newest(cache, entry);
  cache->hits++;
}

void series_cache_missed(struct series_cache *cache) { cache->misses++; }

void series_cache_put(struct series_cache *cache, uint64_t hash, const uint8_t *key, size_t length, int64_t id,
                      uint8_t type) {
  struct entry *known = *find_link(cache, hash, key, length);
  if (known != NULL) remove_entry(cache, known);
  size_t size = entry_size(length);
  if (size > SERIES_CACHE_ENTRY_BYTES && size > byte_limit(cache) / LARGEST_PART) return;
  struct entry *entry = malloc(sizeof *entry + length);
  if (entry == NULL) return;
  make_room(cache, 1, size);
  if (cache->entries >= cache->bucket_count) rehash(cache, cache->bucket_count * 2);
  *entry = (struct entry){
      .hash = hash, .id = id, .key_length = (uint32_t)length, .era = cache->era, .type = type};
  memcpy(entry->key, key, length);
  struct entry **bucket = bucket_of(cache, hash);
  entry->next_in_bucket = *bucket;
  *bucket = entry;
  link_newest(cache, entry);
  cache->entries++;
  cache->entry_bytes += size;
  cache->uncommitted++;
}

void series_cache_limit(struct series_cache *cache, uint32_t capacity) {
  cache->capacity = capacity;
  make_room(cache, 0, 0);
  size_t buckets = cache->bucket_count;
  while (buckets > MIN_BUCKETS && buckets / 2 >= capacity) buckets /= 2;
  if (buckets < cache->bucket_count) rehash(cache, buckets);
}

void series_cache_committed(struct series_cache *cache) {
  cache->era++;
  cache->uncommitted = 0;
}

/*
 * A failed commit is rare, so it may look at every entry. After 2^32 commits an old entry can bear
 * the present era again; it then goes without need and costs a SELECT.
 */
void series_cache_rolled_back(struct series_cache *cache) {
  if (cache->uncommitted > 0) {
    for (struct entry *entry = cache->used.older; entry != &cache->used;) {
      struct entry *older = entry->older;
      if (entry->era == cache->era) remove_entry(cache, entry);
      entry = older;
    }
  }
  cache->uncommitted = 0;
}

static int compare_ids(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return left < right ? -1 : left > right;
}

void series_cache_forget(struct series_cache *cache, int64_t *ids, size_t count) {
  if (count == 0) return;
  qsort(ids, count, sizeof *ids, compare_ids);
  for (struct entry *entry = cache->used.older; entry != &cache->used;) {
    struct entry *older = entry->older;
    if (bsearch(&entry->id, ids, count, sizeof *ids, compare_ids) != NULL) remove_entry(cache, entry);
    entry = older;
  }
}

struct series_cache_status series_cache_status(const struct series_cache *cache) {
  return (struct series_cache_status){
      .entries = cache->entries,
      .bytes = sizeof *cache + cache->bucket_count * sizeof *cache->buckets + cache->entry_bytes,
      .hits = cache->hits,
      .misses = cache->misses,
  };
}

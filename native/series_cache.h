/*
 * The bounded cache in front of the `series` table (MET-32..37): series key to id and type, least
 * recently used entries first to go.
 *
 * Two bounds hold: the capacity in entries, and SERIES_CACHE_ENTRY_BYTES of memory for each of them,
 * because a stranger may send names and labels of any length. Entries of usual size (MET-34) never
 * meet the second one. Keys are looked up by a keyed hash and compared whole.
 *
 * Not thread-safe by itself: hold series_cache_lock around calls.
 */
#ifndef EVENTD_SERIES_CACHE_H
#define EVENTD_SERIES_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an entry may take on average: about twice what MET-34 plans for. */
#define SERIES_CACHE_ENTRY_BYTES 512

struct series_cache;

struct series_cache_status {
  uint32_t entries;
  /* All memory of the cache. */
  size_t bytes;
  uint64_t hits, misses;
};

/* NULL: no memory. The capacity is at least 1. */
struct series_cache *series_cache_new(uint32_t capacity);
void series_cache_free(struct series_cache *cache);

void series_cache_lock(struct series_cache *cache);
void series_cache_unlock(struct series_cache *cache);

/* The hash that the other functions take with a key. */
uint64_t series_cache_hash(const struct series_cache *cache, const uint8_t *key, size_t length);

/* Looks a series up and makes it the most recently used one. Counts a hit, but not a miss. */
bool series_cache_find(struct series_cache *cache, uint64_t hash, const uint8_t *key, size_t length, int64_t *id,
                       uint8_t *type);
/* A key that needs SQL now (MET-32). */
void series_cache_missed(struct series_cache *cache);

/*
 * Right after a find that succeeded: what it found, so that further uses need no search. Good until the
 * cache changes; hold its lock.
 */
struct series_cache_entry;
struct series_cache_entry *series_cache_found(struct series_cache *cache);
void series_cache_use(struct series_cache *cache, struct series_cache_entry *entry);

/*
 * Remembers a series, in place of what was known under its key. One that would take a large part of
 * the cache for itself, or for which there is no memory, is left out: it costs a SELECT each time.
 */
void series_cache_put(struct series_cache *cache, uint64_t hash, const uint8_t *key, size_t length, int64_t id,
                      uint8_t type);

/* A new capacity, at once (MET-37). */
void series_cache_limit(struct series_cache *cache, uint32_t capacity);

/* Entries put since the last call of either stay for good, or go (MET-37). */
void series_cache_committed(struct series_cache *cache);
void series_cache_rolled_back(struct series_cache *cache);

/* Removes the entries of these series (MET-37). Sorts the ids. */
void series_cache_forget(struct series_cache *cache, int64_t *ids, size_t count);

struct series_cache_status series_cache_status(const struct series_cache *cache);

#endif

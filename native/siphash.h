/*
 * SipHash-1-3: a keyed hash for tables whose keys strangers choose. Without the key nobody can
 * prepare keys that all fall into one bucket.
 */
#ifndef EVENTD_SIPHASH_H
#define EVENTD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
  uint64_t words[2];
};

/* A fresh random key. Never waits, not even for the entropy pool of a machine that has just started. */
struct siphash_key siphash_random_key(void);

uint64_t siphash13(const struct siphash_key *key, const void *bytes, size_t n);

#endif

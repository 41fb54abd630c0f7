#include "siphash.h"

#include <string.h>
#include <sys/random.h>

#include "clock.h"

#ifndef GRND_INSECURE
#define GRND_INSECURE 0x0004
#endif

static uint64_t rotate(uint64_t value, unsigned by) { return value << by | value >> (64 - by); }

struct lanes {
  uint64_t a, b, c, d;
};

static inline void mix(struct lanes *v) {
  v->a += v->b;
  v->b = rotate(v->b, 13) ^ v->a;
  v->a = rotate(v->a, 32);
  v->c += v->d;
  v->d = rotate(v->d, 16) ^ v->c;
  v->a += v->d;
  v->d = rotate(v->d, 21) ^ v->a;
  v->c += v->b;
  v->b = rotate(v->b, 17) ^ v->c;
  v->c = rotate(v->c, 32);
}

static inline void absorb(struct lanes *v, uint64_t word) {
  v->d ^= word;
  mix(v);
  v->a ^= word;
}

uint64_t siphash13(const struct siphash_key *key, const void *bytes, size_t n) {
  struct lanes v = {
      key->words[0] ^ UINT64_C(0x736f6d6570736575),
      key->words[1] ^ UINT64_C(0x646f72616e646f6d),
      key->words[0] ^ UINT64_C(0x6c7967656e657261),
      key->words[1] ^ UINT64_C(0x7465646279746573),
  };
  const uint8_t *p = bytes;
  size_t left = n;
  for (; left >= 8; left -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    absorb(&v, word);
  }
  uint64_t last = 0;
  if (left > 0) memcpy(&last, p, left);
  absorb(&v, last | (uint64_t)n << 56);
  v.c ^= 0xff;
  for (int i = 0; i < 3; i++) mix(&v);
  return v.a ^ v.b ^ v.c ^ v.d;
}

struct siphash_key siphash_random_key(void) {
  struct siphash_key key;
  if (getrandom(&key, sizeof key, GRND_INSECURE) == sizeof key) return key;
  if (getrandom(&key, sizeof key, GRND_NONBLOCK) == sizeof key) return key;
  /* An old kernel, minutes after its start: hard to guess from outside is all that is left. */
  key.words[0] = clock_realtime() ^ (uint64_t)(uintptr_t)&key;
  key.words[1] = clock_monotonic() ^ (uint64_t)(uintptr_t)&siphash13;
  return key;
}

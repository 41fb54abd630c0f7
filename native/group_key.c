#include "group_key.h"

#include <math.h>
#include <string.h>

#define TWO_63 9223372036854775808.0
#define TWO_64 18446744073709551616.0

/* The ulp of a float64 just below 2^64. */
#define LARGEST_REST 2047

enum { TYPE_INTEGER, TYPE_REAL };

static __int128 whole_of(const struct number *number) {
  return number->kind == NUMBER_UINT ? (__int128)number->uint : (__int128)number->sint;
}

/* The largest float64 not above an integer of 64 bits. */
static double floor_of(__int128 whole) {
  double near = (double)whole;
  return (__int128)near > whole ? nextafter(near, -INFINITY) : near;
}

void group_key_of_number(uint8_t key[GROUP_KEY_NUMBER_FULL], const struct number *number) {
  bool is_real = number->kind == NUMBER_REAL;
  /* Adding zero makes -0 the 0 it equals. */
  double floor = is_real ? number->real + 0.0 : floor_of(whole_of(number));
  unsigned rest = is_real ? 0 : (unsigned)(whole_of(number) - (__int128)floor);
  uint64_t bits;
  memcpy(&bits, &floor, sizeof bits);
  bits = bits >> 63 != 0 ? ~bits : bits | UINT64_C(1) << 63;
  bits = __builtin_bswap64(bits);
  key[0] = GROUP_KEY_NUMBER;
  memcpy(key + 1, &bits, sizeof bits);
  key[9] = (uint8_t)(rest >> 8);
  key[10] = (uint8_t)rest;
  key[11] = is_real ? TYPE_REAL : TYPE_INTEGER;
}

static bool read_number(const uint8_t *key, size_t length, struct number *number) {
  if (length != GROUP_KEY_NUMBER_BASE && length != GROUP_KEY_NUMBER_FULL) return false;
  uint64_t bits;
  memcpy(&bits, key + 1, sizeof bits);
  bits = __builtin_bswap64(bits);
  bits = bits >> 63 != 0 ? bits & ~(UINT64_C(1) << 63) : ~bits;
  double floor;
  memcpy(&floor, &bits, sizeof floor);
  unsigned rest = (unsigned)key[9] << 8 | key[10];
  if (isnan(floor) || rest > LARGEST_REST) return false;
  bool integral = floor >= -TWO_63 && floor < TWO_64 && floor == trunc(floor);
  bool is_real = length == GROUP_KEY_NUMBER_FULL ? key[11] == TYPE_REAL : !integral;
  if (is_real) {
    *number = (struct number){.kind = NUMBER_REAL, .real = floor};
    return true;
  }
  if (!integral) return false;
  __int128 whole = (__int128)floor + rest;
  if (whole > (__int128)UINT64_MAX) return false;
  if (whole < 0) {
    *number = (struct number){.kind = NUMBER_SINT, .sint = (int64_t)whole};
  } else {
    *number = (struct number){.kind = NUMBER_UINT, .uint = (uint64_t)whole};
  }
  return true;
}

bool group_key_read(const uint8_t *key, size_t length, struct group_key *out) {
  if (key == NULL || length == 0 || key[0] > GROUP_KEY_BYTES) return false;
  *out = (struct group_key){.kind = key[0]};
  switch (out->kind) {
    case GROUP_KEY_NULL: return length == 1;
    case GROUP_KEY_NUMBER: return read_number(key, length, &out->number);
    default:
      out->bytes = key + 1;
      out->length = length - 1;
      return true;
  }
}

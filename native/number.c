#include "number.h"

#define TWO_63 9223372036854775808.0
#define TWO_64 18446744073709551616.0

struct number number_of_int(int64_t value) {
  if (value < 0) return (struct number){.kind = NUMBER_SINT, .sint = value};
  return (struct number){.kind = NUMBER_UINT, .uint = (uint64_t)value};
}

bool number_parse(struct number *number, const uint8_t *text, size_t length) {
  bool negative = length > 0 && text[0] == '-';
  uint64_t value = 0;
  size_t i = negative;
  if (i == length) return false;
  for (; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    if (__builtin_mul_overflow(value, 10, &value)) return false;
    if (__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) return false;
  }
  if (!negative || value == 0) {
    *number = (struct number){.kind = NUMBER_UINT, .uint = value};
    return true;
  }
  if (value > (uint64_t)INT64_MAX + 1) return false;
  *number = (struct number){.kind = NUMBER_SINT, .sint = (int64_t)-value};
  return true;
}

static int compare_uint(uint64_t a, uint64_t b) {
  return a < b ? -1 : a > b;
}

static int compare_sint(int64_t a, int64_t b) {
  return a < b ? -1 : a > b;
}

static int compare_real(double a, double b) {
  return a < b ? -1 : a > b;
}

/*
 * The real's whole part is exact in an integer once it is in range, so the integers decide and,
 * when they are equal, the fraction that was cut off.
 */
static int compare_int_real(const struct number *a, double b) {
  if (a->kind == NUMBER_UINT) {
    if (b < 0) return 1;
    if (b >= TWO_64) return -1;
    uint64_t whole = (uint64_t)b;
    return a->uint != whole ? compare_uint(a->uint, whole) : compare_real((double)whole, b);
  }
  if (b >= 0) return -1;
  if (b < -TWO_63) return 1;
  int64_t whole = (int64_t)b;
  return a->sint != whole ? compare_sint(a->sint, whole) : compare_real((double)whole, b);
}

int number_compare(const struct number *a, const struct number *b) {
  if (a->kind == NUMBER_REAL) {
    return b->kind == NUMBER_REAL ? compare_real(a->real, b->real) : -compare_int_real(b, a->real);
  }
  if (b->kind == NUMBER_REAL) return compare_int_real(a, b->real);
  if (a->kind != b->kind) return a->kind == NUMBER_UINT ? 1 : -1;
  return a->kind == NUMBER_UINT ? compare_uint(a->uint, b->uint) : compare_sint(a->sint, b->sint);
}

/* Exact comparison of numbers of different types (QL-23): never by rounding one to the other. */
#ifndef EVENTD_NUMBER_H
#define EVENTD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum number_kind { NUMBER_UINT, NUMBER_SINT, NUMBER_REAL };

struct number {
  enum number_kind kind;
  /* NUMBER_UINT: any value that is zero or more. */
  uint64_t uint;
  /* NUMBER_SINT: a negative value. */
  int64_t sint;
  /* NUMBER_REAL: anything but NaN. */
  double real;
};

struct number number_of_int(int64_t value);

/* Decimal digits with an optional minus sign, within -2^63..2^64-1; false for anything else. */
bool number_parse(struct number *number, const uint8_t *text, size_t length);

/* -1, 0 or 1 as the mathematical value of `a` is below, equal to or above that of `b`. */
int number_compare(const struct number *a, const struct number *b);

#endif

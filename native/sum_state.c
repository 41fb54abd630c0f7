#include "sum_state.h"

#include <math.h>

/* Neumaier's sum: `lost` collects what `real` could not take. */
static void add_real(struct sum_state *sum, double value) {
  double next = sum->real + value;
  if (isfinite(next)) {
    sum->lost += fabs(sum->real) >= fabs(value) ? (sum->real - next) + value : (value - next) + sum->real;
  }
  sum->real = next;
}

void sum_state_add(struct sum_state *sum, const struct number *number) {
  if (number->kind == NUMBER_REAL) {
    add_real(sum, number->real);
    sum->reals++;
  } else {
    sum->whole += number->kind == NUMBER_UINT ? (__int128)number->uint : (__int128)number->sint;
    sum->integers++;
  }
}

void sum_state_join(struct sum_state *sum, const struct sum_state *other) {
  sum->whole += other->whole;
  add_real(sum, other->real);
  sum->lost += other->lost;
  sum->integers += other->integers;
  sum->reals += other->reals;
}

static long double total(const struct sum_state *sum) {
  long double real = isfinite(sum->real) ? (long double)sum->real + sum->lost : (long double)sum->real;
  return (long double)sum->whole + real;
}

struct number sum_state_sum(const struct sum_state *sum) {
  if (sum->reals == 0 && sum->whole >= INT64_MIN && sum->whole <= INT64_MAX) {
    return number_of_int((int64_t)sum->whole);
  }
  return (struct number){.kind = NUMBER_REAL, .real = (double)total(sum)};
}

double sum_state_mean(const struct sum_state *sum) {
  return (double)(total(sum) / (long double)(sum->integers + sum->reals));
}

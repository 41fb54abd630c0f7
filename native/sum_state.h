/*
 * Sums of numbers, exact as long as all of them are integers (QL-69). States of several databases are
 * joined into one, whatever their order; they travel as BLOBs of this very layout.
 */
#ifndef EVENTD_SUM_STATE_H
#define EVENTD_SUM_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "number.h"

struct sum_state {
  /* Of the integers; 2^63 of the largest fit. */
  __int128 whole;
  /* Of the floats, with what rounding has cost so far. */
  double real;
  double lost;
  uint64_t integers;
  uint64_t reals;
};

void sum_state_add(struct sum_state *sum, const struct number *number);
void sum_state_join(struct sum_state *sum, const struct sum_state *other);

/* The sum: an integer if there are no floats and it fits int64, else a float, which may be NaN. */
struct number sum_state_sum(const struct sum_state *sum);
/* The mean; NaN for a sum of nothing. */
double sum_state_mean(const struct sum_state *sum);

#endif

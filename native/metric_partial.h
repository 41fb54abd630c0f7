/*
 * Partial aggregates of the samples of one series in one window or range. They add up: a partial of
 * two adjoining pieces is the merge of their partials, so a piece may as well come from stored
 * rollups (ROL-25, ROL-26).
 */
#ifndef EVENTD_METRIC_PARTIAL_H
#define EVENTD_METRIC_PARTIAL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* AVG, MIN, MAX and SUM of numbers; also what a window function does. */
enum metric_fold { FOLD_AVG, FOLD_MIN, FOLD_MAX, FOLD_SUM };

/* A sum that keeps what rounding took from it (Neumaier), so its error does not grow with the count. */
struct metric_sum {
  double sum;
  double rest;
};

static inline void metric_sum_add(struct metric_sum *to, double value) {
  double sum = to->sum + value;
  to->rest += fabs(to->sum) >= fabs(value) ? (to->sum - sum) + value : (value - sum) + to->sum;
  to->sum = sum;
}

static inline double metric_sum_value(const struct metric_sum *sum) {
  /* Beyond the finite there is nothing to correct, and the rest is no number. */
  return isfinite(sum->sum) ? sum->sum + sum->rest : sum->sum;
}

/* All zero: of nothing. */
struct metric_partial {
  struct metric_sum sum;
  uint64_t count;
  double min;
  double max;
  /* Timestamp of the newest sample (QL-109). */
  int64_t newest;
};

static inline void metric_partial_add(struct metric_partial *to, double value, int64_t timestamp) {
  metric_sum_add(&to->sum, value);
  if (to->count == 0 || value < to->min) to->min = value;
  if (to->count == 0 || value > to->max) to->max = value;
  if (to->count == 0 || timestamp > to->newest) to->newest = timestamp;
  to->count++;
}

static inline void metric_partial_merge(struct metric_partial *to, const struct metric_partial *from) {
  if (from->count == 0) return;
  metric_sum_add(&to->sum, from->sum.sum);
  to->sum.rest += from->sum.rest;
  if (to->count == 0 || from->min < to->min) to->min = from->min;
  if (to->count == 0 || from->max > to->max) to->max = from->max;
  if (to->count == 0 || from->newest > to->newest) to->newest = from->newest;
  to->count += from->count;
}

/* `count` is not 0. */
static inline double metric_partial_value(const struct metric_partial *partial, enum metric_fold fold) {
  switch (fold) {
    case FOLD_MIN: return partial->min;
    case FOLD_MAX: return partial->max;
    case FOLD_SUM: return metric_sum_value(&partial->sum);
    default: return metric_sum_value(&partial->sum) / (double)partial->count;
  }
}

/* What RATE and DELTA make of the samples of a window (ROL-21, ROL-27). All zero: of nothing. */
struct metric_deltas {
  struct metric_sum sum;
  uint64_t count;
  /* ns from the predecessor of the first sample to the last sample. */
  uint64_t elapsed;
};

/* QL-93: a counter that fell was reset, and counted up to its value since. */
static inline double metric_delta(double from, double to) { return to < from ? to : to - from; }

static inline double metric_seconds(uint64_t ns) { return (double)ns / 1e9; }

static inline void metric_deltas_add(struct metric_deltas *to, double delta, uint64_t elapsed) {
  metric_sum_add(&to->sum, delta);
  to->count++;
  to->elapsed += elapsed;
}

static inline void metric_deltas_merge(struct metric_deltas *to, const struct metric_deltas *from) {
  metric_sum_add(&to->sum, from->sum.sum);
  to->sum.rest += from->sum.rest;
  to->count += from->count;
  to->elapsed += from->elapsed;
}

/* ROL-28: the time-weighted mean of the rates, or the mean of the deltas. False: no result. */
static inline bool metric_deltas_value(const struct metric_deltas *deltas, bool rate, double *value) {
  if (rate ? deltas->elapsed == 0 : deltas->count == 0) return false;
  double divisor = rate ? metric_seconds(deltas->elapsed) : (double)deltas->count;
  *value = metric_sum_value(&deltas->sum) / divisor;
  return true;
}

#endif

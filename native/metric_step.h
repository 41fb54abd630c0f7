/*
 * One step of the metric path: the samples decoded from a batch, their series, which of these have to be
 * resolved, and the order in which the samples go into the store, slice by slice.
 *
 * A step lives beside its batch (datagrams.h). Hold datagrams_lock_decode around everything that
 * changes it, datagrams_lock_read while looking at samples.
 */
#ifndef EVENTD_METRIC_STEP_H
#define EVENTD_METRIC_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datagrams.h"
#include "metric_decode.h"
#include "series_cache.h"

struct metric_step;

struct metric_sample {
  int64_t series_id;
  int64_t timestamp;
  double value;
  /* histogram_data (MET-39); NULL for counter and gauge. */
  const uint8_t *histogram;
  uint32_t histogram_length;
};

/* The batch's step; NULL when none was begun since the batch was taken. */
struct metric_step *metric_step_of(const struct datagrams *batch);

/* The batch's step, made if need be. NULL: errno is EINVAL (decoded as something else) or ENOMEM. */
struct metric_step *metric_step_open(struct datagrams *batch);

/*
 * Forgets the last step and decodes up to `max` valid samples. `cache` is behind `cache_handle`,
 * acquired; the step keeps that reference until it is forgotten itself. Samples whose type differs
 * from the cached one are dropped (MET-35). Short of memory the step ends early; false when not even
 * one sample fits. Nothing is lost then, the step can be tried again.
 */
bool metric_step_decode(struct metric_step *step, struct datagrams *batch, struct series_cache *cache,
                        int64_t cache_handle, uint32_t max);

/* Samples of the step; after metric_step_sort those that are left. */
size_t metric_step_count(const struct metric_step *step);

/* Distinct series that have to be resolved, those the cache did not know, by order of appearance. */
uint32_t metric_step_unresolved(const struct metric_step *step);

struct unresolved_series {
  const uint8_t *name;
  const uint8_t *labels;
  uint32_t name_length;
  uint32_t labels_length;
  bool histogram;
  uint64_t boundaries_hash;
  /* Of the first sample; it becomes the type of a new series (MET-28). */
  enum metric_type type;
};

/* `index` is below metric_step_unresolved. Valid until the step changes. */
struct unresolved_series metric_step_series(const struct metric_step *step, uint32_t index);

/* Names id and stored type of a series, and caches them. */
void metric_step_resolve(struct metric_step *step, uint32_t index, int64_t id, enum metric_type type);

/*
 * Drops samples that differ in type from their series (MET-35), and sorts the rest by series, then
 * timestamp, equal ones as they came (MET-45). 0, EAGAIN while a series is unresolved, or ENOMEM.
 */
int metric_step_sort(struct metric_step *step);
bool metric_step_sorted(const struct metric_step *step);

/*
 * A step may be larger than a transaction: sorted by series, its slices touch fewer leaves of the index
 * than as many samples in order of arrival. A sorted step is one slice until the first is taken.
 */
struct metric_slice {
  size_t first, end; /* places */
};

/* Sorted step: the next slice, at most `max` samples. Returns their number; 0 = all have been taken. */
size_t metric_step_slice(struct metric_step *step, size_t max);
struct metric_slice metric_step_present(const struct metric_step *step);

/* The oldest timestamp of the present slice; INT64_MAX when that is empty. */
int64_t metric_step_oldest(const struct metric_step *step);

/* Samples of a sorted step that no slice has had; 0 for one that is not sorted. */
size_t metric_step_left(const struct metric_step *step);

/*
 * Forgets what the samples that are left were resolved to: a rollback or another writer may have undone
 * it. Their series are unresolved again, and the step is no longer sorted.
 */
void metric_step_again(struct metric_step *step);

/* Sorted step: the sample at a place below metric_step_count. */
struct metric_sample metric_step_sample(const struct metric_step *step, size_t place);

#endif

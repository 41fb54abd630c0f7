/*
 * The newest values of many series, in units whose mean is compared with a test (QL-111). A change costs
 * the logarithm of the unit's size, and the mean depends on the values alone, not on how they came.
 */
#ifndef EVENTD_RANGE_UNITS_H
#define EVENTD_RANGE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "range_build.h"

struct range_units;

/* See `range_build_options`; NULL when memory is short. Does not own the test's numbers. */
struct range_units *range_units_new(const struct range_test *test, const uint32_t *units, size_t series);
void range_units_free(struct range_units *units);

/* A series has a new newest value. */
void range_units_set(struct range_units *units, size_t series, double value);

/* Whether any unit fulfils the test. */
bool range_units_hold(struct range_units *units);

#endif

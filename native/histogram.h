/* Percentiles of a stored histogram (MET-39, QL-95). */
#ifndef EVENTD_HISTOGRAM_H
#define EVENTD_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The value below which the share `quantile` (0 to 1) of the observations lies, by linear interpolation
 * inside the bucket that holds the rank. False when there is none: nothing was observed, there is no
 * bucket, or the bytes are no histogram; they may be anything.
 */
bool histogram_quantile(const uint8_t *bytes, size_t n, double quantile, double *value);

#endif

/* Any bytes as a stored histogram: a percentile, if there is one, is a number or an infinity. */
#include <math.h>
#include <stdlib.h>

#include "../histogram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  double median, high;
  bool has_median = histogram_quantile(data, size, 0.5, &median);
  bool has_high = histogram_quantile(data, size, 0.99, &high);
  if (has_median && isnan(median)) abort();
  if (has_high && isnan(high)) abort();
  return 0;
}

/* The order in which samples are stored: by series, then time, equal ones as they came (MET-45). */
#ifndef EVENTD_SAMPLE_ORDER_H
#define EVENTD_SAMPLE_ORDER_H

#include <stddef.h>
#include <stdint.h>

struct sample_place {
  int64_t series_id;
  int64_t timestamp;
  /* Where the sample lies. */
  uint32_t index;
};

/* Stable. `spare` has room for as many. */
void sample_order_sort(struct sample_place *places, struct sample_place *spare, size_t count);

#endif

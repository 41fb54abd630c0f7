/* Numbers in payloads: integers, floats other than NaN, and booleans as 1 and 0 (QL-26, QL-30). */
#ifndef EVENTD_PAYLOAD_NUMBER_H
#define EVENTD_PAYLOAD_NUMBER_H

#include <math.h>

#include "msgpack.h"
#include "number.h"

/* False when the item is no number. */
static inline bool payload_number(const struct msgpack_item *item, struct number *number) {
  switch (item->kind) {
    case MSGPACK_BOOL: *number = number_of_int(item->boolean); return true;
    case MSGPACK_UINT: *number = (struct number){.kind = NUMBER_UINT, .uint = item->uint}; return true;
    case MSGPACK_SINT: *number = number_of_int(item->sint); return true;
    case MSGPACK_FLOAT32:
    case MSGPACK_FLOAT64: *number = (struct number){.kind = NUMBER_REAL, .real = item->real}; return !isnan(item->real);
    default: return false;
  }
}

#endif

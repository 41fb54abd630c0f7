/* Log records out of a batch of datagrams, by the rules of LOG-13..23. */
#ifndef EVENTD_LOG_DECODE_H
#define EVENTD_LOG_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "datagrams.h"

/* A valid record; its text lies in the batch. */
struct log_record {
  /* The sender's, else that of receipt (LOG-14). Nanoseconds, 0 .. 2^63-1. */
  int64_t timestamp;
  const uint8_t *origin, *message;
  uint32_t origin_length, message_length;
  bool is_error;
};

struct log_step {
  uint32_t records;
  bool more;
};

/*
 * Replaces the batch's records by the next ones, at most `max_records` (at least 1). 0 or an
 * errno: EBUSY while a reader is at it, EINVAL when it holds metrics, ENOMEM (nothing is lost, the
 * step can be tried again).
 */
int log_decode(struct datagrams *batch, uint32_t max_records, struct log_step *step);

/* The records of the last step; none before the first. Under datagrams_lock_read. */
const struct log_record *log_decoded(const struct datagrams *batch, uint32_t *count);

/*
 * Reads one map that lies in well-formed MessagePack; returns the byte behind it. `*valid` tells
 * whether it is a record.
 */
const uint8_t *log_record_read(const struct datagrams_map *map, struct log_record *record, bool *valid);

#endif

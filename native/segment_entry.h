/*
 * Reading a handoff segment entry by entry. Whoever wrote the segment has checked it; it is
 * checked again here, because these bytes decide what is read next.
 */
#ifndef EVENTD_SEGMENT_ENTRY_H
#define EVENTD_SEGMENT_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msgpack.h"

struct segment_entry {
  const uint8_t *start;
  size_t size;
  bool gap;
  /* Events only: slices of the entry. */
  const uint8_t *type;
  uint16_t type_length;
  const uint8_t *payload;
  size_t payload_length;
};

/*
 * Reads the entry at `p`. Returns NULL on success, else what is wrong with it; the entry lies
 * wholly before `end` and its slices inside it.
 */
const char *segment_entry_read(struct segment_entry *entry, const uint8_t *p, const uint8_t *end);

/* The `cause` of a gap record (STO-8), for a value of enum gap_cause. */
const char *gap_cause_name(uint32_t cause);

/* Appends the payload of the synthetic.gap record of a gap entry (STO-8). */
void segment_gap_payload(const struct segment_entry *entry, struct msgpack_writer *writer);

#endif

/*
 * Leaves out of result records what their reader may not see (ACL-23, ACL-29): per identifier (event type,
 * origin, metric name) the names of the fields that are granted, nested members by their dotted path.
 */
#ifndef EVENTD_SHOWN_H
#define EVENTD_SHOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msgpack.h"

struct shown;

/*
 * From msgpack: a list of `[names | nil, identifier...]`. The identifiers, in ASCII lower case, show the
 * fields of these names; nil: everything. NULL with `*malformed` told, or when memory is short.
 */
struct shown *shown_new(const uint8_t *spec, size_t length, bool *malformed);
void shown_free(struct shown *shown);

/*
 * Cuts the record, a well-formed map that begins at `start` and ends the writer, down to what its
 * identifier shows. One that is not named shows nothing.
 */
void shown_cut(struct shown *shown, const uint8_t *identifier, size_t length, struct msgpack_writer *writer,
               size_t start);

/*
 * Appends the paths of a payload's fields as msgpack: a list of lists of segments, maps with members not
 * by themselves. Very many or very deep ones are not all told; what is not told is shown to nobody.
 */
void shown_paths(struct msgpack_writer *writer, const uint8_t *payload, size_t length);

#endif

/* Result messages on the wire: a length, then {"status": "ok", "records": [...]} (WIRE-2, WIRE-5). */
#ifndef EVENTD_RESULT_FRAME_H
#define EVENTD_RESULT_FRAME_H

#include "msgpack.h"

/* Begins a message behind what the writer holds already; the records follow. Returns where it begins. */
size_t result_frame_begin(struct msgpack_writer *writer);

/* Completes the message that began at `start`. False when it is longer than a frame can be. */
bool result_frame_end(struct msgpack_writer *writer, size_t start, uint32_t records);

#endif

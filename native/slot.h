/*
 * Slots: how other threads reach a connection that is busy inside SQLite (QX-65, IDX-12).
 *
 * Loading the extension gives the connection a slot number; closing the connection frees it. A
 * number names one connection for ever: it carries a generation, so an old number never reaches a
 * newer connection.
 */
#ifndef EVENTD_SLOT_H
#define EVENTD_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "sqlite3.h"

/* Largest slot number; all fit a JavaScript number exactly. */
#define SLOT_MAX ((INT64_C(1) << 53) - 1)

/* The connection's new slot, owned by the calling thread; 0 when memory is short. */
int64_t slot_open(sqlite3 *db);

/* The connection is closing: the number is stale from here on. */
void slot_close(int64_t slot);

/* sqlite3_interrupt from any thread; false when the connection is closed. */
bool slot_interrupt(int64_t slot);

/*
 * Interrupts the connection once `ms` have passed, and again at short intervals (SQLite forgets an
 * interrupt that falls between two statements) until cleared with 0. A closed connection needs no
 * deadline: not an error. Returns 0, or the errno of a timer thread that could not be started.
 */
int slot_deadline(int64_t slot, uint64_t ms);

/*
 * A piece of work on the connection that may be given up for more urgent work: an index build. Others can
 * end it only between begin and end, so no late interrupt ever meets a commit. The owner's thread calls
 * both. `bound_ms`: it is interrupted then at the latest. Returns as slot_deadline does.
 */
int slot_yieldable_begin(int64_t slot, uint64_t bound_ms);

/* The end of it; whether it was asked to yield, by others or by its bound. */
bool slot_yieldable_end(int64_t slot);

/* Interrupts the yieldable work after `ms`, if not before; false when there is none. From any thread. */
bool slot_yield(int64_t slot, uint64_t ms);

/* The open connection, or NULL; `*own` tells whether the calling thread loaded the extension into it. */
sqlite3 *slot_connection(int64_t slot, bool *own);

#endif

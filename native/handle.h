/*
 * Process-wide handles: positive integers below 2^53 that name a native object of one kind from
 * any thread. An object lives until its handle is closed and every acquirer has let go of it.
 */
#ifndef EVENTD_HANDLE_H
#define EVENTD_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

enum handle_kind {
  HANDLE_RING = 1,
  HANDLE_PRODUCER,
  HANDLE_CHANNEL,
  HANDLE_SEGMENT,
  HANDLE_DRAIN,
  HANDLE_CURSOR,
  HANDLE_COPY,
  HANDLE_RECEIVER,
  HANDLE_DATAGRAMS,
  HANDLE_SERIES_CACHE,
  HANDLE_RANGES,
  HANDLE_TAIL,
  HANDLE_METRIC_EVAL,
};

/* Called once, on whichever thread drops the last reference. May be NULL. */
typedef void (*handle_destructor)(void *object);

/* Registers an object; 0 when memory is short (the object stays the caller's). */
int64_t handle_open(enum handle_kind kind, void *object, handle_destructor destroy);

/* The object with one more reference, or NULL for a stale, foreign or closed handle. */
void *handle_acquire(enum handle_kind kind, int64_t handle);

/* Undoes one handle_acquire; valid also after the handle was closed. */
void handle_release(int64_t handle);

/* Makes the handle stale and drops the registration's reference; false when it was stale. */
bool handle_close(enum handle_kind kind, int64_t handle);

#endif

/*
 * A datagram socket and the thread that does nothing but empty it (LOG-5..12, MET-13..16).
 *
 * Linux lets a blocking sender sleep while the socket's short queue is full, so the thread never
 * waits for anybody: what finds the buffer full is dropped and counted (LOG-9, LOG-11). Two
 * buffers take turns; while one is out with the writer the other fills.
 *
 * Without Node: whoever wants to be woken gives a function.
 */
#ifndef EVENTD_RECEIVER_H
#define EVENTD_RECEIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Longest socket path: sun_path without its NUL. */
#define RECEIVER_PATH_BYTES 107
/* Bounds of the memory that both buffers share. */
#define RECEIVER_MIN_CAPACITY 4096
#define RECEIVER_MAX_CAPACITY (INT64_C(1) << 34)

struct receiver;

struct receiver_status {
  uint64_t datagrams, bytes;
  uint64_t dropped, truncated;
  size_t waiting;
  bool finished;
};

struct receiver_batch {
  int64_t handle;
  uint32_t datagrams;
  size_t bytes;
  uint64_t opened_at;
};

/* Called from any thread, briefly: there is something to take, or nothing more will come. */
typedef void (*receiver_notify)(void *context);

/* Binds the socket; nothing reads it yet. A HANDLE_RECEIVER, or 0 with errno. */
int64_t receiver_open(const char *path, mode_t mode, size_t capacity);

/* Starts the thread if there is none. 0 or an errno. */
int receiver_start(struct receiver *receiver);

/*
 * From now on this function is woken instead of the last one, which is not called any more once
 * this returns (NULL: nobody). Wakes at once when something waits already. Returns the context
 * that listened before, or NULL.
 */
void *receiver_listen(struct receiver *receiver, receiver_notify notify, void *context);
/* Nobody is woken any more. False, and nothing is done, when `context` is not the one who listens. */
bool receiver_unlisten(struct receiver *receiver, void *context);

/*
 * Takes the older buffer: 1, or 0 when nothing waits or the last batch is still out, or -1 (no
 * memory for a handle; nothing is lost).
 */
int receiver_take(struct receiver *receiver, struct receiver_batch *batch);

/* Appends a datagram as if it came now; false when it does not fit. */
bool receiver_inject(struct receiver *receiver, const uint8_t *bytes, size_t length);

/*
 * Removes the path, lets senders fail, and has the thread read what is queued, until `max_bytes`
 * or `ms` are used up (LIFE-201, LIFE-202). Returns at once; the last wake-up tells the end.
 * 0 or an errno.
 */
int receiver_finish(struct receiver *receiver, uint64_t max_bytes, uint32_t ms);

void receiver_status(struct receiver *receiver, struct receiver_status *status);

/* Ends thread and socket and closes the handle; batches that are out stay valid. False: closed before. */
bool receiver_close(int64_t handle);

#endif

/*
 * A batch of raw datagrams and the place where decoding it stands.
 *
 * One buffer holds the datagrams packed: `u64 receipt ns, u64 length, bytes`, padded to 8.
 * While it fills it belongs to its receiver; taken, it belongs to one writer under a handle.
 *
 * Both paths share the outer form (LOG-13, LOG-18, LOG-19, LOG-22; MET-14, MET-22): a datagram is
 * one MessagePack value to its last byte, a map or an array of maps. So stepping from map to map
 * is here, and a decoder only reads single maps. It can stop after any of them, also inside a
 * datagram, because a datagram may hold more records than a transaction (LOG-28).
 */
#ifndef EVENTD_DATAGRAMS_H
#define EVENTD_DATAGRAMS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest datagram that is taken (LOG-12); also what Linux lets a sender send by default. */
#define DATAGRAM_MAX_BYTES 212992

/*
 * What a path's decoder keeps beside a batch: the records of the last step. It survives from one
 * batch in the buffer to the next. A decoder knows its own state by `destroy`; it refuses a batch
 * that carries another's (EINVAL).
 */
struct datagrams_decoded {
  void *state; /* NULL = nothing yet */
  /* Forgets the records; memory may stay for the next batch in this buffer. Called on release. */
  void (*clear)(void *state);
  void (*destroy)(void *state);
};

struct datagrams {
  /* Mapped once; its pages cost memory only from their first use on. */
  uint8_t *bytes;
  size_t capacity, length;
  uint32_t count;
  /* CLOCK_MONOTONIC ns at which the first datagram was appended. */
  uint64_t opened_at;

  /* Decoding: everything before `next` is done; in front of it is the rest of a datagram. */
  size_t next;
  uint64_t receipt_ns;
  const uint8_t *at, *end; /* equal = between two datagrams */
  uint32_t elements;       /* values still to come at `at` */

  struct datagrams_decoded decoded;
  /* -1 a decoder works, above 0 so many readers of `decoded`; see datagrams_lock. */
  atomic_int users;

  /* Called when the last user of the taken batch is gone. */
  void (*release)(struct datagrams *batch);
  void *owner; /* the receiver's */
};

/* Room for `capacity` bytes of entries. False: errno says why. */
bool datagrams_init(struct datagrams *batch, size_t capacity);
void datagrams_free(struct datagrams *batch);

/* Bytes that a datagram of this length takes in a batch. */
static inline size_t datagrams_entry_bytes(size_t length) { return (16 + length + 7) & ~(size_t)7; }

/* Appends one datagram; false when it does not fit. */
bool datagrams_append(struct datagrams *batch, uint64_t receipt_ns, const uint8_t *bytes, size_t length);

/*
 * Makes the batch known as HANDLE_DATAGRAMS; decoding begins at its start. When the handle is
 * closed and let go of, the batch is emptied and `release` (if any) is called. 0: no memory.
 */
int64_t datagrams_publish(struct datagrams *batch, void (*release)(struct datagrams *batch));

/* One map on its way to a decoder. */
struct datagrams_map {
  /* CLOCK_REALTIME ns of its datagram. */
  uint64_t receipt_ns;
  /* Head of the map; everything up to the datagram's end is well-formed MessagePack. */
  const uint8_t *start;
  const uint8_t *end; /* of the datagram, not of the map */
};

/*
 * The next map, or false at the end of the batch. Malformed datagrams and elements that are no
 * maps are passed over. Asking twice gives the same map until datagrams_pass.
 */
bool datagrams_map(struct datagrams *batch, struct datagrams_map *map);

/* The map is done; `after` is the byte behind it. */
void datagrams_pass(struct datagrams *batch, const uint8_t *after);

/*
 * A decoder's step changes `decoded`, a reader (the SQL table) looks at it: many readers or one
 * step, else false. No waiting: a collision is a mistake of the caller (EBUSY).
 */
bool datagrams_lock_decode(struct datagrams *batch);
void datagrams_unlock_decode(struct datagrams *batch);
bool datagrams_lock_read(struct datagrams *batch);
void datagrams_unlock_read(struct datagrams *batch);

#endif

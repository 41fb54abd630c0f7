#include "datagrams.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "handle.h"
#include "msgpack.h"

/* Where the parts of an entry are; entries begin at multiples of 8. */
enum { ENTRY_RECEIPT = 0, ENTRY_LENGTH = 8, ENTRY_BYTES = 16 };

static void rewind_batch(struct datagrams *batch) {
  batch->next = 0;
  batch->at = batch->end = NULL;
  batch->elements = 0;
}

bool datagrams_init(struct datagrams *batch, size_t capacity) {
  memset(batch, 0, sizeof *batch);
  atomic_init(&batch->users, 0);
  void *bytes = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bytes == MAP_FAILED) return false;
  batch->bytes = bytes;
  batch->capacity = capacity;
  return true;
}

void datagrams_free(struct datagrams *batch) {
  if (batch->decoded.state != NULL) batch->decoded.destroy(batch->decoded.state);
  if (batch->bytes != NULL) munmap(batch->bytes, batch->capacity);
  memset(batch, 0, sizeof *batch);
}

bool datagrams_append(struct datagrams *batch, uint64_t receipt_ns, const uint8_t *bytes, size_t length) {
  if (length > DATAGRAM_MAX_BYTES || datagrams_entry_bytes(length) > batch->capacity - batch->length) return false;
  if (batch->length == 0) batch->opened_at = clock_monotonic();
  uint8_t *entry = batch->bytes + batch->length;
  uint64_t stored = length;
  memcpy(entry + ENTRY_RECEIPT, &receipt_ns, 8);
  memcpy(entry + ENTRY_LENGTH, &stored, 8);
  if (length > 0) memcpy(entry + ENTRY_BYTES, bytes, length);
  batch->length += datagrams_entry_bytes(length);
  batch->count++;
  return true;
}

/* ---- Taken ---- */

static void let_go(void *object) {
  struct datagrams *batch = object;
  if (batch->decoded.state != NULL) batch->decoded.clear(batch->decoded.state);
  batch->length = 0;
  batch->count = 0;
  rewind_batch(batch);
  if (batch->release != NULL) batch->release(batch);
}

int64_t datagrams_publish(struct datagrams *batch, void (*release)(struct datagrams *batch)) {
  rewind_batch(batch);
  batch->release = release;
  return handle_open(HANDLE_DATAGRAMS, batch, let_go);
}

/* Steps to the next datagram that may hold maps; false at the end of the batch. */
static bool enter(struct datagrams *batch) {
  while (batch->next < batch->length) {
    const uint8_t *entry = batch->bytes + batch->next;
    uint64_t length;
    memcpy(&batch->receipt_ns, entry + ENTRY_RECEIPT, 8);
    memcpy(&length, entry + ENTRY_LENGTH, 8);
    batch->next += datagrams_entry_bytes(length);
    const uint8_t *start = entry + ENTRY_BYTES;
    const uint8_t *end = start + length;
    /* The whole of it is judged first: no record of a datagram with a bad end may count (LOG-18). */
    if (msgpack_skip(start, end) != end) continue;
    struct msgpack_item head;
    const uint8_t *inside = msgpack_read(start, end, &head);
    batch->end = end;
    if (head.kind == MSGPACK_MAP) {
      batch->at = start;
      batch->elements = 1;
      return true;
    }
    if (head.kind == MSGPACK_ARRAY && head.length > 0) {
      batch->at = inside;
      batch->elements = head.length;
      return true;
    }
  }
  return false;
}

static bool is_map(uint8_t head) { return (head & 0xf0) == 0x80 || head == 0xde || head == 0xdf; }

bool datagrams_map(struct datagrams *batch, struct datagrams_map *map) {
  for (;;) {
    if (batch->elements == 0 && !enter(batch)) return false;
    if (is_map(*batch->at)) break;
    batch->at = msgpack_skip(batch->at, batch->end);
    batch->elements--;
  }
  *map = (struct datagrams_map){.receipt_ns = batch->receipt_ns, .start = batch->at, .end = batch->end};
  return true;
}

void datagrams_pass(struct datagrams *batch, const uint8_t *after) {
  batch->at = after;
  batch->elements--;
}

/* ---- Who works on it ---- */

bool datagrams_lock_decode(struct datagrams *batch) {
  int none = 0;
  return atomic_compare_exchange_strong(&batch->users, &none, -1);
}

void datagrams_unlock_decode(struct datagrams *batch) { atomic_store(&batch->users, 0); }

bool datagrams_lock_read(struct datagrams *batch) {
  int users = atomic_load(&batch->users);
  while (users >= 0) {
    if (atomic_compare_exchange_weak(&batch->users, &users, users + 1)) return true;
  }
  return false;
}

void datagrams_unlock_read(struct datagrams *batch) { atomic_fetch_sub(&batch->users, 1); }

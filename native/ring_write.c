#include "ring_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"
#include "kmes_format.h"
#include "ring_bytes.h"
#include "ring_file.h"
#include "ring_read.h"
#include "ring_wait.h"

enum { REOPEN_ATTEMPTS = 64 };

struct producer {
  pthread_mutex_t lock; /* threads of this process; guards the mapping itself */
  char *path;
  struct ring_file file;
};

static void store(uint8_t *page, int offset, uint64_t value) {
  __atomic_store_n((uint64_t *)(void *)(page + offset), value, __ATOMIC_RELEASE);
}

/* ---- Waking ---- */

/* Steps 8 and 9 of KMES-109, after the store that readers are to see. */
static void wake_sleepers(uint8_t *page) {
  /* A store followed by a load of another word: only a full fence keeps that order. */
  ring_fence_full();
  if (__atomic_load_n(page + RING_NEED_WAKE, __ATOMIC_RELAXED) == 0) return;
  uint32_t *futex = (uint32_t *)(void *)(page + RING_FUTEX);
  __atomic_store_n(futex, __atomic_load_n(futex, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
  ring_wake(page);
}

/* ---- Locking ---- */

/* Tells everybody who has this ring mapped that the path leads to another one. */
static void retire(struct ring_file *file) {
  __atomic_store_n(&ring_file_state(file)->retired, 1, __ATOMIC_RELEASE);
  store(file->base, RING_GENERATION, ring_load(file->base, RING_GENERATION) + 1);
  wake_sleepers(file->base);
}

/*
 * A batch larger than the ring moves the tail beyond the published write position until it is
 * published; a producer that dies in between leaves it there. Readers may have followed the tail,
 * so it never goes back: the position is published up to it, and the ring is empty. Positions
 * farther apart than the capacity come from no producer; everything between them is given up.
 */
static void repair_positions(struct ring_file *file) {
  uint64_t write = ring_load(file->base, RING_WRITE_POS);
  uint64_t tail = ring_load(file->base, RING_TAIL_POS);
  if (tail > write) {
    store(file->base, RING_WRITE_POS, tail);
  } else if (write - tail > file->capacity) {
    store(file->base, RING_TAIL_POS, write);
  }
}

/*
 * A producer died in its write phase. Unpublished bytes do no harm, because write_pos did not
 * move; but it may have died inside a resize, after the rename and before retiring the old ring.
 */
static void recover(struct producer *producer) {
  struct stat status;
  struct ring_file *file = &producer->file;
  pthread_mutex_consistent(&ring_file_state(file)->lock);
  if (ring_file_state(file)->retired || stat(producer->path, &status) != 0) return;
  if (status.st_ino != file->inode || status.st_dev != file->device) retire(file);
}

/* Locks the live ring behind the path. Returns 0, or an errno when it cannot be reached. */
static int lock_ring(struct producer *producer) {
  for (int attempt = 0; attempt < REOPEN_ATTEMPTS; attempt++) {
    pthread_mutex_t *lock = &ring_file_state(&producer->file)->lock;
    int error = pthread_mutex_lock(lock);
    if (error == EOWNERDEAD) {
      recover(producer);
    } else if (error != 0) {
      return error;
    }
    if (!__atomic_load_n(&ring_file_state(&producer->file)->retired, __ATOMIC_ACQUIRE)) {
      /* Every time, not only after a death the lock noticed: the file may be a copy. */
      repair_positions(&producer->file);
      return 0;
    }
    pthread_mutex_unlock(lock);
    struct ring_file fresh;
    const char *reason;
    error = ring_file_open(producer->path, &fresh, &reason);
    if (error != 0) return error;
    ring_file_close(&producer->file);
    producer->file = fresh;
  }
  return EAGAIN;
}

static void unlock_ring(struct producer *producer) {
  pthread_mutex_unlock(&ring_file_state(&producer->file)->lock);
}

/* ---- Writing ---- */

/* KMES-110, against the private write offset. Returns the new tail. */
static uint64_t make_room(struct ring_file *file, uint64_t write, uint64_t tail, uint64_t size) {
  uint64_t before = tail;
  while (write + size - tail > file->capacity) {
    uint32_t oldest = read_u32(file->base + RING_DATA_OFFSET + (tail & (file->capacity - 1)));
    /* Nothing but a broken file gives such a size; give up all of it rather than loop. */
    tail = oldest < KMES_FIXED_HEADER || oldest > write - tail ? write : tail + oldest;
  }
  if (tail != before) {
    store(file->base, RING_TAIL_POS, tail);
    /* Release orders earlier writes only; the bytes written next must not overtake the tail. */
    ring_fence_full();
  }
  return tail;
}

static void write_event(uint8_t *at, uint16_t cpu, uint8_t origin, uint64_t timestamp,
                        uint64_t sequence, const struct producer_identity *identity,
                        const struct producer_event *event) {
  uint8_t header[KMES_FIXED_HEADER] = {0};
  uint32_t header_size = KMES_FIXED_HEADER + (uint32_t)event->type_len;
  write_u32(header + KMES_EVENT_SIZE, header_size + (uint32_t)event->payload_len);
  write_u32(header + KMES_HEADER_SIZE, header_size);
  write_u64(header + KMES_TIMESTAMP, timestamp);
  write_u64(header + KMES_SEQUENCE, sequence);
  write_u16(header + KMES_CPU_ID, cpu);
  header[KMES_ORIGIN] = origin;
  if (identity != NULL) memcpy(header + KMES_EFFECTIVE_GUID, identity->guids, 48);
  write_u16(header + KMES_TYPE_LEN, (uint16_t)event->type_len);
  ring_bytes_in(at, header, sizeof header);
  ring_bytes_in(at + KMES_TYPE, event->type, event->type_len);
  if (event->payload_len > 0) {
    ring_bytes_in(at + header_size, event->payload, event->payload_len);
  }
}

int producer_emit(struct producer *producer, uint8_t origin, const struct producer_event *events,
                  size_t count, const struct producer_identity *identity, size_t *written,
                  uint64_t *last_sequence) {
  pthread_mutex_lock(&producer->lock);
  int error = lock_ring(producer);
  if (error != 0) {
    pthread_mutex_unlock(&producer->lock);
    return error;
  }
  struct ring_file *file = &producer->file;
  struct producer_state *state = ring_file_state(file);
  uint16_t cpu = read_u16(file->base + RING_CPU_ID);
  uint64_t timestamp = clock_realtime();
  uint64_t sequence = state->sequence, dropped = 0;
  uint64_t write = ring_load(file->base, RING_WRITE_POS), published = write;
  uint64_t tail = ring_load(file->base, RING_TAIL_POS);
  *written = 0;
  for (size_t i = 0; i < count; i++) {
    const struct producer_event *event = &events[i];
    sequence++;
    if (event->type_len == 0 || event->type_len > UINT16_MAX ||
        event->payload_len > file->capacity ||
        KMES_FIXED_HEADER + event->type_len + event->payload_len > file->capacity / 2) {
      dropped++;
      continue;
    }
    uint64_t size = KMES_FIXED_HEADER + event->type_len + event->payload_len;
    tail = make_room(file, write, tail, size);
    write_event(file->base + RING_DATA_OFFSET + (write & (file->capacity - 1)), cpu, origin,
                timestamp, sequence, identity, event);
    write += size;
    (*written)++;
  }
  /* Sequences first: dying between the two stores leaves a gap, never a number used twice. */
  __atomic_store_n(&state->dropped, state->dropped + dropped, __ATOMIC_RELAXED);
  __atomic_store_n(&state->sequence, sequence, __ATOMIC_RELEASE);
  if (write != published) {
    store(file->base, RING_WRITE_POS, write);
    wake_sleepers(file->base);
  }
  *last_sequence = sequence;
  unlock_ring(producer);
  pthread_mutex_unlock(&producer->lock);
  return 0;
}

/* ---- Resizing ---- */

struct survivors {
  uint64_t from, to; /* positions in the old ring */
};

static uint32_t event_at(const struct ring_file *file, uint64_t at, uint64_t end) {
  const uint8_t *event = file->base + RING_DATA_OFFSET + (at & (file->capacity - 1));
  return ring_event_size(event, end - at, read_u16(file->base + RING_CPU_ID));
}

/*
 * The newest whole events that fit into `room` bytes and that a reader can reach. Damaged bytes
 * hide what lies behind them from every reader. They stay behind: copied, they would stand in the
 * way of the events written after them, too.
 */
static struct survivors survivors_of(const struct ring_file *file, uint64_t room) {
  uint64_t tail = ring_load(file->base, RING_TAIL_POS);
  uint64_t end = ring_load(file->base, RING_WRITE_POS);
  struct survivors found = {.from = tail, .to = tail};
  for (uint32_t size; found.to < end && (size = event_at(file, found.to, end)) > 0;) {
    found.to += size;
  }
  while (found.to - found.from > room) found.from += event_at(file, found.from, end);
  return found;
}

/* KMES-144 with the ring locked. On success the producer holds the new ring, unlocked. */
static int swap_ring(struct producer *producer, uint64_t capacity) {
  struct ring_file *old = &producer->file, fresh;
  struct producer_state *state = ring_file_state(old);
  char *draft;
  uint64_t generation = ring_load(old->base, RING_GENERATION) + 1;
  int error = ring_file_draft(producer->path, read_u16(old->base + RING_CPU_ID), capacity,
                              generation, &fresh, &draft);
  if (error != 0) return error;
  struct survivors survivors = survivors_of(old, capacity);
  uint64_t length = survivors.to - survivors.from;
  ring_bytes_in(fresh.base + RING_DATA_OFFSET,
                old->base + RING_DATA_OFFSET + (survivors.from & (old->capacity - 1)), length);
  ring_file_state(&fresh)->sequence = state->sequence;
  ring_file_state(&fresh)->dropped = state->dropped;
  store(fresh.base, RING_WRITE_POS, length);
  error = ring_file_publish(&fresh, draft, producer->path);
  if (error != 0) return error;
  retire(old);
  unlock_ring(producer);
  ring_file_close(old);
  producer->file = fresh;
  return 0;
}

int producer_resize(struct producer *producer, uint64_t capacity, const char **reason) {
  *reason = NULL;
  if (!ring_capacity_valid(capacity)) {
    *reason = "capacity must be a power of two from 65536 to 268435456";
    return EINVAL;
  }
  pthread_mutex_lock(&producer->lock);
  int error = lock_ring(producer);
  if (error == 0) {
    if (producer->file.capacity == capacity) {
      *reason = "the ring has this capacity already";
      error = EINVAL;
    } else {
      error = swap_ring(producer, capacity);
    }
    if (error != 0) unlock_ring(producer);
  }
  pthread_mutex_unlock(&producer->lock);
  return error;
}

/* ---- Life cycle ---- */

static int wrap(const char *path, const struct ring_file *file, struct producer **out) {
  struct producer *producer = calloc(1, sizeof *producer);
  char *copy = strdup(path);
  if (producer == NULL || copy == NULL) {
    free(producer);
    free(copy);
    struct ring_file unused = *file;
    ring_file_close(&unused);
    return ENOMEM;
  }
  pthread_mutex_init(&producer->lock, NULL);
  producer->path = copy;
  producer->file = *file;
  *out = producer;
  return 0;
}

int producer_create(const char *path, uint16_t cpu, uint64_t capacity, struct producer **out,
                    const char **reason) {
  *reason = NULL;
  if (!ring_capacity_valid(capacity)) {
    *reason = "capacity must be a power of two from 65536 to 268435456";
    return EINVAL;
  }
  struct ring_file file;
  char *draft;
  int error = ring_file_draft(path, cpu, capacity, 1, &file, &draft);
  if (error != 0) return error;
  error = ring_file_publish(&file, draft, path);
  return error != 0 ? error : wrap(path, &file, out);
}

int producer_open(const char *path, struct producer **out, const char **reason) {
  struct ring_file file;
  int error = ring_file_open(path, &file, reason);
  if (error == 0) error = wrap(path, &file, out);
  if (error != 0) return error;
  /* Readers get a ring in order before the first event of this producer. */
  error = lock_ring(*out);
  if (error == 0) {
    unlock_ring(*out);
  } else {
    producer_close(*out);
    *out = NULL;
  }
  return error;
}

void producer_close(struct producer *producer) {
  ring_file_close(&producer->file);
  pthread_mutex_destroy(&producer->lock);
  free(producer->path);
  free(producer);
}

int producer_status(struct producer *producer, struct producer_status *status) {
  pthread_mutex_lock(&producer->lock);
  int error = lock_ring(producer);
  if (error == 0) {
    const struct ring_file *file = &producer->file;
    const struct producer_state *state = ring_file_state(file);
    *status = (struct producer_status){
        .write_pos = ring_load(file->base, RING_WRITE_POS),
        .tail_pos = ring_load(file->base, RING_TAIL_POS),
        .generation = ring_load(file->base, RING_GENERATION),
        .capacity = file->capacity,
        .sequence = __atomic_load_n(&state->sequence, __ATOMIC_ACQUIRE),
        .dropped = __atomic_load_n(&state->dropped, __ATOMIC_RELAXED),
    };
    unlock_ring(producer);
  }
  pthread_mutex_unlock(&producer->lock);
  return error;
}

#include "handle.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

/*
 * A handle is `generation * 2^20 + index + 1`. The generation of a slot rises each time the slot
 * is reused, so that a stale number cannot reach a new object.
 */
enum { INDEX_BITS = 20, MAX_SLOTS = (1 << INDEX_BITS) - 2, MAX_GENERATION = 0x7fffffff };

struct slot {
  void *object;
  handle_destructor destroy;
  uint32_t generation;
  uint32_t references; /* 0 = free */
  uint32_t next_free;  /* index + 1 */
  uint8_t kind;
  bool closed;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot *slots;
static uint32_t slot_count, slot_capacity, first_free;

static struct slot *find(int64_t handle) {
  if (handle <= 0) return NULL;
  int64_t index = (handle & ((1 << INDEX_BITS) - 1)) - 1;
  if (index < 0 || index >= slot_count) return NULL;
  struct slot *slot = &slots[index];
  if (slot->references == 0 || slot->generation != (uint64_t)handle >> INDEX_BITS) return NULL;
  return slot;
}

int64_t handle_open(enum handle_kind kind, void *object, handle_destructor destroy) {
  pthread_mutex_lock(&table_lock);
  uint32_t index;
  if (first_free != 0) {
    index = first_free - 1;
    first_free = slots[index].next_free;
  } else {
    if (slot_count == slot_capacity) {
      uint32_t grown = slot_capacity == 0 ? 64 : slot_capacity * 2;
      struct slot *moved = grown > MAX_SLOTS ? NULL : realloc(slots, grown * sizeof *slots);
      if (moved == NULL) {
        pthread_mutex_unlock(&table_lock);
        return 0;
      }
      slots = moved;
      slot_capacity = grown;
    }
    index = slot_count++;
    slots[index].generation = 0;
  }
  struct slot *slot = &slots[index];
  slot->generation = slot->generation % MAX_GENERATION + 1;
  slot->object = object;
  slot->destroy = destroy;
  slot->kind = (uint8_t)kind;
  slot->references = 1;
  slot->closed = false;
  int64_t handle = ((int64_t)slot->generation << INDEX_BITS) | (index + 1);
  pthread_mutex_unlock(&table_lock);
  return handle;
}

void *handle_acquire(enum handle_kind kind, int64_t handle) {
  void *object = NULL;
  pthread_mutex_lock(&table_lock);
  struct slot *slot = find(handle);
  if (slot != NULL && slot->kind == kind && !slot->closed) {
    slot->references++;
    object = slot->object;
  }
  pthread_mutex_unlock(&table_lock);
  return object;
}

/* Called with the table locked; unlocks it before the destructor runs. */
static void drop(struct slot *slot) {
  handle_destructor destroy = NULL;
  void *object = slot->object;
  if (--slot->references == 0) {
    destroy = slot->destroy;
    slot->object = NULL;
    slot->next_free = first_free;
    first_free = (uint32_t)(slot - slots) + 1;
  }
  pthread_mutex_unlock(&table_lock);
  if (destroy != NULL) destroy(object);
}

void handle_release(int64_t handle) {
  pthread_mutex_lock(&table_lock);
  struct slot *slot = find(handle);
  if (slot == NULL) {
    pthread_mutex_unlock(&table_lock);
    return;
  }
  drop(slot);
}

bool handle_close(enum handle_kind kind, int64_t handle) {
  pthread_mutex_lock(&table_lock);
  struct slot *slot = find(handle);
  if (slot == NULL || slot->kind != kind || slot->closed) {
    pthread_mutex_unlock(&table_lock);
    return false;
  }
  slot->closed = true;
  drop(slot);
  return true;
}

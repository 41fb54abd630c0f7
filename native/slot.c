#include "slot.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sqlite_parts.h"

/* A slot number is generation << INDEX_BITS | index. */
#define INDEX_BITS 20
#define INDEX_MASK ((INT64_C(1) << INDEX_BITS) - 1)

/* How often a connection past its deadline is interrupted again. */
#define REPEAT_NS UINT64_C(50000000)

struct slot {
  /* NULL = free. */
  sqlite3 *db;
  int64_t number;
  pthread_t owner;
  /* CLOCK_MONOTONIC ns of the next interrupt; 0 = none. */
  uint64_t due;
  /* The work under way may be given up, and has been asked to. */
  bool yieldable;
  bool yielded;
};

/*
 * One lock for everything. slot_close runs inside sqlite3_close and waits for it, so a connection
 * found in the table under the lock cannot be freed while it is held. Nothing called under the
 * lock takes an SQLite mutex.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot *slots;
static size_t slot_count;
static int64_t generation;

static bool timer_running;
static pthread_cond_t timer_changed;

/* Under the lock. */
static struct slot *find(int64_t number) {
  if (number <= 0) return NULL;
  size_t index = (size_t)(number & INDEX_MASK);
  if (index >= slot_count || slots[index].db == NULL || slots[index].number != number) return NULL;
  return &slots[index];
}

/* Under the lock: a free entry's index, or -1. */
static int64_t free_index(void) {
  for (size_t i = 0; i < slot_count; i++) {
    if (slots[i].db == NULL) return (int64_t)i;
  }
  size_t grown = slot_count == 0 ? 64 : slot_count * 2;
  if (grown > INDEX_MASK + 1) return -1;
  struct slot *more = realloc(slots, grown * sizeof *more);
  if (more == NULL) return -1;
  memset(more + slot_count, 0, (grown - slot_count) * sizeof *more);
  int64_t index = (int64_t)slot_count;
  slots = more;
  slot_count = grown;
  return index;
}

int64_t slot_open(sqlite3 *db) {
  pthread_mutex_lock(&lock);
  int64_t number = 0;
  int64_t index = generation < SLOT_MAX >> INDEX_BITS ? free_index() : -1;
  if (index >= 0) {
    number = ++generation << INDEX_BITS | index;
    slots[index] = (struct slot){.db = db, .number = number, .owner = pthread_self()};
  }
  pthread_mutex_unlock(&lock);
  return number;
}

void slot_close(int64_t number) {
  pthread_mutex_lock(&lock);
  struct slot *slot = find(number);
  if (slot != NULL) *slot = (struct slot){0};
  pthread_mutex_unlock(&lock);
}

bool slot_interrupt(int64_t number) {
  pthread_mutex_lock(&lock);
  struct slot *slot = find(number);
  if (slot != NULL) sqlite3_interrupt(slot->db);
  pthread_mutex_unlock(&lock);
  return slot != NULL;
}

sqlite3 *slot_connection(int64_t number, bool *own) {
  pthread_mutex_lock(&lock);
  struct slot *slot = find(number);
  sqlite3 *db = slot == NULL ? NULL : slot->db;
  *own = slot != NULL && pthread_equal(slot->owner, pthread_self());
  pthread_mutex_unlock(&lock);
  return db;
}

static uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Under the lock: interrupts what is due; the time of the next deadline, 0 = none. */
static uint64_t fire(uint64_t now) {
  uint64_t next = 0;
  for (size_t i = 0; i < slot_count; i++) {
    struct slot *slot = &slots[i];
    if (slot->due == 0) continue;
    if (slot->due <= now) {
      sqlite3_interrupt(slot->db);
      slot->due = now + REPEAT_NS;
      slot->yielded = slot->yieldable;
    }
    if (next == 0 || slot->due < next) next = slot->due;
  }
  return next;
}

static void *run_timer(void *unused) {
  (void)unused;
  pthread_mutex_lock(&lock);
  for (;;) {
    uint64_t next = fire(monotonic_ns());
    if (next == 0) {
      pthread_cond_wait(&timer_changed, &lock);
    } else {
      struct timespec until = {(time_t)(next / UINT64_C(1000000000)), (long)(next % UINT64_C(1000000000))};
      pthread_cond_timedwait(&timer_changed, &lock, &until);
    }
  }
  return NULL;
}

/* Under the lock. */
static int start_timer(void) {
  if (timer_running) return 0;
  /* The thread never ends, so the code it runs must never be unloaded. */
  Dl_info self;
  if (dladdr((void *)&timer_running, &self) != 0 && self.dli_fname != NULL) {
    dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
  }
  pthread_condattr_t clock;
  pthread_condattr_init(&clock);
  pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  pthread_cond_init(&timer_changed, &clock);
  pthread_condattr_destroy(&clock);
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  /* Signals belong to the threads of the runtime. */
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  int error = pthread_create(&thread, &detached, run_timer, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&detached);
  timer_running = error == 0;
  return error;
}

int slot_deadline(int64_t number, uint64_t ms) {
  pthread_mutex_lock(&lock);
  int error = ms == 0 ? 0 : start_timer();
  struct slot *slot = find(number);
  if (error == 0 && slot != NULL) {
    slot->due = ms == 0 ? 0 : monotonic_ns() + ms * UINT64_C(1000000);
    if (ms != 0) pthread_cond_signal(&timer_changed);
  }
  pthread_mutex_unlock(&lock);
  return error;
}

int slot_yieldable_begin(int64_t number, uint64_t bound_ms) {
  int error = slot_deadline(number, bound_ms);
  if (error != 0) return error;
  pthread_mutex_lock(&lock);
  struct slot *slot = find(number);
  if (slot != NULL) {
    slot->yieldable = true;
    slot->yielded = false;
  }
  pthread_mutex_unlock(&lock);
  return 0;
}

bool slot_yieldable_end(int64_t number) {
  pthread_mutex_lock(&lock);
  struct slot *slot = find(number);
  bool yielded = slot != NULL && slot->yielded;
  if (slot != NULL) {
    slot->yieldable = slot->yielded = false;
    slot->due = 0;
  }
  pthread_mutex_unlock(&lock);
  return yielded;
}

bool slot_yield(int64_t number, uint64_t ms) {
  pthread_mutex_lock(&lock);
  struct slot *slot = find(number);
  bool found = slot != NULL && slot->yieldable;
  if (found) {
    uint64_t due = monotonic_ns() + ms * UINT64_C(1000000);
    if (slot->due == 0 || due < slot->due) slot->due = due;
    /* At once, and not when the timer thread has woken; it repeats what fell between two statements. */
    if (ms == 0) {
      slot->yielded = true;
      sqlite3_interrupt(slot->db);
    }
    pthread_cond_signal(&timer_changed);
  }
  pthread_mutex_unlock(&lock);
  return found;
}

/* eventd_slot(): the number of the connection it is called on. */
static void eventd_slot(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  sqlite3_result_int64(context, *(const int64_t *)sqlite3_user_data(context));
}

/* SQLite drops the function while it closes the connection, before it frees it. */
static void release(void *number) {
  slot_close(*(const int64_t *)number);
  free(number);
}

int sqlite_slot_register(sqlite3 *db) {
  int64_t *number = malloc(sizeof *number);
  if (number == NULL) return SQLITE_NOMEM;
  *number = slot_open(db);
  if (*number == 0) {
    free(number);
    return SQLITE_NOMEM;
  }
  return sqlite3_create_function_v2(db, "eventd_slot", 0, SQLITE_UTF8 | SQLITE_DIRECTONLY, number, eventd_slot,
                                    NULL, NULL, release);
}

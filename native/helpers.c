#include "helpers.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

/* A query that wants more parts at once than this gains little, and others want to run, too. */
#define MAX_WIDTH 4

struct batch {
  void (*work)(void *);
  void *const *items;
  size_t count;
  /* The first that nobody has begun. */
  size_t next;
  size_t ended;
  struct batch *later;
};

/* Everything below is under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_waits = PTHREAD_COND_INITIALIZER;
static pthread_cond_t batch_ended = PTHREAD_COND_INITIALIZER;
/* Those with items that nobody has begun. */
static struct batch *first;
static size_t running;
static bool started;

size_t helpers_width(void) {
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  if (processors < 1) return 1;
  return processors < MAX_WIDTH ? (size_t)processors : MAX_WIDTH;
}

/* Under the lock, which it gives up meanwhile. */
static void work_on(struct batch *batch) {
  void *item = batch->items[batch->next++];
  if (batch->next == batch->count) {
    struct batch **place = &first;
    while (*place != batch) place = &(*place)->later;
    *place = batch->later;
  }
  pthread_mutex_unlock(&lock);
  batch->work(item);
  pthread_mutex_lock(&lock);
  /* Whoever waits for the batch may end it from here on. */
  if (++batch->ended == batch->count) pthread_cond_broadcast(&batch_ended);
}

static void *help(void *unused) {
  (void)unused;
  /* Who wakes up for a query does not push aside who drains a ring. */
  sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
  pthread_mutex_lock(&lock);
  for (;;) {
    if (first == NULL) pthread_cond_wait(&work_waits, &lock);
    else work_on(first);
  }
  return NULL;
}

/* Under the lock. With fewer threads than wished for, or none, callers do more themselves. */
static void start(void) {
  started = true;
  /* The threads never end, so the code they run must never be unloaded. */
  Dl_info self;
  if (dladdr((void *)&started, &self) != 0 && self.dli_fname != NULL) {
    dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
  }
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  /* Signals belong to the threads of the runtime. */
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (size_t width = helpers_width(); running + 1 < width; running++) {
    pthread_t thread;
    if (pthread_create(&thread, &detached, help, NULL) != 0) break;
    pthread_setname_np(thread, "query-helper");
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&detached);
}

void helpers_run(void (*work)(void *), void *const *items, size_t count) {
  if (count == 0) return;
  struct batch batch = {.work = work, .items = items, .count = count};
  pthread_mutex_lock(&lock);
  if (!started && count > 1) start();
  struct batch **last = &first;
  while (*last != NULL) last = &(*last)->later;
  *last = &batch;
  for (size_t wanted = count - 1; wanted > 0 && running > 0; wanted--) pthread_cond_signal(&work_waits);
  while (batch.next < batch.count) work_on(&batch);
  while (batch.ended < batch.count) pthread_cond_wait(&batch_ended, &lock);
  pthread_mutex_unlock(&lock);
}

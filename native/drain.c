#include "drain.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kmes_format.h"
#include "ring_pump.h"
#include "ring_wait.h"

enum {
  /* Steps between looks at generation and pressure: at most 16 x 128 KiB. */
  CYCLE_STEPS = 16,
  /* A drain thread blocked on a channel still measures the ring this often. */
  BLOCKED_MS = 50,
  /* Polls after data before the futex is armed, so that a busy producer pays no wake-ups. */
  POLLS = 5,
  POLL_NS = 200 * 1000,
  WAIT_MS = 500,
  /* A kernel ring is attached anew to compare it, which costs more than a stat. */
  REPLACED_CHECK_FILE_TIMEOUTS = 2,
  REPLACED_CHECK_KERNEL_TIMEOUTS = 20,
  /* Pressure falls only this far below the limit that raised it. */
  HYSTERESIS_POINTS = 10,
  STOP_RETRY_NS = 5 * 1000 * 1000,
};

/* Bits of `control`; any of them keeps the thread from sleeping. */
enum { CONTROL_STOP = 1, CONTROL_FINISH = 2 };

struct drain {
  struct pump pump;
  struct drain_options options;
  uint32_t control; /* atomic */
  _Atomic uint32_t elevated, emergency;
  _Atomic double peak_fill;
  int level;
  int throttled_lane; /* -1 = none */
  uint32_t idle_timeouts;
  bool idle_reported;
  bool unproven; /* nothing has shown yet that the ring was alive when it was mapped */

  pthread_t thread;
  pthread_mutex_t join_lock;
  bool joined;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  struct ring *ring;    /* changed by the thread only */
  struct ring *next;    /* handed over by drain_reattach */
  bool awaits_ring;
  uint64_t finish_at;   /* valid with CONTROL_FINISH */
};

static bool controlled(struct drain *drain, uint32_t bit) {
  return (__atomic_load_n(&drain->control, __ATOMIC_ACQUIRE) & bit) != 0;
}

static void report(struct drain *drain, const struct drain_report *what) {
  drain->options.notify(drain->options.context, what);
}

static void on_note(void *context, const struct pump_note *note) {
  static const enum drain_report_kind kinds[] = {
      [PUMP_AVAILABLE] = DRAIN_AVAILABLE,
      [PUMP_LAPPED] = DRAIN_LAPPED,
      [PUMP_CORRUPT] = DRAIN_CORRUPT,
      [PUMP_GAP] = DRAIN_GAP,
      [PUMP_REGRESSED] = DRAIN_REGRESSED,
  };
  const struct drain_report what = {
      .kind = kinds[note->kind],
      .index = note->lane,
      .half_full = note->half_full,
      .first = note->first,
      .second = note->second,
  };
  report(context, &what);
}

/* ---- Pressure ---- */

static int pressure_level(const struct drain *drain, double percent) {
  double elevated = atomic_load_explicit(&drain->elevated, memory_order_relaxed);
  double emergency = atomic_load_explicit(&drain->emergency, memory_order_relaxed);
  if (drain->level >= 2) emergency -= HYSTERESIS_POINTS;
  if (drain->level >= 1) elevated -= HYSTERESIS_POINTS;
  /* A limit of a few percent must still be left when the ring is empty. */
  if (emergency < 0.5) emergency = 0.5;
  if (elevated < 0.5) elevated = 0.5;
  return percent >= emergency ? 2 : percent >= elevated ? 1 : 0;
}

static void measure(struct drain *drain) {
  double fill = ring_fill(&drain->pump.reader);
  if (fill > atomic_load_explicit(&drain->peak_fill, memory_order_relaxed)) {
    atomic_store_explicit(&drain->peak_fill, fill, memory_order_relaxed);
  }
  int level = pressure_level(drain, fill * 100);
  if (level == drain->level) return;
  drain->level = level;
  report(drain, &(struct drain_report){.kind = DRAIN_PRESSURE, .level = level, .fill = fill});
}

/* ---- Cycles ---- */

static void throttled(struct drain *drain, bool now) {
  int lane = (int)drain->pump.turn;
  if (now && drain->throttled_lane != lane) {
    drain->throttled_lane = lane;
    report(drain, &(struct drain_report){.kind = DRAIN_THROTTLED, .index = (uint32_t)lane});
  } else if (!now && drain->throttled_lane >= 0) {
    uint32_t index = (uint32_t)drain->throttled_lane;
    drain->throttled_lane = -1;
    report(drain, &(struct drain_report){.kind = DRAIN_RESUMED, .index = index});
  }
}

enum cycle { CYCLE_EMPTY, CYCLE_LIMIT, CYCLE_STOPPED };

/* Drains up to `limit`, at most CYCLE_STEPS steps; waits for room in a full channel. */
static enum cycle run_cycle(struct drain *drain, uint64_t limit, bool *moved) {
  for (int steps = 0; steps < CYCLE_STEPS; steps++) {
    if (controlled(drain, CONTROL_STOP)) return CYCLE_STOPPED;
    enum pump_result result = pump_step(&drain->pump, limit);
    switch (result) {
      case PUMP_EMPTY:
        return CYCLE_EMPTY;
      case PUMP_MORE:
        throttled(drain, false);
        *moved = true;
        break;
      case PUMP_CLOSED:
        return CYCLE_STOPPED;
      case PUMP_FULL:
      case PUMP_NO_MEMORY: {
        throttled(drain, true);
        struct channel *channel = drain->pump.lanes[drain->pump.turn].channel;
        if (!channel_wait(channel, drain->pump.need, BLOCKED_MS)) measure(drain);
        if (result == PUMP_NO_MEMORY) {
          nanosleep(&(struct timespec){.tv_nsec = BLOCKED_MS * 1000000L}, NULL);
        }
        break;
      }
    }
  }
  return CYCLE_LIMIT;
}

/*
 * Whether the ring under us is dead: swapped since it was mapped, or before we looked. In the second
 * case it shows its successor's generation and never changes again, while the live ring fills.
 */
static bool ring_changed(struct drain *drain) {
  if (ring_load(drain->ring->page, RING_GENERATION) != drain->ring->generation) return true;
  uint32_t period = drain->ring->path != NULL ? REPLACED_CHECK_FILE_TIMEOUTS
                                              : REPLACED_CHECK_KERNEL_TIMEOUTS;
  if (!drain->unproven && drain->idle_timeouts < period) return false;
  drain->unproven = false;
  drain->idle_timeouts = 0;
  return ring_is_replaced(drain->ring);
}

static bool drain_to_end(struct drain *drain) {
  bool moved;
  enum cycle cycle;
  do {
    measure(drain);
    cycle = run_cycle(drain, UINT64_MAX, &moved);
  } while (cycle == CYCLE_LIMIT);
  return cycle == CYCLE_EMPTY;
}

/*
 * The ring was replaced: drains the old one to its frozen end (KMES-137), reports, and waits for
 * the new one. False when the thread is to end instead.
 */
static bool follow_generation(struct drain *drain) {
  if (!drain_to_end(drain)) return false;
  pthread_mutex_lock(&drain->lock);
  drain->awaits_ring = true;
  pthread_mutex_unlock(&drain->lock);
  report(drain, &(struct drain_report){.kind = DRAIN_GENERATION,
                                       .first = drain->pump.sequence.last});
  pthread_mutex_lock(&drain->lock);
  while (drain->next == NULL && __atomic_load_n(&drain->control, __ATOMIC_ACQUIRE) == 0) {
    pthread_cond_wait(&drain->changed, &drain->lock);
  }
  struct ring *old = drain->ring, *next = drain->next;
  drain->awaits_ring = false;
  if (next == NULL) {
    pthread_mutex_unlock(&drain->lock);
    return false;
  }
  drain->ring = next;
  drain->next = NULL;
  drain->unproven = true;
  pump_read_from(&drain->pump, next->page, next->data, next->capacity);
  /* A finish asked for meanwhile meant this ring's events, too. */
  drain->finish_at = ring_load(next->page, RING_WRITE_POS);
  pthread_mutex_unlock(&drain->lock);
  drain->options.close_ring(drain->options.context, old);
  report(drain, &(struct drain_report){.kind = DRAIN_REATTACHED,
                                       .first = next->generation,
                                       .second = next->capacity});
  return true;
}

/* Nothing to read: polls a little after data, then sleeps on the futex. */
static void rest(struct drain *drain, int *polls) {
  if (*polls > 0) {
    (*polls)--;
    nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    return;
  }
  if (!drain->idle_reported) {
    drain->idle_reported = true;
    report(drain, &(struct drain_report){.kind = DRAIN_IDLE});
  }
  enum ring_wait waited =
      ring_wait(drain->ring, drain->pump.reader.read_pos, &drain->control, WAIT_MS);
  if (waited == RING_WAIT_TIMEOUT) drain->idle_timeouts++;
}

static uint64_t drain_limit(struct drain *drain) {
  if (!controlled(drain, CONTROL_FINISH)) return UINT64_MAX;
  pthread_mutex_lock(&drain->lock);
  uint64_t limit = drain->finish_at;
  pthread_mutex_unlock(&drain->lock);
  return limit;
}

/*
 * A channel was closed: nothing can be handed over any more. Whoever asks for a finish is still
 * owed an answer, so the thread waits for its end here.
 */
static void park(struct drain *drain) {
  pthread_mutex_lock(&drain->lock);
  while (__atomic_load_n(&drain->control, __ATOMIC_ACQUIRE) == 0) {
    pthread_cond_wait(&drain->changed, &drain->lock);
  }
  pthread_mutex_unlock(&drain->lock);
}

static void *drain_main(void *argument) {
  struct drain *drain = argument;
  int polls = 0;
  drain->unproven = true;
  for (;;) {
    measure(drain);
    bool moved = false;
    uint64_t limit = drain_limit(drain);
    enum cycle cycle = run_cycle(drain, limit, &moved);
    if (cycle == CYCLE_STOPPED) break;
    if (moved) {
      polls = POLLS;
      drain->idle_timeouts = 0;
      drain->idle_reported = false;
    }
    if (cycle == CYCLE_EMPTY && limit != UINT64_MAX) break;
    if (ring_changed(drain)) {
      if (!follow_generation(drain)) break;
      continue;
    }
    if (cycle == CYCLE_EMPTY) {
      measure(drain);
      rest(drain, &polls);
    }
  }
  park(drain);
  if (!controlled(drain, CONTROL_STOP)) {
    report(drain, &(struct drain_report){.kind = DRAIN_FINISHED,
                                         .first = drain->pump.sequence.last});
  }
  return NULL;
}

/* ---- Control ---- */

int drain_start(const struct drain_options *options, struct drain **out) {
  struct drain *drain = calloc(1, sizeof *drain);
  if (drain == NULL) return ENOMEM;
  drain->options = *options;
  drain->ring = options->ring;
  drain->throttled_lane = -1;
  atomic_init(&drain->elevated, options->elevated_percent);
  atomic_init(&drain->emergency, options->emergency_percent);
  pthread_mutex_init(&drain->lock, NULL);
  pthread_mutex_init(&drain->join_lock, NULL);
  pthread_cond_init(&drain->changed, NULL);
  int error = ENOMEM;
  if (pump_start(&drain->pump, options->cpu, options->channels, options->channel_count,
                 options->last_sequence, options->last_ts, options->covered,
                 options->covered_count)) {
    drain->pump.notify = on_note;
    drain->pump.context = drain;
    pump_read_from(&drain->pump, drain->ring->page, drain->ring->data, drain->ring->capacity);
    /* Signals belong to the main thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&drain->thread, NULL, drain_main, drain);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  if (error == 0) {
    /* What `top -H` and a debugger show. */
    char name[16];
    snprintf(name, sizeof name, "drain-%u", (unsigned)options->cpu);
    pthread_setname_np(drain->thread, name);
  }
  if (error != 0) {
    pump_stop(&drain->pump);
    drain_free(drain);
    return error;
  }
  *out = drain;
  return 0;
}

/* Gets the thread out of whatever it waits in. It may be just about to sleep: repeat if needed. */
static void kick(struct drain *drain) {
  pthread_mutex_lock(&drain->lock);
  pthread_cond_broadcast(&drain->changed);
  ring_wake(drain->ring->page);
  pthread_mutex_unlock(&drain->lock);
  for (uint32_t i = 0; i < drain->options.channel_count; i++) {
    channel_nudge(drain->pump.lanes[i].channel);
  }
}

void drain_stop(struct drain *drain) {
  pthread_mutex_lock(&drain->join_lock);
  if (!drain->joined) {
    __atomic_or_fetch(&drain->control, CONTROL_STOP, __ATOMIC_SEQ_CST);
    int joined;
    do {
      kick(drain);
      struct timespec until;
      clock_gettime(CLOCK_REALTIME, &until);
      until.tv_nsec += STOP_RETRY_NS;
      until.tv_sec += until.tv_nsec / 1000000000L;
      until.tv_nsec %= 1000000000L;
      joined = pthread_timedjoin_np(drain->thread, NULL, &until);
    } while (joined == ETIMEDOUT);
    drain->joined = true;
    pthread_mutex_lock(&drain->lock);
    struct ring *ring = drain->ring, *next = drain->next;
    drain->ring = drain->next = NULL;
    pthread_mutex_unlock(&drain->lock);
    if (ring != NULL) drain->options.close_ring(drain->options.context, ring);
    if (next != NULL) drain->options.close_ring(drain->options.context, next);
    pump_stop(&drain->pump);
  }
  pthread_mutex_unlock(&drain->join_lock);
}

void drain_free(struct drain *drain) {
  pthread_cond_destroy(&drain->changed);
  pthread_mutex_destroy(&drain->lock);
  pthread_mutex_destroy(&drain->join_lock);
  free(drain);
}

void drain_finish(struct drain *drain) {
  pthread_mutex_lock(&drain->lock);
  if (drain->ring != NULL && !controlled(drain, CONTROL_FINISH | CONTROL_STOP)) {
    drain->finish_at = ring_load(drain->ring->page, RING_WRITE_POS);
    __atomic_or_fetch(&drain->control, CONTROL_FINISH, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&drain->changed);
    ring_wake(drain->ring->page);
  }
  pthread_mutex_unlock(&drain->lock);
}

int drain_reattach(struct drain *drain, struct ring *ring) {
  pthread_mutex_lock(&drain->lock);
  int error = 0;
  if (!drain->awaits_ring || drain->next != NULL) {
    error = EBUSY;
  } else if (ring->cpu != drain->options.cpu) {
    error = EINVAL;
  } else {
    drain->next = ring;
    pthread_cond_broadcast(&drain->changed);
  }
  pthread_mutex_unlock(&drain->lock);
  return error;
}

void drain_limits(struct drain *drain, uint32_t elevated_percent, uint32_t emergency_percent) {
  atomic_store_explicit(&drain->elevated, elevated_percent, memory_order_relaxed);
  atomic_store_explicit(&drain->emergency, emergency_percent, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

void drain_status(struct drain *drain, struct drain_status *status) {
  const struct pump_counters *counters = &drain->pump.counters;
  *status = (struct drain_status){
      .last_sequence = get(&counters->last_sequence),
      .read_pos = get(&counters->read_pos),
      .events = get(&counters->events),
      .gaps = get(&counters->gaps),
      .lost = get(&counters->lost),
      .peak_fill = atomic_load_explicit(&drain->peak_fill, memory_order_relaxed),
  };
}

/*
 * The account of one CPU under stress: what was emitted where, and what became of each sequence.
 * Every number must be delivered intact exactly once, or lie in exactly one gap; and a number in a
 * gap must have been overwritten, dropped by the producer, or given up behind damaged bytes.
 *
 * Positions are *global* here: a resize moves events to the start of a new ring, and `base` of its
 * generation makes up for it.
 */
#ifndef EVENTD_TEST_STRESS_LEDGER_H
#define EVENTD_TEST_STRESS_LEDGER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "expect.h"

/* What the run's choices follow from, for whoever reads its failure. */
static unsigned long long stress_seed;

/* Ends the run at once: after one broken promise the account proves nothing more. */
#define MUST(condition)                                                                   \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      fprintf(stderr, "%s:%d: not true: %s\nnot ok %s (STRESS_SEED=%llu)\n", __FILE__,    \
              __LINE__, #condition, expect_title, stress_seed);                            \
      fflush(NULL);                                                                       \
      _exit(1);                                                                           \
    }                                                                                     \
  } while (0)

enum {
  LEDGER_WINDOW = 1 << 19, /* sequences that may be under way at once */
  LEDGER_SPANS = 1 << 14,
  LEDGER_GENERATIONS = 1 << 12,
};

/* What became of a sequence; in the low bits of its mark, with the shard that took it above. */
enum {
  MARK_DROPPED = 1, /* no event of it was ever in the ring */
  MARK_TAKEN = 2,
  MARK_LOST = 4, /* its segment failed */
  MARK_SAFE = 8, /* committed, or recorded as lost */
  MARK_SHARD_SHIFT = 4,
  MARK_SEQUENCE_SHIFT = 8,
};

struct span {
  uint64_t from, to;
};

/* Spans in the order they were added; the oldest are forgotten. */
struct span_list {
  struct span spans[LEDGER_SPANS];
  uint64_t count;
};

struct ledger {
  _Atomic uint64_t marks[LEDGER_WINDOW], positions[LEDGER_WINDOW];
  _Atomic uint64_t emitted; /* last sequence consumed by the producer */
  _Atomic uint64_t floor;   /* everything up to here is safe, and its marks may be reused */
  pthread_mutex_t lock;     /* guards what follows */
  uint64_t base[LEDGER_GENERATIONS], end[LEDGER_GENERATIONS], inodes[LEDGER_GENERATIONS];
  struct span_list jumps;   /* ring the reader passed over, ascending */
  struct span_list cuts;    /* damaged survivors that a resize left behind */
  /* Events whose bytes were spoiled. */
  struct damage {
    uint64_t at, generation;
  } damages[LEDGER_SPANS];
  uint64_t damage_count;
};

static inline struct ledger *ledger_new(void) {
  struct ledger *ledger = calloc(1, sizeof *ledger);
  if (ledger == NULL) abort();
  pthread_mutex_init(&ledger->lock, NULL);
  return ledger;
}

static inline void ledger_free(struct ledger *ledger) {
  pthread_mutex_destroy(&ledger->lock);
  free(ledger);
}

static inline void span_add(struct span_list *list, uint64_t from, uint64_t to) {
  list->spans[list->count++ % LEDGER_SPANS] = (struct span){from, to};
}

/*
 * The same for an ascending list. What reaches back was judged before: a reader that has changed
 * rings reads the survivors once more, and may be lapped among them.
 */
static inline void span_add_ascending(struct span_list *list, uint64_t from, uint64_t to) {
  uint64_t high = list->count > 0 ? list->spans[(list->count - 1) % LEDGER_SPANS].to : 0;
  if (from < high) from = high;
  if (from < to) span_add(list, from, to);
}

/* Whether a span of an ascending list holds this position. */
static inline bool span_ascending_has(const struct span_list *list, uint64_t position) {
  uint64_t low = list->count > LEDGER_SPANS ? list->count - LEDGER_SPANS : 0, high = list->count;
  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    const struct span *span = &list->spans[middle % LEDGER_SPANS];
    if (position >= span->from && position < span->to) return true;
    if (position < span->from) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return false;
}

static inline bool span_any_has(const struct span_list *list, uint64_t position) {
  for (uint64_t i = 0; i < list->count && i < LEDGER_SPANS; i++) {
    if (position >= list->spans[i].from && position < list->spans[i].to) return true;
  }
  return false;
}

static inline bool ledger_damaged(const struct ledger *ledger, uint64_t position,
                                  uint64_t generation) {
  for (uint64_t i = 0; i < ledger->damage_count && i < LEDGER_SPANS; i++) {
    const struct damage *damage = &ledger->damages[i];
    if (damage->at == position && damage->generation == generation) return true;
  }
  return false;
}

/* ---- Producer ---- */

static inline uint64_t ledger_floor(struct ledger *ledger) {
  uint64_t floor = atomic_load(&ledger->floor), emitted = atomic_load(&ledger->emitted);
  while (floor < emitted) {
    uint64_t mark = atomic_load(&ledger->marks[(floor + 1) % LEDGER_WINDOW]);
    if ((mark & MARK_SAFE) == 0) break;
    floor++;
  }
  atomic_store(&ledger->floor, floor);
  return floor;
}

/* Before the event becomes visible. The caller has seen to it that the window has room. */
static inline void ledger_emit(struct ledger *ledger, uint64_t sequence, uint64_t position,
                               bool dropped) {
  MUST(sequence - atomic_load(&ledger->floor) <= LEDGER_WINDOW);
  atomic_store(&ledger->positions[sequence % LEDGER_WINDOW], position);
  atomic_store(&ledger->marks[sequence % LEDGER_WINDOW],
               sequence << MARK_SEQUENCE_SHIFT | (dropped ? MARK_DROPPED : 0));
}

/* ---- Reader and writers ---- */

static inline bool ledger_excused(struct ledger *ledger, uint64_t sequence, uint64_t mark) {
  if (mark & MARK_DROPPED) return true;
  uint64_t position = atomic_load(&ledger->positions[sequence % LEDGER_WINDOW]);
  pthread_mutex_lock(&ledger->lock);
  bool excused = span_ascending_has(&ledger->jumps, position) ||
                 span_any_has(&ledger->cuts, position);
  pthread_mutex_unlock(&ledger->lock);
  return excused;
}

/* A writer got this number, as an event or inside a gap. */
static inline void ledger_take(struct ledger *ledger, uint64_t sequence, uint32_t shard, bool gap) {
  uint64_t taken = (uint64_t)shard << MARK_SHARD_SHIFT | MARK_TAKEN;
  uint64_t mark = atomic_fetch_or(&ledger->marks[sequence % LEDGER_WINDOW], taken);
  MUST(mark >> MARK_SEQUENCE_SHIFT == sequence);
  MUST((mark & MARK_TAKEN) == 0);
  MUST(!gap || ledger_excused(ledger, sequence, mark));
  MUST(gap || (mark & MARK_DROPPED) == 0);
}

/* Adds a flag to a number that was taken; it must not have it yet. */
static inline void ledger_flag(struct ledger *ledger, uint64_t sequence, uint64_t flag) {
  uint64_t mark = atomic_fetch_or(&ledger->marks[sequence % LEDGER_WINDOW], flag);
  MUST(mark >> MARK_SEQUENCE_SHIFT == sequence);
  MUST((mark & MARK_TAKEN) != 0 && (mark & (flag | MARK_SAFE)) == 0);
}

/* Whether a watermark may claim this number, were `shard` to commit what it has taken. */
static inline bool ledger_claimable(struct ledger *ledger, uint64_t sequence, uint32_t shard) {
  uint64_t mark = atomic_load(&ledger->marks[sequence % LEDGER_WINDOW]);
  if (sequence <= atomic_load(&ledger->floor) || (mark & MARK_SAFE) != 0) return true;
  bool here = ((mark >> MARK_SHARD_SHIFT) & 15) == shard;
  return (mark & MARK_TAKEN) != 0 && (mark & MARK_LOST) == 0 && here;
}

#endif

#include "watermark.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct lane {
  uint64_t first[LANE_STAGES];
};

struct track {
  pthread_mutex_t lock; /* guards lanes */
  _Atomic uint64_t handed;
  atomic_uint references;
  uint32_t lane_count;
  uint16_t cpu;
  struct lane lanes[];
};

struct track *track_new(uint16_t cpu, uint32_t lanes, uint64_t handed) {
  struct track *track = calloc(1, sizeof *track + lanes * sizeof(struct lane));
  if (track == NULL) return NULL;
  pthread_mutex_init(&track->lock, NULL);
  atomic_init(&track->handed, handed);
  atomic_init(&track->references, 1);
  track->lane_count = lanes;
  track->cpu = cpu;
  return track;
}

struct track *track_ref(struct track *track) {
  atomic_fetch_add_explicit(&track->references, 1, memory_order_relaxed);
  return track;
}

void track_unref(struct track *track) {
  if (track == NULL) return;
  if (atomic_fetch_sub_explicit(&track->references, 1, memory_order_acq_rel) != 1) return;
  pthread_mutex_destroy(&track->lock);
  free(track);
}

uint16_t track_cpu(const struct track *track) { return track->cpu; }

void track_handed(struct track *track, uint64_t sequence) {
  atomic_store_explicit(&track->handed, sequence, memory_order_release);
}

void track_mark(struct track *track, uint32_t lane, enum lane_stage stage, uint64_t first) {
  pthread_mutex_lock(&track->lock);
  track->lanes[lane].first[stage] = first;
  pthread_mutex_unlock(&track->lock);
}

void track_move(struct track *track, uint32_t lane, enum lane_stage from, uint64_t from_first,
                enum lane_stage to, uint64_t to_first) {
  pthread_mutex_lock(&track->lock);
  track->lanes[lane].first[from] = from_first;
  track->lanes[lane].first[to] = to_first;
  pthread_mutex_unlock(&track->lock);
}

uint64_t track_settled(struct track *track, uint32_t committing) {
  pthread_mutex_lock(&track->lock);
  /*
   * `handed` is read before the lanes. A drain thread marks a lane first and raises `handed`
   * afterwards, so whatever is at or below this value is already visible in its lane; what is
   * appended meanwhile lies above it.
   */
  uint64_t settled = atomic_load_explicit(&track->handed, memory_order_acquire);
  for (uint32_t i = 0; i < track->lane_count; i++) {
    for (int stage = 0; stage < LANE_STAGES; stage++) {
      if (i == committing && stage == LANE_OUT) continue;
      uint64_t first = track->lanes[i].first[stage];
      if (first != 0 && first - 1 < settled) settled = first - 1;
    }
  }
  pthread_mutex_unlock(&track->lock);
  return settled;
}

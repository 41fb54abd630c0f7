/*
 * The ring file as its producers see it: creation, mapping, and the state they share beyond the
 * published metadata.
 */
#ifndef EVENTD_RING_FILE_H
#define EVENTD_RING_FILE_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

#include "kmes_format.h"
#include "ring_map.h"

/* At RING_PRODUCER_STATE in the producer page. Consumers never look at it. */
struct producer_state {
  uint8_t magic[8];
  pthread_mutex_t lock; /* robust, process-shared: held for the whole write phase */
  uint64_t sequence;    /* last one consumed */
  uint64_t dropped;
  uint32_t retired; /* this ring was replaced; whoever has it mapped opens the path again */
};

#define PRODUCER_STATE_MAGIC "EVDRING1"

struct ring_file {
  uint8_t *base; /* producer page, consumer page, data twice; all writable */
  uint64_t capacity;
  int fd;
  dev_t device;
  ino_t inode;
};

static inline struct producer_state *ring_file_state(const struct ring_file *file) {
  return (struct producer_state *)(void *)(file->base + RING_PRODUCER_STATE);
}

/* Maps an existing ring for writing. Returns 0 or an errno with `reason` for EINVAL. */
int ring_file_open(const char *path, struct ring_file *file, const char **reason);

/*
 * Makes a complete, empty ring under a temporary name beside `path`. The caller fills it and then
 * publishes or discards it.
 */
int ring_file_draft(const char *path, uint16_t cpu, uint64_t capacity, uint64_t generation,
                    struct ring_file *file, char **draft);
/* Renames the draft to `path`; frees the name. On failure the draft is removed and unmapped. */
int ring_file_publish(struct ring_file *file, char *draft, const char *path);

void ring_file_close(struct ring_file *file);

#endif

/*
 * Producer of an embedded ring file: the writer's side of the KMES protocol (KMES-108..116), the
 * resize with survivors (KMES-142..147), and what replaces the kernel's privileges: a robust lock
 * shared by all producing processes, and counters that live as long as the file.
 */
#ifndef EVENTD_RING_WRITE_H
#define EVENTD_RING_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct producer;

struct producer_event {
  const uint8_t *type, *payload;
  size_t type_len, payload_len;
};

/* Effective token, true token, process: 16 bytes each. */
struct producer_identity {
  uint8_t guids[48];
};

struct producer_status {
  uint64_t write_pos, tail_pos, generation, capacity, sequence, dropped;
};

/*
 * Creates a ring file under a temporary name and renames it to `path`, replacing what is there.
 * `reason` explains EINVAL. Returns 0 or an errno.
 */
int producer_create(const char *path, uint16_t cpu, uint64_t capacity, struct producer **out,
                    const char **reason);
int producer_open(const char *path, struct producer **out, const char **reason);
void producer_close(struct producer *producer);

/*
 * Writes all events under one timestamp and one identity (NULL = null GUIDs), visible at once.
 * An event that fails the structural checks (KMES-54) is dropped: its sequence is consumed. Sets
 * `written` and the last sequence consumed. Returns 0 or an errno (the ring cannot be reached).
 */
int producer_emit(struct producer *producer, uint8_t origin, const struct producer_event *events,
                  size_t count, const struct producer_identity *identity, size_t *written,
                  uint64_t *last_sequence);

/* Replaces the ring by one of another capacity. EINVAL when it is equal or no valid capacity. */
int producer_resize(struct producer *producer, uint64_t capacity, const char **reason);

int producer_status(struct producer *producer, struct producer_status *status);

#endif

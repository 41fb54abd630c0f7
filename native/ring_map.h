/*
 * A consumer's mapping of one ring (KMES-86..101): metadata page and data read-only, consumer
 * page writable, the data twice in a row so that every event is contiguous.
 */
#ifndef EVENTD_RING_MAP_H
#define EVENTD_RING_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ring {
  const uint8_t *page; /* producer page; the mapping starts here */
  uint8_t *need_wake;  /* the consumer page's flag */
  const uint8_t *data; /* 2 x capacity bytes */
  uint64_t capacity;
  uint64_t generation; /* when mapped: a different live value means this mapping is dead */
  uint16_t cpu;
  int fd;
  char *path; /* NULL for a kernel ring */
  dev_t device;
  ino_t inode;
  /* Kept by whoever shares the ring out: its handle, and whether a drain thread owns it. */
  int64_t handle;
  int owned;
};

enum { KMES_ATTACH_SYSCALL = 1091 };

/*
 * Maps a ring file. Returns 0 or an errno; `reason` then says what was wrong with the file.
 * Metadata is verified before anything is believed: size, magic, version, capacity, offsets.
 */
int ring_map_file(const char *path, struct ring **out, const char **reason);

/*
 * The real kmes_attach; retries when the capacity changes between attach and mmap. Its errno, so
 * EINVAL only for a CPU that does not exist (KMES-89); EPROTO for a mapping that is no ring.
 */
int ring_map_kernel(uint32_t cpu, struct ring **out, const char **reason);

/* Unmaps, then closes. */
void ring_unmap(struct ring *ring);

/*
 * True when a fresh attach would reach another ring than this mapping: the case of a swap that
 * happened between attaching and reading the generation. Cheap; any failure means false.
 */
bool ring_is_replaced(const struct ring *ring);

static inline uint64_t ring_load(const uint8_t *page, int offset) {
  return __atomic_load_n((const uint64_t *)(const void *)(page + offset), __ATOMIC_ACQUIRE);
}

/*
 * Maps `capacity` data bytes of `fd` from RING_DATA_OFFSET twice, after the two metadata pages,
 * into one reserved range. `writable` chooses the producer's protection. NULL with errno.
 */
uint8_t *ring_map_double(int fd, uint64_t capacity, bool writable);
void ring_unmap_double(uint8_t *base, uint64_t capacity);

/* NULL when the metadata page describes a ring of `capacity` bytes, else the complaint. */
const char *ring_check_metadata(const uint8_t *page, uint64_t capacity);
bool ring_capacity_valid(uint64_t capacity);

#endif

#include "ring_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kmes_format.h"

enum { ATTACH_ATTEMPTS = 16 };

bool ring_capacity_valid(uint64_t capacity) {
  return capacity >= RING_MIN_CAPACITY && capacity <= RING_MAX_CAPACITY &&
         (capacity & (capacity - 1)) == 0;
}

const char *ring_check_metadata(const uint8_t *page, uint64_t capacity) {
  if (memcmp(page + RING_MAGIC, RING_MAGIC_BYTES, RING_MAGIC_LEN) != 0) return "wrong magic";
  if (read_u32(page + RING_VERSION_AT) != RING_VERSION) return "unknown ring version";
  if (read_u64(page + RING_CAPACITY) != capacity) return "capacity does not match the size";
  if (read_u64(page + RING_DATA_OFFSET_AT) != RING_DATA_OFFSET) return "wrong data offset";
  if (ring_load(page, RING_GENERATION) == 0) return "generation is 0";
  return NULL;
}

uint8_t *ring_map_double(int fd, uint64_t capacity, bool writable) {
  int producer = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  size_t span = RING_DATA_OFFSET + 2 * capacity;
  uint8_t *base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return NULL;
  const struct {
    size_t at, length;
    int protection;
    off_t offset;
  } parts[] = {
      {0, RING_PAGE, producer, 0},
      {RING_PAGE, RING_PAGE, PROT_READ | PROT_WRITE, RING_PAGE},
      {RING_DATA_OFFSET, capacity, producer, RING_DATA_OFFSET},
      {RING_DATA_OFFSET + capacity, capacity, producer, RING_DATA_OFFSET},
  };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    void *mapped = mmap(base + parts[i].at, parts[i].length, parts[i].protection,
                        MAP_SHARED | MAP_FIXED, fd, parts[i].offset);
    if (mapped == MAP_FAILED) {
      int error = errno;
      munmap(base, span);
      errno = error;
      return NULL;
    }
  }
  return base;
}

void ring_unmap_double(uint8_t *base, uint64_t capacity) {
  munmap(base, RING_DATA_OFFSET + 2 * capacity);
}

static struct ring *ring_describe(uint8_t *base, uint64_t capacity, int fd) {
  struct ring *ring = calloc(1, sizeof *ring);
  if (ring == NULL) return NULL;
  ring->page = base;
  ring->need_wake = base + RING_NEED_WAKE;
  ring->data = base + RING_DATA_OFFSET;
  ring->capacity = capacity;
  ring->generation = ring_load(base, RING_GENERATION);
  ring->cpu = read_u16(base + RING_CPU_ID);
  ring->fd = fd;
  return ring;
}

int ring_map_file(const char *path, struct ring **out, const char **reason) {
  *reason = NULL;
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno;
  int error = EINVAL;
  struct stat status;
  if (fstat(fd, &status) != 0) {
    error = errno;
    goto fail;
  }
  uint64_t capacity = (uint64_t)status.st_size - RING_DATA_OFFSET;
  if (!S_ISREG(status.st_mode)) {
    *reason = "not a regular file";
    goto fail;
  }
  if (status.st_size < RING_DATA_OFFSET || !ring_capacity_valid(capacity)) {
    *reason = "file size is not 8192 plus a power of two from 64 KiB to 256 MiB";
    goto fail;
  }
  uint8_t *base = ring_map_double(fd, capacity, false);
  if (base == NULL) {
    error = errno;
    goto fail;
  }
  *reason = ring_check_metadata(base, capacity);
  struct ring *ring = *reason == NULL ? ring_describe(base, capacity, fd) : NULL;
  char *copy = ring != NULL ? strdup(path) : NULL;
  if (copy == NULL) {
    if (*reason == NULL) error = ENOMEM;
    free(ring);
    ring_unmap_double(base, capacity);
    goto fail;
  }
  ring->path = copy;
  ring->device = status.st_dev;
  ring->inode = status.st_ino;
  *out = ring;
  return 0;

fail:
  close(fd);
  return error;
}

int ring_map_kernel(uint32_t cpu, struct ring **out, const char **reason) {
  *reason = NULL;
  for (int attempt = 0; attempt < ATTACH_ATTEMPTS; attempt++) {
    uint64_t capacity = 0;
    long fd = syscall(KMES_ATTACH_SYSCALL, cpu, &capacity);
    if (fd < 0) return errno;
    /* The kernel promises O_CLOEXEC nowhere; children must not inherit a ring. */
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    *reason = "capacity is not a power of two from 64 KiB to 256 MiB";
    if (ring_capacity_valid(capacity)) {
      size_t span = RING_DATA_OFFSET + 2 * capacity;
      uint8_t *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
      if (base == MAP_FAILED) {
        int error = errno;
        close((int)fd);
        /* A swap between attach and mmap may have changed the size; other failures are final. */
        if (error != EINVAL) return error;
        continue;
      }
      *reason = ring_check_metadata(base, capacity);
      if (*reason == NULL && read_u16(base + RING_CPU_ID) != cpu) *reason = "ring of another CPU";
      struct ring *ring = *reason == NULL ? ring_describe(base, capacity, (int)fd) : NULL;
      if (ring != NULL) {
        *out = ring;
        return 0;
      }
      munmap(base, span);
      if (*reason == NULL) {
        close((int)fd);
        return ENOMEM;
      }
    }
    close((int)fd);
  }
  /* Not EINVAL, which means that there is no such CPU: half a machine would go unread unnoticed. */
  return EPROTO;
}

void ring_unmap(struct ring *ring) {
  if (ring == NULL) return;
  ring_unmap_double((uint8_t *)(uintptr_t)ring->page, ring->capacity);
  close(ring->fd);
  free(ring->path);
  free(ring);
}

bool ring_is_replaced(const struct ring *ring) {
  if (ring->path != NULL) {
    struct stat status;
    if (stat(ring->path, &status) != 0) return false;
    return status.st_ino != ring->inode || status.st_dev != ring->device;
  }
  struct ring *fresh;
  const char *reason;
  if (ring_map_kernel(ring->cpu, &fresh, &reason) != 0) return false;
  /* Swaps happen only on a capacity change, so a different pair proves a swap. */
  bool replaced = fresh->capacity != ring->capacity || fresh->generation != ring->generation;
  ring_unmap(fresh);
  return replaced;
}

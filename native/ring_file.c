#include "ring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(RING_PRODUCER_STATE + sizeof(struct producer_state) <= RING_PAGE,
               "producer state fits its page");

static int remember_inode(struct ring_file *file) {
  struct stat status;
  if (fstat(file->fd, &status) != 0) return errno;
  file->device = status.st_dev;
  file->inode = status.st_ino;
  return 0;
}

int ring_file_open(const char *path, struct ring_file *file, const char **reason) {
  *reason = NULL;
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno;
  struct stat status;
  if (fstat(fd, &status) != 0) {
    int error = errno;
    close(fd);
    return error;
  }
  uint64_t capacity = (uint64_t)status.st_size - RING_DATA_OFFSET;
  if (!S_ISREG(status.st_mode) || status.st_size < RING_DATA_OFFSET ||
      !ring_capacity_valid(capacity)) {
    *reason = "file size is not 8192 plus a power of two from 64 KiB to 256 MiB";
    close(fd);
    return EINVAL;
  }
  *file = (struct ring_file){.capacity = capacity, .fd = fd};
  file->base = ring_map_double(fd, capacity, true);
  if (file->base == NULL) {
    int error = errno;
    close(fd);
    return error;
  }
  *reason = ring_check_metadata(file->base, capacity);
  if (*reason == NULL && memcmp(ring_file_state(file)->magic, PRODUCER_STATE_MAGIC, 8) != 0) {
    *reason = "no producer state";
  }
  if (*reason != NULL) {
    ring_file_close(file);
    return EINVAL;
  }
  return remember_inode(file);
}

static int init_lock(pthread_mutex_t *lock) {
  pthread_mutexattr_t attributes;
  int error = pthread_mutexattr_init(&attributes);
  if (error != 0) return error;
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  error = pthread_mutex_init(lock, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return error;
}

static int fill_metadata(struct ring_file *file, uint16_t cpu, uint64_t generation) {
  struct producer_state *state = ring_file_state(file);
  int error = init_lock(&state->lock);
  if (error != 0) return error;
  memcpy(state->magic, PRODUCER_STATE_MAGIC, sizeof state->magic);
  memcpy(file->base + RING_MAGIC, RING_MAGIC_BYTES, RING_MAGIC_LEN);
  write_u32(file->base + RING_VERSION_AT, RING_VERSION);
  write_u16(file->base + RING_CPU_ID, cpu);
  write_u64(file->base + RING_CAPACITY, file->capacity);
  write_u64(file->base + RING_DATA_OFFSET_AT, RING_DATA_OFFSET);
  write_u64(file->base + RING_GENERATION, generation);
  return 0;
}

int ring_file_draft(const char *path, uint16_t cpu, uint64_t capacity, uint64_t generation,
                    struct ring_file *file, char **draft) {
  static atomic_uint serial;
  char *name;
  if (asprintf(&name, "%s.%ld-%u.new", path, (long)getpid(), atomic_fetch_add(&serial, 1)) < 0) {
    return ENOMEM;
  }
  int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    int error = errno;
    free(name);
    return error;
  }
  *file = (struct ring_file){.capacity = capacity, .fd = fd};
  /* Real blocks now: running out of memory later would be a SIGBUS inside the write phase. */
  int error = posix_fallocate(fd, 0, (off_t)(RING_DATA_OFFSET + capacity));
  if (error == EOPNOTSUPP || error == ENOSYS) {
    error = ftruncate(fd, (off_t)(RING_DATA_OFFSET + capacity)) == 0 ? 0 : errno;
  }
  if (error == 0) error = remember_inode(file);
  if (error == 0) {
    file->base = ring_map_double(fd, capacity, true);
    error = file->base == NULL ? errno : fill_metadata(file, cpu, generation);
  }
  if (error != 0) {
    ring_file_close(file);
    unlink(name);
    free(name);
    return error;
  }
  *draft = name;
  return 0;
}

int ring_file_publish(struct ring_file *file, char *draft, const char *path) {
  int error = rename(draft, path) == 0 ? 0 : errno;
  if (error != 0) {
    unlink(draft);
    ring_file_close(file);
  }
  free(draft);
  return error;
}

void ring_file_close(struct ring_file *file) {
  if (file->base != NULL) ring_unmap_double(file->base, file->capacity);
  if (file->fd >= 0) close(file->fd);
  file->base = NULL;
  file->fd = -1;
}

/*
 * LD_PRELOAD shim: makes chosen file operations of a program fail as a bad disk would, by the rules in
 * the file that EVENTD_TEST_FAULTS names (faults.h). A test changes the rules while the program runs.
 *
 * An operation without a matching rule costs one load, or a readlink(2) where a rule names its kind.
 */
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

/* What follows a removed file's path in /proc/self/fd. */
#define REMOVED " (deleted)"

static struct fault_control *control;

/* The next definition of the function that calls it: libc's. */
#define REAL(name) \
  ({ \
    static __typeof__(&name) real; \
    if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    real; \
  })

__attribute__((constructor)) static void map_control(void) {
  const char *path = getenv("EVENTD_TEST_FAULTS");
  if (path == NULL) return;
  int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
  void *block = fd < 0 ? MAP_FAILED
                       : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (block == MAP_FAILED) {
    perror(path);
    abort();
  }
  close(fd);
  control = block;
}

static bool take(_Atomic int64_t *left) {
  int64_t n = atomic_load(left);
  while (n > 0) {
    if (atomic_compare_exchange_weak(left, &n, n - 1)) return true;
  }
  return false;
}

static bool applies(struct fault_rule *rule, uint32_t operation) {
  return atomic_load_explicit(&rule->armed, memory_order_acquire) != 0 &&
         (rule->operations & operation) != 0 &&
         (rule->behind == 0 || atomic_load(&control->rules[rule->behind - 1].fail) == 0);
}

/* The rule that wants this operation to fail, now counted as a hit; NULL when there is none. */
static struct fault_rule *failing(uint32_t operation, const char *path) {
  uint32_t used = atomic_load_explicit(&control->used, memory_order_acquire);
  for (uint32_t i = 0; i < used && i < FAULT_RULES; i++) {
    struct fault_rule *rule = &control->rules[i];
    if (!applies(rule, operation) || fnmatch(rule->path, path, 0) != 0) continue;
    if (take(&rule->pass)) continue;
    if (atomic_load(&rule->fail) >= 0 && !take(&rule->fail)) continue;
    atomic_fetch_add(&rule->hits, 1);
    return rule;
  }
  return NULL;
}

static bool any_applies(uint32_t operation) {
  if (control == NULL) return false;
  uint32_t used = atomic_load_explicit(&control->used, memory_order_acquire);
  for (uint32_t i = 0; i < used && i < FAULT_RULES; i++) {
    if (applies(&control->rules[i], operation)) return true;
  }
  return false;
}

static struct fault_rule *failing_fd(uint32_t operation, int fd) {
  if (!any_applies(operation)) return NULL;
  int before = errno;
  char link[32];
  char path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length <= 0) return NULL;
  path[length] = '\0';
  size_t removed = strlen(REMOVED);
  if ((size_t)length > removed && strcmp(path + length - removed, REMOVED) == 0) {
    path[length - removed] = '\0';
  }
  return failing(operation, path);
}

static struct fault_rule *failing_path(uint32_t operation, const char *path) {
  return any_applies(operation) ? failing(operation, path) : NULL;
}

/* Kills the process where the rule says so; else sets errno and gives -1. */
static int refuse(const struct fault_rule *rule) {
  if ((rule->flags & FAULT_KILL) != 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = (int)rule->error;
  return -1;
}

static uint32_t opening(int flags) {
  bool changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
  return FAULT_OPEN | (changes ? FAULT_OPEN_WRITE : 0);
}

static bool has_mode(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

#define EXPORT __attribute__((visibility("default")))

#define OPEN(name) \
  EXPORT int name(const char *path, int flags, ...) { \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = has_mode(flags) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    struct fault_rule *rule = failing_path(opening(flags), path); \
    return rule == NULL ? REAL(name)(path, flags, mode) : refuse(rule); \
  }

OPEN(open)
OPEN(open64)

/* A torn write keeps its first half, as a disk that fills up or fails in the middle does. */
#define WRITE(name, parameters, whole, half) \
  EXPORT ssize_t name parameters { \
    struct fault_rule *rule = failing_fd(FAULT_WRITE, fd); \
    if (rule == NULL) return REAL(name) whole; \
    if ((rule->flags & FAULT_TORN) != 0) (void)!REAL(name) half; \
    return refuse(rule); \
  }

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
      (fd, data, size / 2, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
      (fd, data, size / 2, at))

#define ON_FD(type, name, operation, parameters, arguments) \
  EXPORT type name parameters { \
    struct fault_rule *rule = failing_fd(operation, fd); \
    return rule == NULL ? REAL(name) arguments : refuse(rule); \
  }

ON_FD(ssize_t, read, FAULT_READ, (int fd, void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pread, FAULT_READ, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pread64, FAULT_READ, (int fd, void *data, size_t size, off64_t at),
      (fd, data, size, at))
ON_FD(int, fsync, FAULT_SYNC, (int fd), (fd))
ON_FD(int, fdatasync, FAULT_SYNC, (int fd), (fd))
ON_FD(int, ftruncate, FAULT_TRUNCATE, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, FAULT_TRUNCATE, (int fd, off64_t size), (fd, size))
ON_FD(int, fallocate, FAULT_ALLOCATE, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
ON_FD(int, fallocate64, FAULT_ALLOCATE, (int fd, int mode, off64_t at, off64_t size),
      (fd, mode, at, size))

/* These return their error instead of setting errno. */
#define POSIX_FALLOCATE(name, offset) \
  EXPORT int name(int fd, offset at, offset size) { \
    struct fault_rule *rule = failing_fd(FAULT_ALLOCATE, fd); \
    if (rule == NULL) return REAL(name)(fd, at, size); \
    refuse(rule); \
    return (int)rule->error; \
  }

POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

EXPORT int unlink(const char *path) {
  struct fault_rule *rule = failing_path(FAULT_UNLINK, path);
  return rule == NULL ? REAL(unlink)(path) : refuse(rule);
}

EXPORT int rename(const char *from, const char *to) {
  struct fault_rule *rule = failing_path(FAULT_RENAME, from);
  return rule == NULL ? REAL(rename)(from, to) : refuse(rule);
}

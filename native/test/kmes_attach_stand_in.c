/*
 * A library to preload: answers system call 1091 (kmes_attach) on a kernel that lacks it, so that
 * eventd's path to the real KMES can be run. Everything else goes to the kernel.
 *
 *   KMES_RINGS    directory of files `<cpu>.map`, each a whole mapping of 8192 + 2C bytes
 *   KMES_LOG      file that every attach adds a line to: cpu, then 0 or the errno answered
 *   KMES_FAIL     "<cpu> <errno>": the attach of this CPU fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { KMES_ATTACH = 1091, METADATA_BYTES = 8192 };

static int answer(uint32_t cpu, uint64_t *capacity) {
  unsigned failing_cpu;
  int error;
  const char *fail = getenv("KMES_FAIL");
  if (fail != NULL && sscanf(fail, "%u %d", &failing_cpu, &error) == 2 && failing_cpu == cpu) {
    errno = error;
    return -1;
  }
  char path[4096];
  const char *rings = getenv("KMES_RINGS");
  snprintf(path, sizeof path, "%s/%u.map", rings != NULL ? rings : "", cpu);
  int fd = open(path, O_RDWR);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) {
    errno = EINVAL;
    return -1;
  }
  *capacity = (uint64_t)(status.st_size - METADATA_BYTES) / 2;
  return fd;
}

static int attach(uint32_t cpu, uint64_t *capacity) {
  int fd = answer(cpu, capacity);
  int error = fd < 0 ? errno : 0;
  FILE *log = fopen(getenv("KMES_LOG"), "a");
  if (log != NULL) {
    fprintf(log, "%u %d\n", cpu, error);
    fclose(log);
  }
  errno = error;
  return fd;
}

long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number == KMES_ATTACH) return attach((uint32_t)a[0], (uint64_t *)(uintptr_t)a[1]);
  long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

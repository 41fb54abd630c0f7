/*
 * Attaching through kmes_attach, with the system call played by this program: its `syscall` takes
 * the place of the C library's.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kmes_format.h"
#include "../ring_map.h"
#include "expect.h"

/* What the next attaches find; the capacity they announce may differ from the ring's own. */
static struct {
  int error;
  uint64_t capacity, announced;
  uint64_t generation;
  uint16_t cpu;
  uint32_t version;
  int wrong_attempts; /* so many attaches announce `announced` */
  int attaches;
} kernel;

static void reset(void) {
  memset(&kernel, 0, sizeof kernel);
  kernel.capacity = kernel.announced = RING_MIN_CAPACITY;
  kernel.generation = 1;
  kernel.version = RING_VERSION;
}

static int make_ring(void) {
  uint8_t page[RING_PAGE] = {0};
  memcpy(page, RING_MAGIC_BYTES, RING_MAGIC_LEN);
  write_u32(page + RING_VERSION_AT, kernel.version);
  write_u16(page + RING_CPU_ID, kernel.cpu);
  write_u64(page + RING_CAPACITY, kernel.capacity);
  write_u64(page + RING_DATA_OFFSET_AT, RING_DATA_OFFSET);
  write_u64(page + RING_GENERATION, kernel.generation);
  int fd = memfd_create("kernel-ring", 0);
  if (fd < 0 || ftruncate(fd, (off_t)(RING_DATA_OFFSET + 2 * kernel.capacity)) != 0) abort();
  if (pwrite(fd, page, sizeof page, 0) != sizeof page) abort();
  return fd;
}

long syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  uint32_t cpu = va_arg(arguments, uint32_t);
  uint64_t *capacity = va_arg(arguments, uint64_t *);
  va_end(arguments);
  if (number != KMES_ATTACH_SYSCALL) abort();
  kernel.attaches++;
  int error = cpu > kernel.cpu ? EINVAL : kernel.error;
  if (error != 0) {
    errno = error;
    return -1;
  }
  *capacity = kernel.attaches <= kernel.wrong_attempts ? kernel.announced : kernel.capacity;
  return make_ring();
}

static int open_descriptors(void) {
  DIR *directory = opendir("/proc/self/fd");
  int count = 0;
  while (directory != NULL && readdir(directory) != NULL) count++;
  if (directory != NULL) closedir(directory);
  return count;
}

static int attach(uint32_t cpu) {
  struct ring *ring = NULL;
  const char *reason;
  int error = ring_map_kernel(cpu, &ring, &reason);
  EXPECT((error == 0) == (ring != NULL));
  if (ring != NULL) {
    EXPECT(ring->capacity == kernel.capacity && ring->cpu == cpu);
    ring_unmap(ring);
  }
  return error;
}

int main(void) {
  int descriptors = open_descriptors();

  title("[KMES-89] [KMES-90] only a CPU that does not exist is EINVAL; other errors come out as they are");
  reset();
  EXPECT(attach(0) == 0);
  EXPECT(attach(1) == EINVAL);
  static const int errors[] = {EPERM, ENOMEM, EFAULT, EMFILE, ENOSYS};
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
    kernel.error = errors[i];
    EXPECT(attach(0) == errors[i]);
  }

  title("[KMES-90] [KMES-98] a mapping that is no ring is not taken for the end of the CPUs");
  reset();
  kernel.version = 2;
  EXPECT(attach(0) == EPROTO);
  reset();
  kernel.cpu = 3;
  EXPECT(attach(2) == EPROTO && attach(3) == 0);
  reset();
  kernel.generation = 0;
  EXPECT(attach(0) == EPROTO);
  reset();
  kernel.wrong_attempts = 1000;
  kernel.announced = 100000;
  EXPECT(attach(0) == EPROTO);
  EXPECT(kernel.attaches > 1 && kernel.attaches < 100);

  title("[KMES-93] [KMES-143] a capacity that changes between attach and mmap is tried again");
  reset();
  kernel.capacity = 2 * RING_MIN_CAPACITY;
  kernel.wrong_attempts = 2;
  EXPECT(attach(0) == 0 && kernel.attaches == 3);

  title("[KMES-138] [KMES-145] a swap between attach and the first look shows in a second attach");
  reset();
  struct ring *ring;
  const char *reason;
  EXPECT(ring_map_kernel(0, &ring, &reason) == 0);
  EXPECT(!ring_is_replaced(ring));
  kernel.generation = 2;
  EXPECT(ring_is_replaced(ring));
  kernel.generation = 1;
  kernel.capacity = 2 * RING_MIN_CAPACITY;
  EXPECT(ring_is_replaced(ring));
  kernel.error = EMFILE;
  EXPECT(!ring_is_replaced(ring));
  ring_unmap(ring);
  EXPECT(open_descriptors() == descriptors);
  return expect_result();
}

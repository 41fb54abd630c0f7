/* The receiving thread and its two buffers, with real sockets. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../clock.h"
#include "../datagrams.h"
#include "../handle.h"
#include "../receiver.h"
#include "expect.h"

enum { PATIENCE_MS = 10000 };

static char directory[] = "/tmp/eventd-receiver-XXXXXX";
static char path[64];

struct world {
  int64_t handle;
  struct receiver *receiver;
  int sender;
  atomic_int wakes;
};

static void on_wake(void *context) { atomic_fetch_add(&((struct world *)context)->wakes, 1); }

static int connect_sender(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) EXPECT(!"connected");
  return fd;
}

static void begin(struct world *world, size_t capacity, bool start) {
  memset(world, 0, sizeof *world);
  world->handle = receiver_open(path, 0666, capacity);
  EXPECT(world->handle != 0);
  world->receiver = handle_acquire(HANDLE_RECEIVER, world->handle);
  EXPECT(receiver_listen(world->receiver, on_wake, world) == NULL);
  if (start) EXPECT(receiver_start(world->receiver) == 0);
  world->sender = connect_sender();
}

static void end(struct world *world) {
  close(world->sender);
  EXPECT(receiver_close(world->handle) && !receiver_close(world->handle));
  handle_release(world->handle);
  EXPECT(access(path, F_OK) != 0);
}

static struct receiver_status now(struct world *world) {
  struct receiver_status status;
  receiver_status(world->receiver, &status);
  return status;
}

/* Polls a condition with a deadline. */
#define UNTIL(condition)                                                              \
  do {                                                                                \
    uint64_t until_ = clock_monotonic() + UINT64_C(1000000) * PATIENCE_MS;            \
    while (!(condition) && clock_monotonic() < until_) usleep(500);                   \
    EXPECT(condition);                                                                \
  } while (0)

/* Datagrams that hold their number, `length` bytes each. */
static void send_numbered(struct world *world, uint32_t first, uint32_t count, size_t length) {
  static uint8_t bytes[DATAGRAM_MAX_BYTES];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t number = first + i;
    memcpy(bytes, &number, 4);
    if (send(world->sender, bytes, length, 0) != (ssize_t)length) EXPECT(!"sent");
  }
}

/* Checks that a taken batch holds just these numbers in order, and gives it back. */
static void expect_batch(struct world *world, uint32_t first, uint32_t count, size_t length) {
  struct receiver_batch info;
  EXPECT(receiver_take(world->receiver, &info) == 1);
  EXPECT(info.datagrams == count && info.bytes == count * datagrams_entry_bytes(length));
  struct datagrams *batch = handle_acquire(HANDLE_DATAGRAMS, info.handle);
  EXPECT(batch != NULL && batch->count == count);
  for (uint32_t i = 0; batch != NULL && i < count; i++) {
    const uint8_t *entry = batch->bytes + i * datagrams_entry_bytes(length);
    uint32_t number;
    memcpy(&number, entry + 16, 4);
    EXPECT(number == first + i);
  }
  handle_release(info.handle);
  EXPECT(handle_close(HANDLE_DATAGRAMS, info.handle));
}

static void opening(void) {
  struct stat file;
  title("[LOG-8] the socket has the asked permissions whatever the umask");
  mode_t before = umask(0077);
  int64_t handle = receiver_open(path, 0666, 1 << 20);
  umask(before);
  EXPECT(handle != 0 && stat(path, &file) == 0 && S_ISSOCK(file.st_mode) && (file.st_mode & 0777) == 0666);
  title("[LOG-5] a path that exists is never replaced");
  EXPECT(receiver_open(path, 0666, 1 << 20) == 0 && errno == EADDRINUSE);
  title("[LIFE-201] closing removes the path only while it is the receiver's own");
  EXPECT(unlink(path) == 0);
  int64_t successor = receiver_open(path, 0600, 1 << 20);
  EXPECT(successor != 0 && receiver_close(handle) && access(path, F_OK) == 0);
  EXPECT(receiver_close(successor) && access(path, F_OK) != 0);
  title("[LOG-5] a path too long, an empty one, a missing directory are errors");
  char text[200] = "/tmp/";
  memset(text + 5, 'x', 103);
  EXPECT(receiver_open(text, 0666, 1 << 20) == 0 && errno == EINVAL);
  text[107] = '\0';
  handle = receiver_open(text, 0666, 1 << 20);
  EXPECT(handle != 0 && receiver_close(handle));
  EXPECT(receiver_open("", 0666, 1 << 20) == 0 && errno == EINVAL);
  EXPECT(receiver_open("/tmp/eventd-no-such-directory/x", 0666, 1 << 20) == 0 && errno == ENOENT);
}

/* As somebody whom permissions bind. */
static void forbidden(void) {
  title("[LOG-5] [LOG-6] a directory that allows no new file is an error of its own");
  EXPECT(chmod(directory, 0500) == 0);
  pid_t child = fork();
  if (child == 0) {
    bool bound = geteuid() != 0 || setresuid(65534, 65534, 65534) == 0;
    _exit(bound && receiver_open(path, 0666, 1 << 20) == 0 && errno == EACCES ? 0 : 1);
  }
  int status = -1;
  EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  EXPECT(chmod(directory, 0700) == 0);
}

static void arrival(void) {
  struct world world;
  title("[LOG-7] [LOG-30] datagrams come whole and in order, with the time of receipt");
  begin(&world, 1 << 20, true);
  uint64_t from = clock_realtime();
  send_numbered(&world, 0, 1000, 100);
  UNTIL(now(&world).datagrams == 1000);
  uint64_t to = clock_realtime();
  EXPECT(now(&world).bytes == 100000 && now(&world).dropped == 0);
  struct receiver_batch info;
  EXPECT(receiver_take(world.receiver, &info) == 1 && info.datagrams == 1000);
  struct datagrams *batch = handle_acquire(HANDLE_DATAGRAMS, info.handle);
  uint64_t last = from;
  for (size_t i = 0; i < 1000; i++) {
    const uint8_t *entry = batch->bytes + i * datagrams_entry_bytes(100);
    uint64_t receipt;
    uint32_t number;
    memcpy(&receipt, entry, 8);
    memcpy(&number, entry + 16, 4);
    EXPECT(number == i && receipt >= last && receipt <= to);
    last = receipt;
  }
  EXPECT(info.opened_at <= clock_monotonic());
  title("[LOG-32] while a batch is out the other buffer fills");
  send_numbered(&world, 1000, 10, 100);
  UNTIL(now(&world).datagrams == 1010);
  struct receiver_batch second;
  EXPECT(receiver_take(world.receiver, &second) == 0);
  handle_release(info.handle);
  EXPECT(handle_close(HANDLE_DATAGRAMS, info.handle));
  expect_batch(&world, 1000, 10, 100);
  EXPECT(receiver_take(world.receiver, &second) == 0 && now(&world).waiting == 0);
  end(&world);
}

static void full(void) {
  struct world world;
  title("[LOG-9] [LOG-11] what finds both buffers full is dropped and counted, and senders go on");
  begin(&world, 16384, true);
  /* 120 bytes an entry: 68 in each buffer. */
  send_numbered(&world, 0, 5000, 104);
  UNTIL(now(&world).datagrams == 5000);
  EXPECT(now(&world).dropped == 5000 - 2 * 68 && now(&world).waiting == 2 * 68 * 120);
  static const uint8_t bytes[104];
  EXPECT(!receiver_inject(world.receiver, bytes, sizeof bytes) && now(&world).dropped == 5000 - 2 * 68);
  expect_batch(&world, 0, 68, 104);
  expect_batch(&world, 68, 68, 104);
  send_numbered(&world, 7000, 3, 104);
  UNTIL(now(&world).datagrams == 5003);
  expect_batch(&world, 7000, 3, 104);
  end(&world);
}

static void wakes(void) {
  struct world world, other = {0};
  title("[LOG-26] somebody is woken when the buffer turns non-empty and passes its half, not per datagram");
  begin(&world, 16384, true);
  send_numbered(&world, 0, 1, 104);
  UNTIL(world.wakes == 1);
  send_numbered(&world, 1, 33, 104);
  UNTIL(now(&world).datagrams == 34);
  EXPECT(world.wakes == 1);
  send_numbered(&world, 34, 1, 104);
  UNTIL(world.wakes == 2);
  title("[LOG-24] who listens anew is woken for what waits, and the last one no more");
  EXPECT(receiver_listen(world.receiver, on_wake, &other) == &world && other.wakes == 1);
  expect_batch(&world, 0, 35, 104);
  send_numbered(&world, 35, 1, 104);
  UNTIL(other.wakes == 2);
  EXPECT(world.wakes == 2 && !receiver_unlisten(world.receiver, &world));
  EXPECT(receiver_unlisten(world.receiver, &other));
  expect_batch(&world, 35, 1, 104);
  send_numbered(&world, 36, 1, 104);
  UNTIL(now(&world).datagrams == 37);
  EXPECT(other.wakes == 2);
  end(&world);
}

static void sizes(void) {
  struct world world;
  title("[LOG-12] 212992 bytes pass, more is dropped whole and counted, empty ones pass");
  begin(&world, 1 << 20, true);
  /* The kernel doubles it. */
  int room = DATAGRAM_MAX_BYTES;
  EXPECT(setsockopt(world.sender, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
  send_numbered(&world, 1, 1, DATAGRAM_MAX_BYTES);
  static uint8_t large[DATAGRAM_MAX_BYTES + 1];
  EXPECT(send(world.sender, large, sizeof large, 0) == sizeof large);
  UNTIL(now(&world).datagrams == 2);
  EXPECT(now(&world).truncated == 1 && now(&world).dropped == 0);
  expect_batch(&world, 1, 1, DATAGRAM_MAX_BYTES);
  uint64_t before = now(&world).datagrams;
  EXPECT(send(world.sender, "", 0, 0) == 0);
  UNTIL(now(&world).datagrams == before + 1);
  EXPECT(now(&world).waiting == 16);
  end(&world);
}

static void finishing(void) {
  struct world world;
  title("[LIFE-201] [LIFE-202] finishing reads what is queued, refuses more, and says when it is done");
  begin(&world, 1 << 20, false);
  send_numbered(&world, 0, 8, 100);
  EXPECT(now(&world).datagrams == 0);
  EXPECT(receiver_finish(world.receiver, 1 << 20, PATIENCE_MS) == 0);
  EXPECT(access(path, F_OK) != 0);
  EXPECT(send(world.sender, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
  UNTIL(now(&world).finished && world.wakes >= 2);
  EXPECT(now(&world).datagrams == 8);
  EXPECT(receiver_finish(world.receiver, 1 << 20, PATIENCE_MS) == 0);
  expect_batch(&world, 0, 8, 100);
  end(&world);
  title("[LIFE-202] finishing stops at its bound of bytes");
  begin(&world, 1 << 20, false);
  send_numbered(&world, 0, 8, 100);
  EXPECT(receiver_finish(world.receiver, 250, PATIENCE_MS) == 0);
  UNTIL(now(&world).finished);
  EXPECT(now(&world).datagrams == 3);
  end(&world);
  title("[LIFE-202] finishing waits for room as long as it may");
  begin(&world, 4096, false);
  static const uint8_t filler[2000];
  while (receiver_inject(world.receiver, filler, sizeof filler)) continue;
  send_numbered(&world, 0, 1, 2000);
  EXPECT(receiver_finish(world.receiver, 1 << 20, PATIENCE_MS) == 0);
  struct receiver_batch info;
  int queued = 1;
  UNTIL(ioctl(world.sender, TIOCOUTQ, &queued) == 0 && queued == 0);
  EXPECT(!now(&world).finished && receiver_take(world.receiver, &info) == 1);
  EXPECT(handle_close(HANDLE_DATAGRAMS, info.handle));
  UNTIL(now(&world).finished);
  EXPECT(now(&world).dropped == 0);
  end(&world);
  begin(&world, 4096, false);
  while (receiver_inject(world.receiver, filler, sizeof filler)) continue;
  send_numbered(&world, 0, 2, 2000);
  EXPECT(receiver_finish(world.receiver, 1 << 20, 20) == 0);
  UNTIL(now(&world).finished);
  EXPECT(now(&world).datagrams == now(&world).dropped);
  end(&world);
}

static void closing(void) {
  struct world world;
  struct receiver_batch info;
  title("[LOG-5] a batch that is out outlives its receiver");
  begin(&world, 1 << 20, true);
  send_numbered(&world, 5, 1, 100);
  UNTIL(now(&world).datagrams == 1);
  EXPECT(receiver_take(world.receiver, &info) == 1);
  end(&world);
  struct datagrams *batch = handle_acquire(HANDLE_DATAGRAMS, info.handle);
  EXPECT(batch != NULL && batch->count == 1 && batch->bytes[16] == 5);
  handle_release(info.handle);
  EXPECT(handle_close(HANDLE_DATAGRAMS, info.handle));
  title("[LIFE-201] closing interrupts a finish that waits for room");
  begin(&world, 4096, false);
  static const uint8_t filler[2000];
  while (receiver_inject(world.receiver, filler, sizeof filler)) continue;
  send_numbered(&world, 0, 1, 2000);
  uint64_t from = clock_monotonic();
  EXPECT(receiver_finish(world.receiver, 1 << 20, PATIENCE_MS) == 0);
  end(&world);
  EXPECT(clock_monotonic() - from < UINT64_C(1000000) * PATIENCE_MS / 2);
}

static void idle(void) {
  struct world world;
  title("[LOG-24] an idle receiver costs no processor time");
  begin(&world, 1 << 20, true);
  send_numbered(&world, 0, 1, 100);
  UNTIL(now(&world).datagrams == 1);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  usleep(300000);
  getrusage(RUSAGE_SELF, &after);
  EXPECT(after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw < 30);
  double used = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
                (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
  EXPECT(used < 0.05);
  end(&world);
}

/* Bytes of a buffer that are in memory. */
static size_t resident(const uint8_t *bytes, size_t length) {
  static unsigned char pages[1 << 16];
  size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (length + page - 1) / page, found = 0;
  if (count > sizeof pages || mincore((void *)bytes, length, pages) != 0) EXPECT(!"mincore");
  for (size_t i = 0; i < count; i++) found += pages[i] & 1;
  return found * page;
}

static void memory(void) {
  enum { COUNT = 100, BURST = COUNT * 200000 };
  struct world world;
  struct receiver_batch info;
  title("[LOG-10] buffers cost memory only while a burst fills them");
  begin(&world, 2 * (size_t)BURST + (1 << 20), true);
  send_numbered(&world, 0, 1, 100);
  send_numbered(&world, 1, COUNT - 1, 200000);
  UNTIL(now(&world).datagrams == COUNT);
  EXPECT(receiver_take(world.receiver, &info) == 1 && info.datagrams == COUNT);
  const struct datagrams *batch = handle_acquire(HANDLE_DATAGRAMS, info.handle);
  const uint8_t *bytes = batch->bytes;
  size_t capacity = batch->capacity;
  handle_release(info.handle);
  size_t full = resident(bytes, capacity);
  EXPECT(full > BURST / 10 * 9 && full < BURST / 10 * 11);
  EXPECT(handle_close(HANDLE_DATAGRAMS, info.handle));
  UNTIL(resident(bytes, capacity) == 0);
  send_numbered(&world, 5, 1, 100);
  UNTIL(now(&world).datagrams == COUNT + 1);
  expect_batch(&world, 5, 1, 100);
  end(&world);
}

/* ---- Many at once ---- */

enum { SENDERS = 3, EACH = 4000 };

static void *send_many(void *unused) {
  (void)unused;
  int fd = connect_sender();
  uint8_t bytes[64] = {0};
  for (int i = 0; i < EACH; i++) {
    if (send(fd, bytes, sizeof bytes, 0) != sizeof bytes) EXPECT(!"sent");
  }
  close(fd);
  return NULL;
}

static void together(void) {
  struct world world;
  title("[LOG-9] [LOG-24] senders, writer and a closing thread meet without a loss that is not counted");
  begin(&world, 32768, true);
  pthread_t threads[SENDERS];
  for (int i = 0; i < SENDERS; i++) pthread_create(&threads[i], NULL, send_many, NULL);
  uint64_t taken = 0, deadline = clock_monotonic() + UINT64_C(1000000) * PATIENCE_MS;
  while (clock_monotonic() < deadline) {
    struct receiver_batch info;
    if (receiver_take(world.receiver, &info) == 1) {
      taken += info.datagrams;
      EXPECT(handle_close(HANDLE_DATAGRAMS, info.handle));
    } else {
      struct receiver_status status = now(&world);
      if (status.datagrams == SENDERS * EACH && status.waiting == 0) break;
      usleep(100);
    }
  }
  for (int i = 0; i < SENDERS; i++) pthread_join(threads[i], NULL);
  EXPECT(taken + now(&world).dropped == SENDERS * EACH && taken > 0);
  end(&world);
}

int main(void) {
  if (mkdtemp(directory) == NULL) return 1;
  snprintf(path, sizeof path, "%s/socket", directory);
  opening();
  forbidden();
  arrival();
  full();
  wakes();
  sizes();
  finishing();
  closing();
  idle();
  memory();
  together();
  rmdir(directory);
  return expect_result();
}

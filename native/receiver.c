#include "receiver.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "datagrams.h"
#include "handle.h"

enum {
  /* Datagrams per recvmmsg (LOG-12); the kernel's queue seldom holds more than 11. */
  VECTOR = 64,
  /* After so many bytes, memory is given back when nothing came for so long. */
  SLACK_BYTES = 256 * 1024,
  SLACK_MS = 1000,
  /* Pause after an unexpected failure of recvmmsg (no kernel memory). */
  RETRY_MS = 10,
  /* Blocked senders wait for this thread to be scheduled, so it goes first where that is permitted. */
  THREAD_NICE = -10,
  THREAD_SLICE_NS = 100 * 1000,
};

/* What the buffer that does not fill is good for. */
enum other_buffer { OTHER_SPARE, OTHER_FULL, OTHER_OUT };

struct receiver {
  atomic_uint references; /* the handle, a batch that is out */
  int socket, wake;
  char path[RECEIVER_PATH_BYTES + 1];
  dev_t device;
  ino_t inode;

  /* Guards buffers, counters and control. */
  pthread_mutex_t lock;
  pthread_cond_t room;
  struct datagrams buffers[2];
  uint32_t filling;
  enum other_buffer other;
  uint64_t datagrams, received_bytes, dropped, truncated;
  bool started, finishing, finished, stopping, closed;
  uint64_t finish_bytes, finish_deadline;
  pthread_t thread;

  /* Held while somebody is woken, so that nobody is after he left. A leaf. */
  pthread_mutex_t listener_lock;
  receiver_notify notify;
  void *context;

  /* The thread's alone: where datagrams land before they are packed. Touched as far as they reach. */
  uint8_t *scratch;
};

#define SCRATCH_BYTES ((size_t)VECTOR * DATAGRAM_MAX_BYTES)

/* ---- Life ---- */

static void receiver_unref(struct receiver *receiver) {
  if (atomic_fetch_sub(&receiver->references, 1) != 1) return;
  if (receiver->socket >= 0) close(receiver->socket);
  if (receiver->wake >= 0) close(receiver->wake);
  if (receiver->scratch != NULL) munmap(receiver->scratch, SCRATCH_BYTES);
  datagrams_free(&receiver->buffers[0]);
  datagrams_free(&receiver->buffers[1]);
  pthread_cond_destroy(&receiver->room);
  pthread_mutex_destroy(&receiver->lock);
  pthread_mutex_destroy(&receiver->listener_lock);
  free(receiver);
}

static void destroy_receiver(void *object) { receiver_unref(object); }

static struct receiver *create(size_t capacity) {
  struct receiver *receiver = calloc(1, sizeof *receiver);
  if (receiver == NULL) return NULL;
  atomic_init(&receiver->references, 1);
  receiver->socket = receiver->wake = -1;
  pthread_mutex_init(&receiver->lock, NULL);
  pthread_mutex_init(&receiver->listener_lock, NULL);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&receiver->room, &attributes);
  pthread_condattr_destroy(&attributes);
  void *scratch =
      mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  receiver->scratch = scratch == MAP_FAILED ? NULL : scratch;
  receiver->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (receiver->scratch == NULL || receiver->wake < 0 || !datagrams_init(&receiver->buffers[0], capacity / 2) ||
      !datagrams_init(&receiver->buffers[1], capacity / 2)) {
    int error = errno;
    receiver_unref(receiver);
    errno = error;
    return NULL;
  }
  receiver->buffers[0].owner = receiver->buffers[1].owner = receiver;
  return receiver;
}

static bool path_is_ours(const struct receiver *receiver) {
  struct stat now;
  return lstat(receiver->path, &now) == 0 && now.st_dev == receiver->device && now.st_ino == receiver->inode;
}

/* The path may be a successor's by now; his socket must stay. */
static void remove_path(struct receiver *receiver) {
  if (path_is_ours(receiver)) unlink(receiver->path);
}

static bool bind_socket(struct receiver *receiver, mode_t mode) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, receiver->path);
  receiver->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (receiver->socket < 0) return false;
  /* Before bind, so that the file never allows more than asked; after it, because of the umask. */
  if (fchmod(receiver->socket, mode) != 0) return false;
  if (bind(receiver->socket, (struct sockaddr *)&address, sizeof address) != 0) return false;
  struct stat file;
  int error = 0;
  if (lstat(receiver->path, &file) != 0) return false;
  receiver->device = file.st_dev;
  receiver->inode = file.st_ino;
  if (chmod(receiver->path, mode) == 0) return true;
  error = errno;
  remove_path(receiver);
  errno = error;
  return false;
}

int64_t receiver_open(const char *path, mode_t mode, size_t capacity) {
  size_t length = strlen(path);
  if (length == 0 || length > RECEIVER_PATH_BYTES) {
    errno = EINVAL;
    return 0;
  }
  struct receiver *receiver = create(capacity);
  if (receiver == NULL) return 0;
  memcpy(receiver->path, path, length + 1);
  if (!bind_socket(receiver, mode)) {
    int error = errno;
    receiver_unref(receiver);
    errno = error;
    return 0;
  }
  int64_t handle = handle_open(HANDLE_RECEIVER, receiver, destroy_receiver);
  if (handle == 0) {
    remove_path(receiver);
    receiver_unref(receiver);
    errno = ENOMEM;
  }
  return handle;
}

/* ---- Waking ---- */

static void wake_listener(struct receiver *receiver) {
  pthread_mutex_lock(&receiver->listener_lock);
  if (receiver->notify != NULL) receiver->notify(receiver->context);
  pthread_mutex_unlock(&receiver->listener_lock);
}

/* Under the lock. */
static size_t waiting_bytes(const struct receiver *receiver) {
  size_t waiting = receiver->buffers[receiver->filling].length;
  if (receiver->other == OTHER_FULL) waiting += receiver->buffers[receiver->filling ^ 1].length;
  return waiting;
}

void *receiver_listen(struct receiver *receiver, receiver_notify notify, void *context) {
  pthread_mutex_lock(&receiver->listener_lock);
  void *last = receiver->context;
  receiver->notify = notify;
  receiver->context = context;
  pthread_mutex_unlock(&receiver->listener_lock);
  pthread_mutex_lock(&receiver->lock);
  bool wake = receiver->finished || waiting_bytes(receiver) > 0;
  pthread_mutex_unlock(&receiver->lock);
  if (wake) wake_listener(receiver);
  return last;
}

bool receiver_unlisten(struct receiver *receiver, void *context) {
  pthread_mutex_lock(&receiver->listener_lock);
  bool current = receiver->context == context;
  if (current) {
    receiver->notify = NULL;
    receiver->context = NULL;
  }
  pthread_mutex_unlock(&receiver->listener_lock);
  return current;
}

/* ---- Filling ---- */

/* Under the lock: appends, in the second buffer if need be. Sets `*wake` at the limits. */
static bool append(struct receiver *receiver, uint64_t receipt_ns, const uint8_t *bytes, size_t length, bool *wake) {
  struct datagrams *filling = &receiver->buffers[receiver->filling];
  size_t before = filling->length;
  if (!datagrams_append(filling, receipt_ns, bytes, length)) {
    if (receiver->other != OTHER_SPARE || before == 0) return false;
    struct datagrams *spare = &receiver->buffers[receiver->filling ^ 1];
    if (!datagrams_append(spare, receipt_ns, bytes, length)) return false;
    receiver->filling ^= 1;
    receiver->other = OTHER_FULL;
    *wake = true;
    return true;
  }
  size_t half = filling->capacity / 2;
  if ((before == 0 && receiver->other != OTHER_FULL) || (before <= half && filling->length > half)) *wake = true;
  return true;
}

/* Under the lock: waits for room, for nobody sends any more; until the deadline or the stop. */
static bool append_patiently(struct receiver *receiver, uint64_t receipt_ns, const uint8_t *bytes, size_t length,
                             bool *wake) {
  const struct timespec until = {
      .tv_sec = (time_t)(receiver->finish_deadline / 1000000000u),
      .tv_nsec = (long)(receiver->finish_deadline % 1000000000u),
  };
  bool fits = datagrams_entry_bytes(length) <= receiver->buffers[0].capacity;
  while (!append(receiver, receipt_ns, bytes, length, wake)) {
    if (!fits || receiver->stopping) return false;
    if (pthread_cond_timedwait(&receiver->room, &receiver->lock, &until) == ETIMEDOUT) return false;
  }
  return true;
}

/* Packs what one recvmmsg brought. Returns its bytes. */
static size_t pack(struct receiver *receiver, const struct mmsghdr *messages, int count, bool patient) {
  uint64_t receipt_ns = clock_realtime();
  size_t bytes = 0;
  bool wake = false;
  pthread_mutex_lock(&receiver->lock);
  for (int i = 0; i < count; i++) {
    size_t length = messages[i].msg_len;
    const uint8_t *start = receiver->scratch + (size_t)i * DATAGRAM_MAX_BYTES;
    bytes += length;
    if (messages[i].msg_hdr.msg_flags & MSG_TRUNC) {
      receiver->truncated++;
    } else {
      bool kept = patient ? append_patiently(receiver, receipt_ns, start, length, &wake)
                          : append(receiver, receipt_ns, start, length, &wake);
      if (!kept) receiver->dropped++;
    }
  }
  receiver->datagrams += (uint64_t)count;
  receiver->received_bytes += bytes;
  pthread_mutex_unlock(&receiver->lock);
  if (wake) wake_listener(receiver);
  return bytes;
}

/* Takes up to `limit` datagrams that are there. Their number, or -1 with errno. */
static int receive(struct receiver *receiver, unsigned limit, bool patient, size_t *bytes) {
  struct iovec parts[VECTOR];
  struct mmsghdr messages[VECTOR];
  for (unsigned i = 0; i < limit; i++) {
    parts[i] = (struct iovec){receiver->scratch + (size_t)i * DATAGRAM_MAX_BYTES, DATAGRAM_MAX_BYTES};
    /* No room for control data: descriptors that are sent along are closed by the kernel. */
    messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
  }
  int count = recvmmsg(receiver->socket, messages, limit, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
  if (count > 0) *bytes = pack(receiver, messages, count, patient);
  return count;
}

/* ---- The thread ---- */

static void give_back(uint8_t *bytes, size_t length) { madvise(bytes, length, MADV_DONTNEED); }

/* Gives memory of a burst back. False when a buffer is still in use. */
static bool trim(struct receiver *receiver) {
  give_back(receiver->scratch, SCRATCH_BYTES);
  pthread_mutex_lock(&receiver->lock);
  struct datagrams *filling = &receiver->buffers[receiver->filling];
  struct datagrams *other = &receiver->buffers[receiver->filling ^ 1];
  bool idle = filling->length == 0 && receiver->other == OTHER_SPARE;
  if (idle) {
    give_back(filling->bytes, filling->capacity);
    give_back(other->bytes, other->capacity);
  }
  pthread_mutex_unlock(&receiver->lock);
  return idle;
}

enum order { ORDER_NONE, ORDER_FINISH, ORDER_STOP };

static enum order next_order(struct receiver *receiver) {
  uint64_t count;
  while (read(receiver->wake, &count, sizeof count) < 0 && errno == EINTR) continue;
  pthread_mutex_lock(&receiver->lock);
  enum order order = receiver->stopping ? ORDER_STOP : receiver->finishing ? ORDER_FINISH : ORDER_NONE;
  pthread_mutex_unlock(&receiver->lock);
  return order;
}

/* One by one, so that the bound on bytes is kept to within one datagram. */
static void read_the_rest(struct receiver *receiver) {
  uint64_t left = receiver->finish_bytes;
  while (left > 0 && clock_monotonic() < receiver->finish_deadline) {
    size_t bytes = 0;
    int count = receive(receiver, 1, true, &bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    left -= bytes < left ? bytes : left;
  }
  pthread_mutex_lock(&receiver->lock);
  receiver->finished = true;
  pthread_mutex_unlock(&receiver->lock);
  wake_listener(receiver);
}

/*
 * The priority is of the thread alone, on Linux; without the privilege it stays as it is. A short slice
 * lets it run soon after it wakes, as its work is short (kernel 6.12 and later).
 */
static void hurry(void) {
  setpriority(PRIO_PROCESS, (id_t)gettid(), THREAD_NICE);
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes = {.size = sizeof attributes, .policy = SCHED_OTHER, .runtime = THREAD_SLICE_NS};
  attributes.nice = getpriority(PRIO_PROCESS, (id_t)gettid());
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static void *empty_socket(void *argument) {
  struct receiver *receiver = argument;
  struct pollfd fds[] = {{receiver->wake, POLLIN, 0}, {receiver->socket, POLLIN, 0}};
  size_t touched = 0;
  bool failed = false;
  hurry();
  for (;;) {
    int ready = poll(fds, failed ? 1 : 2, failed ? RETRY_MS : touched > SLACK_BYTES ? SLACK_MS : -1);
    if (ready == 0 && !failed && trim(receiver)) touched = 0;
    failed = false;
    if (ready <= 0) continue;
    if (fds[0].revents != 0) {
      enum order order = next_order(receiver);
      if (order == ORDER_FINISH) read_the_rest(receiver);
      if (order != ORDER_NONE) return NULL;
    }
    if (fds[1].revents == 0) continue;
    size_t bytes = 0;
    failed = receive(receiver, VECTOR, false, &bytes) < 0 && errno != EAGAIN && errno != EINTR;
    touched += bytes;
  }
}

/* Under the lock. 0 or an errno. */
static int start_thread(struct receiver *receiver) {
  if (receiver->closed) return EBADF;
  if (receiver->started) return 0;
  /* Signals are the main thread's business. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&receiver->thread, NULL, empty_socket, receiver);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0) return error;
  receiver->started = true;
  pthread_setname_np(receiver->thread, "eventd-receive");
  return 0;
}

int receiver_start(struct receiver *receiver) {
  pthread_mutex_lock(&receiver->lock);
  int error = start_thread(receiver);
  pthread_mutex_unlock(&receiver->lock);
  return error;
}

static void order(struct receiver *receiver) {
  const uint64_t one = 1;
  while (write(receiver->wake, &one, sizeof one) < 0 && errno == EINTR) continue;
}

int receiver_finish(struct receiver *receiver, uint64_t max_bytes, uint32_t ms) {
  pthread_mutex_lock(&receiver->lock);
  if (!receiver->finishing && !receiver->closed) {
    remove_path(receiver);
    /* Senders get EPIPE from here on; what they sent before stays to be read. */
    shutdown(receiver->socket, SHUT_RD);
    receiver->finish_bytes = max_bytes;
    receiver->finish_deadline = clock_monotonic() + (uint64_t)ms * 1000000u;
    receiver->finishing = true;
    order(receiver);
  }
  /* After the order: a thread that is new must find it before it finds datagrams. */
  int error = start_thread(receiver);
  pthread_mutex_unlock(&receiver->lock);
  return error;
}

bool receiver_close(int64_t handle) {
  struct receiver *receiver = handle_acquire(HANDLE_RECEIVER, handle);
  if (receiver == NULL) return false;
  pthread_mutex_lock(&receiver->lock);
  bool first = !receiver->closed, join = first && receiver->started;
  receiver->closed = receiver->stopping = true;
  pthread_cond_broadcast(&receiver->room);
  pthread_mutex_unlock(&receiver->lock);
  if (join) {
    order(receiver);
    pthread_join(receiver->thread, NULL);
  }
  if (first) {
    remove_path(receiver);
    /* Senders must learn it now, not when the last batch is given back. */
    pthread_mutex_lock(&receiver->lock);
    close(receiver->socket);
    receiver->socket = -1;
    pthread_mutex_unlock(&receiver->lock);
    handle_close(HANDLE_RECEIVER, handle);
  }
  handle_release(handle);
  return first;
}

/* ---- The writer's side ---- */

/* The batch is given back: its buffer may fill again. */
static void buffer_back(struct datagrams *batch) {
  struct receiver *receiver = batch->owner;
  pthread_mutex_lock(&receiver->lock);
  receiver->other = OTHER_SPARE;
  pthread_cond_broadcast(&receiver->room);
  pthread_mutex_unlock(&receiver->lock);
  receiver_unref(receiver);
}

int receiver_take(struct receiver *receiver, struct receiver_batch *batch) {
  pthread_mutex_lock(&receiver->lock);
  struct datagrams *taken = &receiver->buffers[receiver->other == OTHER_FULL ? receiver->filling ^ 1 : receiver->filling];
  int result = receiver->other == OTHER_OUT || taken->length == 0 ? 0 : 1;
  if (result == 1) {
    *batch = (struct receiver_batch){
        .datagrams = taken->count, .bytes = taken->length, .opened_at = taken->opened_at};
    batch->handle = datagrams_publish(taken, buffer_back);
    if (batch->handle == 0) result = -1;
  }
  if (result == 1) {
    atomic_fetch_add(&receiver->references, 1);
    if (receiver->other == OTHER_SPARE) receiver->filling ^= 1;
    receiver->other = OTHER_OUT;
    pthread_cond_broadcast(&receiver->room);
  }
  pthread_mutex_unlock(&receiver->lock);
  return result;
}

bool receiver_inject(struct receiver *receiver, const uint8_t *bytes, size_t length) {
  bool wake = false;
  pthread_mutex_lock(&receiver->lock);
  bool kept = append(receiver, clock_realtime(), bytes, length, &wake);
  pthread_mutex_unlock(&receiver->lock);
  if (wake) wake_listener(receiver);
  return kept;
}

void receiver_status(struct receiver *receiver, struct receiver_status *status) {
  pthread_mutex_lock(&receiver->lock);
  *status = (struct receiver_status){
      .datagrams = receiver->datagrams,
      .bytes = receiver->received_bytes,
      .dropped = receiver->dropped,
      .truncated = receiver->truncated,
      .waiting = waiting_bytes(receiver),
      .finished = receiver->finished,
  };
  pthread_mutex_unlock(&receiver->lock);
}

/*
 * LD_PRELOAD shim: the registry calls of a Peios kernel (1100, 1101, ioctls on key descriptors, reads of
 * watches) over the directory that EVENTD_TEST_LCS names. A test changes the directory while the program
 * runs, and writes the watch records itself (test/fixtures/lcs.ts). Arguments are held to the letter of
 * the interface: what a kernel would refuse is refused, and noted in the file `violations`.
 *
 *   keys/k-Machine/k-System/...   keys; comparison ignores the case of ASCII letters
 *   .../v-<hex of the name>       values: u32 type, data
 *   watch.sock                    the test listens here: it gets the key of each watch on a line, answers
 *                                 with one byte, and sends records from then on
 *   fail                          an errno: every call answers it; with a key behind it, those about that key
 *   hold                          a key: whoever opens it waits until the file is gone
 *   calls                         one line for each call
 *
 * eventd makes one call at a time, so buffers are static.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FD = 4096, MAX_VALUE = 1 << 20, OPEN_KEY = 1100, CREATE_KEY = 1101 };
enum { QUERY = 1, SET = 2, CREATE = 4, ENUMERATE = 8, NOTIFY = 16, KNOWN_RIGHTS = 0x000F003F };

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* What a descriptor was opened for. A number may be another file's by now: the inode tells. */
static struct key {
  uint32_t access;
  bool watch;
  ino_t inode;
  char path[1024];      /* of the key */
  char directory[PATH_MAX];
} keys[MAX_FD];

static void in_state(char *out, const char *name) {
  snprintf(out, PATH_MAX, "%s/%s", getenv("EVENTD_TEST_LCS"), name);
}

__attribute__((format(printf, 2, 3))) static void note(const char *file, const char *format, ...) {
  char path[PATH_MAX], line[2048];
  va_list list;
  va_start(list, format);
  int length = vsnprintf(line, sizeof line - 1, format, list);
  va_end(list);
  line[length] = '\n';
  in_state(path, file);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (write(fd, line, (size_t)length + 1) < 0) abort();
  close(fd);
}

static int refuse(const char *what) {
  note("violations", "%s", what);
  return EINVAL;
}

#define MUST(condition) \
  do { \
    if (!(condition)) return refuse(__func__); \
  } while (0)

static uint32_t u32(const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static uint64_t u64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static void put(uint8_t *at, uint32_t value) { memcpy(at, &value, sizeof value); }
static void *pointer(const uint8_t *at) { return (void *)(uintptr_t)u64(at); }
static bool is_zero(const uint8_t *at, size_t size) {
  for (size_t i = 0; i < size; i++) if (at[i] != 0) return false;
  return true;
}
/* Counted strings and buffers: null exactly when empty. */
static bool is_buffer(const uint8_t *at, uint32_t length) { return (u64(at) == 0) == (length == 0); }
static bool no_transaction(const uint8_t *at) { return (int32_t)u32(at) == -1; }

static int failing(const char *key) {
  char path[PATH_MAX], bad[1024] = "";
  int error = 0;
  in_state(path, "fail");
  FILE *file = fopen(path, "re");
  if (file == NULL) return 0;
  if (fscanf(file, "%d %1023[^\n]", &error, bad) < 1) error = EIO;
  fclose(file);
  return bad[0] == 0 || strcasecmp(bad, key) == 0 ? error : 0;
}

static void wait_while_held(const char *key) {
  char path[PATH_MAX], held[1024] = "";
  in_state(path, "hold");
  for (;;) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return;
    bool is_held = fgets(held, sizeof held, file) != NULL && strcasecmp(held, key) == 0;
    fclose(file);
    if (!is_held) return;
    usleep(2000);
  }
}

/* The directory of a key, component by component; ENOENT where there is none. */
static int find(const char *path, char *directory) {
  in_state(directory, "keys");
  for (const char *at = path;;) {
    size_t length = strcspn(at, "\\/");
    MUST(length > 0 && length <= 255);
    DIR *parent = opendir(directory);
    bool found = false;
    for (struct dirent *entry; parent != NULL && !found && (entry = readdir(parent)) != NULL;) {
      found = strncmp(entry->d_name, "k-", 2) == 0 && strlen(entry->d_name) == length + 2 &&
              strncasecmp(entry->d_name + 2, at, length) == 0;
      if (found) snprintf(strchr(directory, 0), PATH_MAX - strlen(directory), "/%s", entry->d_name);
    }
    if (parent != NULL) closedir(parent);
    if (!found) return ENOENT;
    if (at[length] == '\0') return 0;
    at += length + 1;
  }
}

static int open_directory(const char *path, const char *directory, uint32_t access) {
  int fd = REAL(open)(directory, O_RDONLY | O_DIRECTORY);
  if (fd < 0 || fd >= MAX_FD) return -1;
  keys[fd] = (struct key){.access = access};
  snprintf(keys[fd].path, sizeof keys[fd].path, "%s", path);
  snprintf(keys[fd].directory, sizeof keys[fd].directory, "%s", directory);
  return fd;
}

static int check_access(uint32_t access) {
  MUST(access != 0 && (access & ~(uint32_t)KNOWN_RIGHTS) == 0);
  return 0;
}

static int open_key(long parent, const char *path, uint32_t access, uint32_t flags, int *fd) {
  if (path == NULL) return EFAULT;
  note("calls", "open %x %s", access, path);
  wait_while_held(path);
  int error = failing(path);
  if (error != 0) return error;
  MUST((int32_t)parent == -1 && flags == 0);
  char directory[PATH_MAX];
  error = check_access(access);
  if (error == 0) error = find(path, directory);
  if (error == 0) *fd = open_directory(path, directory, access);
  return error;
}

static int create_key(const uint8_t *a, int *fd) {
  if (a == NULL) return EFAULT;
  const char *path = pointer(a + 8);
  note("calls", "create %x %s", u32(a + 16), path);
  int error = failing(path);
  if (error != 0) return error;
  MUST((int32_t)u32(a) == -1 && is_zero(a + 4, 4) && u32(a + 20) == 0 && u64(a + 24) == 0);
  MUST(no_transaction(a + 32) && is_zero(a + 36, 4) && pointer(a + 40) != NULL);
  char directory[PATH_MAX], parent[1024];
  error = check_access(u32(a + 16));
  if (error == 0) error = find(path, directory);
  uint32_t disposition = error == ENOENT ? 1 : 2;
  if (error == ENOENT) {
    const char *last = strrchr(path, '\\');
    snprintf(parent, sizeof parent, "%.*s", last == NULL ? 0 : (int)(last - path), path);
    if (last == NULL || find(parent, directory) != 0) return ENOENT;
    snprintf(strchr(directory, 0), PATH_MAX - strlen(directory), "/k-%s", last + 1);
    error = mkdir(directory, 0700) == 0 ? 0 : errno;
  }
  if (error != 0) return error;
  memcpy(pointer(a + 40), &disposition, sizeof disposition);
  *fd = open_directory(path, directory, u32(a + 16));
  return 0;
}

EXPORT long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number != OPEN_KEY && number != CREATE_KEY)
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  int fd = -1;
  int error = number == OPEN_KEY ? open_key(a[0], (const char *)a[1], (uint32_t)a[2], (uint32_t)a[3], &fd)
                                 : create_key((const uint8_t *)a[0], &fd);
  errno = error;
  return error == 0 ? fd : -1;
}

/* ---- ioctls ---- */

/* The file of the value whose counted name stands at the head of the arguments; case as in ASCII. */
static int value_file(const struct key *key, const uint8_t *a, char *path, uint8_t *name) {
  uint32_t length = u32(a);
  MUST(length <= 255 && is_zero(a + 4, 4) && is_buffer(a + 8, length));
  memcpy(name, pointer(a + 8), length);
  char hex[2 * 255 + 3] = "v-";
  for (uint32_t i = 0; i < length; i++) sprintf(hex + 2 + 2 * i, "%02x", name[i]);
  DIR *directory = opendir(key->directory);
  if (directory == NULL) return ENOENT;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strlen(entry->d_name) != strlen(hex) || strncmp(entry->d_name, "v-", 2) != 0) continue;
    bool is_same = true;
    for (uint32_t i = 0; i < length && is_same; i++) {
      unsigned byte;
      sscanf(entry->d_name + 2 + 2 * i, "%2x", &byte);
      is_same = strncasecmp((const char *)&(char){(char)byte}, (const char *)name + i, 1) == 0;
    }
    if (is_same) strcpy(hex, entry->d_name);
  }
  closedir(directory);
  snprintf(path, PATH_MAX, "%s/%s", key->directory, hex);
  return 0;
}

static ssize_t read_file(const char *path, uint8_t *out) {
  int fd = REAL(open)(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t size = REAL(read)(fd, out, MAX_VALUE);
  close(fd);
  return size;
}

static int query_value(const struct key *key, uint8_t *a) {
  static uint8_t content[MAX_VALUE];
  char path[PATH_MAX];
  uint8_t name[255];
  uint32_t room = u32(a + 20);
  MUST(no_transaction(a + 24) && is_buffer(a + 32, room) && is_buffer(a + 56, u32(a + 28)));
  MUST(is_zero(a + 48, 8));
  int error = value_file(key, a, path, name);
  if (error != 0) return error;
  note("calls", "query %s %.*s", key->path, (int)u32(a), (const char *)name);
  ssize_t size = read_file(path, content);
  if (size < 4) return ENOENT;
  put(a + 20, (uint32_t)size - 4);
  put(a + 48, 4);
  if (room < (size_t)size - 4 || u32(a + 28) < 4) return ERANGE;
  put(a + 16, u32(content));
  memcpy(pointer(a + 32), content + 4, (size_t)size - 4);
  memcpy(pointer(a + 56), "base", 4);
  return 0;
}

static int set_value(const struct key *key, uint8_t *a) {
  char path[PATH_MAX];
  uint8_t name[255];
  uint32_t length = u32(a + 20);
  MUST(is_buffer(a + 24, length) && is_zero(a + 32, 16) && no_transaction(a + 48) && is_zero(a + 52, 4));
  MUST(is_zero(a + 56, 8));
  if (length > MAX_VALUE - 4) return ENOSPC;
  int error = value_file(key, a, path, name);
  if (error != 0) return error;
  note("calls", "set %s %.*s", key->path, (int)u32(a), (const char *)name);
  int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (write(fd, a + 16, 4) != 4 || write(fd, pointer(a + 24), length) != (ssize_t)length) abort();
  close(fd);
  return 0;
}

static int delete_value(const struct key *key, uint8_t *a) {
  char path[PATH_MAX];
  uint8_t name[255];
  MUST(is_zero(a + 16, 16) && no_transaction(a + 32) && is_zero(a + 36, 4));
  int error = value_file(key, a, path, name);
  if (error != 0) return error;
  note("calls", "delete %s %.*s", key->path, (int)u32(a), (const char *)name);
  return unlink(path) == 0 ? 0 : ENOENT;
}

static int query_batch(const struct key *key, uint8_t *a) {
  static uint8_t content[MAX_VALUE];
  uint32_t room = u32(a), used = 0, count = 0;
  MUST(is_buffer(a + 8, room) && no_transaction(a + 16) && is_zero(a + 20, 4));
  note("calls", "batch %s", key->path);
  uint8_t *out = pointer(a + 8);
  DIR *directory = opendir(key->directory);
  if (directory == NULL) return ENOENT;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strncmp(entry->d_name, "v-", 2) != 0) continue;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", key->directory, entry->d_name);
    ssize_t size = read_file(path, content);
    if (size < 4) continue;
    uint32_t name_length = (uint32_t)(strlen(entry->d_name) - 2) / 2, data_length = (uint32_t)size - 4;
    if (used + 12 + name_length + data_length <= room) {
      uint8_t *at = out + used;
      put(at, name_length);
      for (uint32_t i = 0; i < name_length; i++) {
        unsigned byte;
        sscanf(entry->d_name + 2 + 2 * i, "%2x", &byte);
        at[4 + i] = (uint8_t)byte;
      }
      put(at + 4 + name_length, u32(content));
      put(at + 8 + name_length, data_length);
      memcpy(at + 12 + name_length, content + 4, data_length);
    }
    used += 12 + name_length + data_length;
    count++;
  }
  closedir(directory);
  put(a, used);
  put(a + 4, count);
  if (used <= room) return 0;
  note("calls", "too small %s", key->path);
  return ERANGE;
}

static int enum_subkeys(const struct key *key, uint8_t *a) {
  uint32_t index = u32(a), room = u32(a + 4);
  MUST(is_buffer(a + 8, room) && no_transaction(a + 32) && is_zero(a + 36, 4));
  DIR *directory = opendir(key->directory);
  if (directory == NULL) return ENOENT;
  int error = ENOENT;
  for (struct dirent *entry; error == ENOENT && (entry = readdir(directory)) != NULL;) {
    if (strncmp(entry->d_name, "k-", 2) != 0 || index-- > 0) continue;
    size_t length = strlen(entry->d_name + 2);
    put(a + 4, (uint32_t)length);
    error = length <= room ? 0 : ERANGE;
    if (error == 0) memcpy(pointer(a + 8), entry->d_name + 2, length);
  }
  closedir(directory);
  return error;
}

static int arm(int fd, struct key *key, uint8_t *a) {
  MUST(u32(a) == 3 && a[4] == 1 && is_zero(a + 5, 3));
  note("calls", "watch %s", key->path);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/watch.sock", getenv("EVENTD_TEST_LCS"));
  int test = socket(AF_UNIX, SOCK_STREAM, 0);
  char line[1100], answer;
  int length = snprintf(line, sizeof line, "%s\n", key->path);
  if (connect(test, (struct sockaddr *)&address, sizeof address) != 0 ||
      REAL(write)(test, line, (size_t)length) != length || REAL(read)(test, &answer, 1) != 1) {
    close(test);
    return EIO;
  }
  struct stat status;
  dup2(test, fd);
  close(test);
  fstat(fd, &status);
  key->inode = status.st_ino;
  key->watch = true;
  return 0;
}

static int on_key(int fd, unsigned long request, uint8_t *a) {
  static const struct {
    unsigned long request;
    uint32_t right;
    int (*answer)(const struct key *key, uint8_t *a);
  } calls[] = {
      {0xC0405200, QUERY, query_value}, {0x40405201, SET, set_value},     {0x40285202, SET, delete_value},
      {0xC0185204, QUERY, query_batch}, {0xC0285206, ENUMERATE, enum_subkeys},
  };
  MUST(fd >= 0 && fd < MAX_FD && keys[fd].access != 0);
  struct key *key = &keys[fd];
  struct stat status;
  int error = failing(key->path);
  if (error != 0) return error;
  /* A descriptor follows the key itself, not its path (HOST-46). */
  if (fstat(fd, &status) != 0 || status.st_nlink == 0) return ENOENT;
  if (request == 0x4008520C) return (key->access & NOTIFY) != 0 ? arm(fd, key, a) : EACCES;
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    if (calls[i].request != request) continue;
    return (key->access & calls[i].right) != 0 ? calls[i].answer(key, a) : EACCES;
  }
  return refuse("an unknown request");
}

EXPORT int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void *args = va_arg(list, void *);
  va_end(list);
  if ((request >> 8 & 0xff) != 0x52) return REAL(ioctl)(fd, request, args);
  int error = on_key(fd, request, args);
  errno = error;
  return error == 0 ? 0 : -1;
}

/* Whole records only, as many as fit (HOST-40). */
EXPORT ssize_t read(int fd, void *out, size_t size) {
  static uint8_t waiting[1 << 20];
  struct stat status;
  if (fd < 0 || fd >= MAX_FD || !keys[fd].watch || fstat(fd, &status) != 0 || status.st_ino != keys[fd].inode)
    return REAL(read)(fd, out, size);
  if ((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0) refuse("a read that may block");
  ssize_t there = recv(fd, waiting, sizeof waiting, MSG_PEEK | MSG_DONTWAIT);
  if (there == 0) errno = EIO;
  if (there <= 0) return -1;
  size_t whole = 0;
  while (whole + 4 <= (size_t)there && whole + u32(waiting + whole) <= (size_t)there &&
         whole + u32(waiting + whole) <= size && u32(waiting + whole) >= 4)
    whole += u32(waiting + whole);
  if (whole == 0 && there >= 4 && u32(waiting) < 4) whole = (size_t)there;
  if (whole == 0) {
    errno = there >= 4 && u32(waiting) > size ? EINVAL : EAGAIN;
    return -1;
  }
  return recv(fd, out, whole, MSG_DONTWAIT);
}

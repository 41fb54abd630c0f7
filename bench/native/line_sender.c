/*
 * Sends log lines the way programs send them to syslog and to journald: one datagram per line, on a
 * blocking socket, as fast as it is taken.
 *
 *   line_sender PATH syslog|journal LINES ORIGINS MESSAGE_BYTES
 *
 * Line i comes from origin "load-<i % ORIGINS>"; every eighth is an error; its text begins with i in
 * 12 digits. Prints one JSON line: seconds.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { DIGITS = 12, MAX_MESSAGE = 65536, PRIORITY_ERROR = 3, PRIORITY_INFO = 6, FACILITY_DAEMON = 3 };

static void fail(const char *what, const char *why) {
  fprintf(stderr, "line_sender: %s: %s\n", what, why);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail(path, strerror(ENAMETOOLONG));
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail(path, strerror(errno));
  return fd;
}

/* What libc's syslog() puts before a line. */
static int syslog_head(char *out, size_t size, const char *date, unsigned long long line, unsigned long long origins) {
  int priority = line % 8 == 0 ? PRIORITY_ERROR : PRIORITY_INFO;
  return snprintf(out, size, "<%d>%s load-%llu: ", FACILITY_DAEMON * 8 + priority, date, line % origins);
}

/* What sd_journal_print() puts before a line. */
static int journal_head(char *out, size_t size, unsigned long long line, unsigned long long origins) {
  int priority = line % 8 == 0 ? PRIORITY_ERROR : PRIORITY_INFO;
  return snprintf(out, size, "PRIORITY=%d\nSYSLOG_IDENTIFIER=load-%llu\nMESSAGE=", priority, line % origins);
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: line_sender PATH syslog|journal LINES ORIGINS MESSAGE_BYTES\n");
    return 2;
  }
  bool journal = strcmp(argv[2], "journal") == 0;
  unsigned long long lines = strtoull(argv[3], NULL, 10), origins = strtoull(argv[4], NULL, 10);
  size_t length = strtoull(argv[5], NULL, 10);
  if (origins == 0) fail("arguments", "ORIGINS must be above 0");
  if (length < DIGITS || length > MAX_MESSAGE) fail("arguments", "MESSAGE_BYTES is out of range");
  int fd = connect_to(argv[1]);
  time_t today = time(NULL);
  char date[32];
  strftime(date, sizeof date, "%b %e %H:%M:%S", localtime(&today));
  static char out[MAX_MESSAGE + 256], filler[MAX_MESSAGE];
  for (size_t i = 0; i < sizeof filler; i++) filler[i] = (char)(i == 0 ? ' ' : 'a' + i % 26);

  double started = now();
  for (unsigned long long line = 0; line < lines; line++) {
    size_t at = (size_t)(journal ? journal_head(out, 256, line, origins) : syslog_head(out, 256, date, line, origins));
    at += (size_t)snprintf(out + at, DIGITS + 1, "%012llu", line);
    memcpy(out + at, filler, length - DIGITS);
    at += length - DIGITS;
    if (journal) out[at++] = '\n';
    while (send(fd, out, at, 0) < 0) {
      if (errno != EINTR) fail("send", strerror(errno));
    }
  }
  printf("{\"seconds\":%.6f}\n", now() - started);
  return 0;
}

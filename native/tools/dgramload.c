/*
 * Load generator for datagram sockets: sends log or metric records at a steady rate, measures how
 * long each send takes, then prints one JSON line. Benchmarks and tests use it.
 *
 *   dgramload PATH --kind log|counter|gauge|histogram --datagrams N --rate PER_SECOND
 *             [--batch RECORDS] [--message BYTES] [--series COUNT] [--seconds S]
 *             [--stamped] [--nonblock] [--size BYTES] [--sndbuf BYTES]
 *
 * N (0 = until the seconds are over or it is killed) and PER_SECOND (0 = as fast as possible)
 * count datagrams of RECORDS each. Messages begin with the record's number in 12 digits. Records
 * cycle through COUNT origins ("load-7") or series (label series="7"). --stamped adds timestamps.
 * --nonblock counts a full queue (EAGAIN) and goes on with the next datagram. --size sends that
 * many bytes of no meaning instead of records. --sndbuf sets SO_SNDBUF, by force if permitted.
 *
 * Output: datagrams and records sent, bytes, again (EAGAIN), seconds, and the time one send took
 * in microseconds: p50, p99, p99.9 and max. Quantiles are exact to 1/16.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../clock.h"
#include "../msgpack.h"

enum { MAX_BYTES = 16 * 1024 * 1024, MAX_RECORDS = 65536, BOUNDARIES = 8, SPIN_NS = 200000, STEPS = 16 };

enum kind { KIND_LOG, KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };
static const char *const kinds[] = {"log", "counter", "gauge", "histogram"};

struct settings {
  const char *path;
  enum kind kind;
  uint64_t datagrams, rate, batch, message, series, seconds, size, sndbuf;
  bool stamped, nonblock;
};

/* ---- Records ---- */

static void str(struct msgpack_writer *out, const char *text) { msgpack_write_str(out, text, (uint32_t)strlen(text)); }

static void boolean(struct msgpack_writer *out, bool value) { msgpack_write_raw(out, value ? "\xc3" : "\xc2", 1); }

static void array(struct msgpack_writer *out, uint32_t count) {
  const uint8_t head[] = {0xdc, (uint8_t)(count >> 8), (uint8_t)count};
  msgpack_write_raw(out, head, sizeof head);
}

static void stamp(struct msgpack_writer *out) {
  str(out, "timestamp");
  msgpack_write_uint(out, clock_realtime());
}

/* What fills a message up behind its number. */
static uint8_t filler[MAX_BYTES];

static void make_filler(size_t length) {
  for (size_t i = 0; i < length; i++) filler[i] = (uint8_t)(i == 0 ? ' ' : 'a' + i % 26);
}

static void log_record(struct msgpack_writer *out, const struct settings *settings, uint64_t number) {
  char origin[32], digits[16];
  msgpack_write_map(out, settings->stamped ? 4 : 3);
  snprintf(origin, sizeof origin, "load-%llu", (unsigned long long)(number % settings->series));
  str(out, "origin");
  str(out, origin);
  str(out, "is_error");
  boolean(out, number % 8 == 0);
  str(out, "message");
  uint8_t head[] = {0xdb, (uint8_t)(settings->message >> 24), (uint8_t)(settings->message >> 16),
                    (uint8_t)(settings->message >> 8), (uint8_t)settings->message};
  msgpack_write_raw(out, head, sizeof head);
  snprintf(digits, sizeof digits, "%012llu", (unsigned long long)number);
  msgpack_write_raw(out, digits, 12);
  msgpack_write_raw(out, filler, settings->message - 12);
  if (settings->stamped) stamp(out);
}

static void histogram(struct msgpack_writer *out, uint64_t number) {
  msgpack_write_map(out, 4);
  str(out, "boundaries");
  array(out, BOUNDARIES);
  for (int i = 0; i < BOUNDARIES; i++) msgpack_write_double(out, 0.001 * (double)(1 << i));
  str(out, "counts");
  array(out, BOUNDARIES);
  for (int i = 0; i < BOUNDARIES; i++) msgpack_write_uint(out, number * (uint64_t)(i + 1));
  str(out, "total_count");
  msgpack_write_uint(out, number * BOUNDARIES);
  str(out, "sum");
  msgpack_write_double(out, (double)number * 0.01);
}

static void metric_record(struct msgpack_writer *out, const struct settings *settings, uint64_t number) {
  char label[32];
  msgpack_write_map(out, settings->stamped ? 5 : 4);
  str(out, "name");
  str(out, settings->kind == KIND_COUNTER ? "load.requests" : settings->kind == KIND_GAUGE ? "load.level" : "load.time");
  str(out, "type");
  str(out, kinds[settings->kind]);
  str(out, "labels");
  msgpack_write_map(out, 1);
  str(out, "series");
  snprintf(label, sizeof label, "%llu", (unsigned long long)(number % settings->series));
  str(out, label);
  str(out, "value");
  if (settings->kind == KIND_HISTOGRAM) {
    histogram(out, number);
  } else {
    msgpack_write_double(out, (double)number);
  }
  if (settings->stamped) stamp(out);
}

/* One datagram whose first record has this number. */
static bool datagram(struct msgpack_writer *out, const struct settings *settings, uint64_t first) {
  out->length = 0;
  if (settings->size > 0) {
    uint8_t *bytes = msgpack_reserve(out, settings->size);
    if (bytes != NULL) memset(bytes, 0xc1, out->length = settings->size);
    return !out->failed;
  }
  if (settings->batch > 1) array(out, (uint32_t)settings->batch);
  for (uint64_t i = 0; i < settings->batch; i++) {
    if (settings->kind == KIND_LOG) {
      log_record(out, settings, first + i);
    } else {
      metric_record(out, settings, first + i);
    }
  }
  return !out->failed;
}

/* ---- Latencies ---- */

/* Buckets of 1/16 of a power of two. */
static uint64_t latencies[64 * STEPS], latency_count, latency_max;

static unsigned bucket_of(uint64_t ns) {
  if (ns < STEPS) return (unsigned)ns;
  unsigned power = 63 - (unsigned)__builtin_clzll(ns);
  return (power - 3) * STEPS + (unsigned)(ns >> (power - 4)) % STEPS;
}

static uint64_t upper_end(unsigned bucket) {
  if (bucket < STEPS) return bucket;
  unsigned power = bucket / STEPS + 3;
  return (UINT64_C(1) << power) + ((uint64_t)(bucket % STEPS + 1) << (power - 4)) - 1;
}

static void measured(uint64_t ns) {
  latencies[bucket_of(ns)]++;
  latency_count++;
  if (ns > latency_max) latency_max = ns;
}

static double quantile_us(double share) {
  uint64_t rank = (uint64_t)(share * (double)latency_count), seen = 0;
  for (unsigned bucket = 0; bucket < sizeof latencies / sizeof *latencies; bucket++) {
    seen += latencies[bucket];
    if (seen > rank) return (double)(upper_end(bucket) < latency_max ? upper_end(bucket) : latency_max) / 1000;
  }
  return (double)latency_max / 1000;
}

/* ---- Sending ---- */

struct result {
  uint64_t datagrams, records, bytes, again;
};

/* Waits for the due time; the last stretch without sleeping, whose end is coarse. */
static void pace(uint64_t started, uint64_t number, uint64_t rate) {
  uint64_t due = started + (uint64_t)((double)number * 1e9 / (double)rate);
  uint64_t now = clock_monotonic();
  while (now < due) {
    if (due - now > SPIN_NS) nanosleep(&(struct timespec){.tv_nsec = (long)(due - now > 50000000 ? 50000000 : due - now - SPIN_NS / 2)}, NULL);
    now = clock_monotonic();
  }
}

static int run(int socket, const struct settings *settings, struct result *result) {
  struct msgpack_writer out = {0};
  int error = 0;
  uint64_t started = clock_monotonic(), end = started + settings->seconds * 1000000000u;
  for (uint64_t number = 0; settings->datagrams == 0 || number < settings->datagrams; number++) {
    if (settings->rate != 0) pace(started, number, settings->rate);
    if (!datagram(&out, settings, number * settings->batch)) {
      error = ENOMEM;
      break;
    }
    uint64_t before = clock_monotonic();
    if (settings->seconds != 0 && before >= end) break;
    ssize_t sent;
    do {
      sent = send(socket, out.bytes, out.length, settings->nonblock ? MSG_DONTWAIT : 0);
    } while (sent < 0 && errno == EINTR);
    measured(clock_monotonic() - before);
    if (sent >= 0) {
      result->datagrams++;
      result->records += settings->size > 0 ? 0 : settings->batch;
      result->bytes += out.length;
    } else if (settings->nonblock && errno == EAGAIN) {
      result->again++;
    } else {
      error = errno;
      break;
    }
  }
  msgpack_writer_free(&out);
  return error;
}

/* ---- Start ---- */

static int fail(const char *what, const char *why) {
  fprintf(stderr, "dgramload: %s: %s\n", what, why);
  return 1;
}

static int usage(void) {
  fprintf(stderr,
          "usage: dgramload PATH --kind log|counter|gauge|histogram --datagrams N --rate PER_SECOND "
          "[--batch RECORDS] [--message BYTES] [--series COUNT] [--seconds S] [--stamped] [--nonblock] "
          "[--size BYTES] [--sndbuf BYTES]\n");
  return 2;
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
  char *end;
  errno = 0;
  *out = strtoull(text, &end, 10);
  return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *out >= min && *out <= max;
}

static bool kind_named(const char *text, enum kind *out) {
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (strcmp(text, kinds[i]) != 0) continue;
    *out = (enum kind)i;
    return true;
  }
  return false;
}

static bool read_settings(int argc, char **argv, struct settings *settings) {
  static const struct option options[] = {
      {"kind", required_argument, NULL, 'k'},    {"datagrams", required_argument, NULL, 'n'},
      {"rate", required_argument, NULL, 'r'},    {"batch", required_argument, NULL, 'b'},
      {"message", required_argument, NULL, 'm'}, {"series", required_argument, NULL, 's'},
      {"seconds", required_argument, NULL, 't'}, {"size", required_argument, NULL, 'z'},
      {"sndbuf", required_argument, NULL, 'B'},  {"stamped", no_argument, NULL, 'S'},
      {"nonblock", no_argument, NULL, 'N'},      {NULL, 0, NULL, 0},
  };
  *settings = (struct settings){.batch = 1, .message = 100, .series = 1};
  int option;
  bool valid = true;
  while (valid && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (option) {
      case 'k': valid = kind_named(optarg, &settings->kind); break;
      case 'n': valid = number(optarg, 0, UINT64_MAX / MAX_RECORDS, &settings->datagrams); break;
      case 'r': valid = number(optarg, 0, 1000000000, &settings->rate); break;
      case 'b': valid = number(optarg, 1, MAX_RECORDS - 1, &settings->batch); break;
      case 'm': valid = number(optarg, 12, MAX_BYTES, &settings->message); break;
      case 's': valid = number(optarg, 1, UINT32_MAX, &settings->series); break;
      case 't': valid = number(optarg, 0, 86400, &settings->seconds); break;
      case 'z': valid = number(optarg, 1, MAX_BYTES, &settings->size); break;
      case 'B': valid = number(optarg, 1, INT32_MAX, &settings->sndbuf); break;
      case 'S': settings->stamped = true; break;
      case 'N': settings->nonblock = true; break;
      default: valid = false;
    }
  }
  if (!valid || optind != argc - 1) return false;
  settings->path = argv[optind];
  return true;
}

static int connect_socket(const struct settings *settings) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(settings->path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(address.sun_path, settings->path);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (settings->sndbuf != 0) {
    int bytes = (int)settings->sndbuf;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0) {
      return -1;
    }
  }
  return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

int main(int argc, char **argv) {
  struct settings settings;
  if (!read_settings(argc, argv, &settings)) return usage();
  int fd = connect_socket(&settings);
  if (fd < 0) return fail(settings.path, strerror(errno));
  make_filler(settings.message);
  struct result result = {0};
  uint64_t started = clock_monotonic();
  int error = run(fd, &settings, &result);
  double seconds = (double)(clock_monotonic() - started) / 1e9;
  printf("{\"datagrams\":%llu,\"records\":%llu,\"bytes\":%llu,\"again\":%llu,\"seconds\":%.6f,"
         "\"p50us\":%.3f,\"p99us\":%.3f,\"p999us\":%.3f,\"maxus\":%.3f}\n",
         (unsigned long long)result.datagrams, (unsigned long long)result.records, (unsigned long long)result.bytes,
         (unsigned long long)result.again, seconds, quantile_us(0.5), quantile_us(0.99), quantile_us(0.999),
         (double)latency_max / 1000);
  return error == 0 ? 0 : fail("send", strerror(error));
}

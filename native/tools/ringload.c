/*
 * Load generator: one thread per ring writes events at a steady rate with the producer's own
 * code, then prints one JSON line. Benchmarks and fault tests use it (and kill it).
 *
 *   ringload DIR --cpus N --events TOTAL --rate PER_SECOND --payload BYTES --type NAME
 *            [--batch K] [--create CAPACITY] [--ring-types]
 *
 * TOTAL (0 = until killed) and PER_SECOND (0 = as fast as possible) are for all rings together.
 * Each payload is the msgpack map {"n": <event number of this ring>, "pad": <binary>}. With
 * --ring-types the type of ring 3 is NAME.3, so that an event tells where it was written.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../clock.h"
#include "../ring_write.h"

enum {
  MAX_CPUS = 1024,
  MAX_BATCH = 4096,
  MAX_PAYLOAD = 16 * 1024 * 1024,
  TYPE_BYTES = 128,
  PAYLOAD_OVERHEAD = 21, /* fixmap, "n" and u64, "pad" and bin32 header */
  TICK_NS = 1000000,
};

struct load {
  struct producer *producer;
  uint64_t events, rate; /* of this ring; 0 = no limit */
  size_t batch, payload;
  char type[TYPE_BYTES];
  uint64_t done, last_sequence;
  int error;
};

static void put_be(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

/* Everything but the number, which changes from event to event. */
static void fill_payload(uint8_t *at, size_t bytes) {
  size_t pad = bytes - PAYLOAD_OVERHEAD;
  memcpy(at, "\x82\xa1n\xcf", 4);
  memcpy(at + 12, "\xa3pad\xc6", 5);
  put_be(at + 17, pad, 4);
  for (size_t i = 0; i < pad; i++) at[PAYLOAD_OVERHEAD + i] = (uint8_t)(i * 31);
}

/* How many events are due now; sleeps a tick when none is. */
static uint64_t due(const struct load *load, uint64_t started) {
  for (;;) {
    double elapsed = (double)(clock_monotonic() - started) / 1e9;
    uint64_t target = (uint64_t)(elapsed * (double)load->rate);
    if (target > load->done) return target - load->done;
    nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
  }
}

static void *run(void *argument) {
  struct load *load = argument;
  struct producer_event *events = calloc(load->batch, sizeof *events);
  uint8_t *payloads = malloc(load->batch * load->payload);
  if (events == NULL || payloads == NULL) {
    load->error = ENOMEM;
    goto end;
  }
  for (size_t i = 0; i < load->batch; i++) {
    uint8_t *payload = payloads + i * load->payload;
    fill_payload(payload, load->payload);
    events[i] = (struct producer_event){.type = (const uint8_t *)load->type,
                                        .type_len = strlen(load->type),
                                        .payload = payload,
                                        .payload_len = load->payload};
  }
  uint64_t started = clock_monotonic();
  while (load->error == 0 && (load->events == 0 || load->done < load->events)) {
    uint64_t count = load->batch;
    if (load->rate != 0) {
      uint64_t ready = due(load, started);
      if (ready < count) count = ready;
    }
    if (load->events != 0 && load->events - load->done < count) count = load->events - load->done;
    for (uint64_t i = 0; i < count; i++) {
      put_be(payloads + i * load->payload + 4, load->done + i + 1, 8);
    }
    size_t written;
    load->error = producer_emit(load->producer, 0, events, (size_t)count, NULL, &written,
                                &load->last_sequence);
    load->done += count;
  }
end:
  free(events);
  free(payloads);
  return NULL;
}

static int fail(const char *what, const char *why) {
  fprintf(stderr, "ringload: %s: %s\n", what, why);
  return 1;
}

static int usage(void) {
  fprintf(stderr,
          "usage: ringload DIR --cpus N --events TOTAL --rate PER_SECOND --payload BYTES "
          "--type NAME [--batch K] [--create CAPACITY] [--ring-types]\n");
  return 2;
}

struct settings {
  uint64_t cpus, events, rate, payload, batch, create;
  const char *type, *directory;
  bool ring_types;
};

static bool number(const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  *out = strtoull(text, &end, 10);
  return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

static bool read_settings(int argc, char **argv, struct settings *settings) {
  static const struct option options[] = {
      {"cpus", required_argument, NULL, 'c'},   {"events", required_argument, NULL, 'e'},
      {"rate", required_argument, NULL, 'r'},   {"payload", required_argument, NULL, 'p'},
      {"type", required_argument, NULL, 't'},   {"batch", required_argument, NULL, 'b'},
      {"create", required_argument, NULL, 'C'}, {"ring-types", no_argument, NULL, 'T'},
      {NULL, 0, NULL, 0},
  };
  *settings = (struct settings){.cpus = 1, .payload = 128, .batch = 1, .type = "bench.load"};
  int option;
  bool valid = true;
  while (valid && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
    switch (option) {
      case 'c': valid = number(optarg, &settings->cpus); break;
      case 'e': valid = number(optarg, &settings->events); break;
      case 'r': valid = number(optarg, &settings->rate); break;
      case 'p': valid = number(optarg, &settings->payload); break;
      case 'b': valid = number(optarg, &settings->batch); break;
      case 'C': valid = number(optarg, &settings->create); break;
      case 't': settings->type = optarg; break;
      case 'T': settings->ring_types = true; break;
      default: valid = false;
    }
  }
  if (!valid || optind != argc - 1) return false;
  settings->directory = argv[optind];
  if (settings->payload < PAYLOAD_OVERHEAD) settings->payload = PAYLOAD_OVERHEAD;
  return settings->cpus >= 1 && settings->cpus <= MAX_CPUS && settings->batch >= 1 &&
         settings->batch <= MAX_BATCH && settings->payload <= MAX_PAYLOAD &&
         settings->type[0] != '\0' && strlen(settings->type) < TYPE_BYTES - 8;
}

/* The share of ring `cpu` in a total; a limit must not vanish by rounding. */
static uint64_t share(uint64_t total, uint64_t cpus, uint64_t cpu) {
  uint64_t part = total / cpus + (cpu < total % cpus);
  return total != 0 && part == 0 ? 1 : part;
}

static int open_rings(const struct settings *settings, struct load *loads) {
  for (uint64_t cpu = 0; cpu < settings->cpus; cpu++) {
    char path[4096];
    const char *reason = NULL;
    snprintf(path, sizeof path, "%s/cpu-%04u.ring", settings->directory, (unsigned)cpu);
    int error = producer_open(path, &loads[cpu].producer, &reason);
    if (error == ENOENT && settings->create != 0) {
      error = producer_create(path, (uint16_t)cpu, settings->create, &loads[cpu].producer, &reason);
    }
    if (error != 0) return fail(path, reason != NULL ? reason : strerror(error));
    loads[cpu].events = share(settings->events, settings->cpus, cpu);
    loads[cpu].rate = share(settings->rate, settings->cpus, cpu);
    loads[cpu].batch = settings->batch;
    loads[cpu].payload = settings->payload;
    snprintf(loads[cpu].type, TYPE_BYTES, settings->ring_types ? "%s.%u" : "%s", settings->type,
             (unsigned)cpu);
  }
  return 0;
}

int main(int argc, char **argv) {
  struct settings settings;
  if (!read_settings(argc, argv, &settings)) return usage();
  struct load *loads = calloc(settings.cpus, sizeof *loads);
  pthread_t *threads = calloc(settings.cpus, sizeof *threads);
  if (loads == NULL || threads == NULL) return fail("start", strerror(ENOMEM));
  int failed = open_rings(&settings, loads);
  if (failed) return failed;
  uint64_t started = clock_monotonic();
  for (uint64_t cpu = 0; cpu < settings.cpus; cpu++) {
    int error = pthread_create(&threads[cpu], NULL, run, &loads[cpu]);
    if (error != 0) return fail("thread", strerror(error));
  }
  uint64_t total = 0;
  for (uint64_t cpu = 0; cpu < settings.cpus; cpu++) {
    pthread_join(threads[cpu], NULL);
    if (loads[cpu].error != 0) return fail("emit", strerror(loads[cpu].error));
    total += loads[cpu].done;
  }
  double seconds = (double)(clock_monotonic() - started) / 1e9;
  printf("{\"events\":%llu,\"seconds\":%.6f,\"last\":[", (unsigned long long)total, seconds);
  for (uint64_t cpu = 0; cpu < settings.cpus; cpu++) {
    printf("%s%llu", cpu > 0 ? "," : "", (unsigned long long)loads[cpu].last_sequence);
    producer_close(loads[cpu].producer);
  }
  printf("]}\n");
  free(loads);
  free(threads);
  return 0;
}

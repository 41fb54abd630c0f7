/*
 * Runs LLVMFuzzerTestOneInput without libFuzzer: every file of a corpus as it is, then mutations
 * of them from a fixed seed, so that two runs see the same inputs in the same order.
 *
 *   fuzz_NAME SECONDS [CORPUS-DIRECTORY [SEED]]
 *   fuzz_NAME FILE            runs one input, for a crash that was kept
 *
 * An input that makes a sanitizer stop is kept beside the program, as fuzz_NAME.crash.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void));

/* Failed checks of the targets abort or trap; those inputs are to be kept, too. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "handle_abort=1:handle_sigill=1:handle_sigtrap=1"; }

enum { INPUT_BYTES = 65536, MAX_SEEDS = 1024, MAX_MUTATIONS = 6, CLOCK_EVERY = 64 };

struct input {
  uint8_t *bytes;
  size_t length;
};

static struct input seeds[MAX_SEEDS];
static size_t seed_count;
static uint8_t current[INPUT_BYTES];
static size_t current_length;
static const char *program;
static uint64_t state;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static size_t below(size_t bound) { return bound == 0 ? 0 : next() % bound; }

static void keep_crash(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s.crash", program);
  FILE *file = fopen(path, "wb");
  if (file == NULL) return;
  fwrite(current, 1, current_length, file);
  fclose(file);
  fprintf(stderr, "input kept as %s (%zu bytes)\n", path, current_length);
}

static bool load(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return false;
  uint8_t *bytes = malloc(INPUT_BYTES);
  size_t length = bytes != NULL ? fread(bytes, 1, INPUT_BYTES, file) : 0;
  fclose(file);
  if (bytes == NULL || seed_count == MAX_SEEDS) {
    free(bytes);
    return false;
  }
  seeds[seed_count++] = (struct input){bytes, length};
  return true;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_corpus(const char *directory) {
  struct dirent **entries;
  int count = scandir(directory, &entries, NULL, by_name);
  for (int i = 0; i < count; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
    if (entries[i]->d_name[0] != '.') load(path);
    free(entries[i]);
  }
  if (count >= 0) free(entries);
}

static void mutate_once(void) {
  static const uint64_t interesting[] = {
      0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
      0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
  };
  size_t at = below(current_length + 1), left = current_length - at;
  switch (next() % 7) {
    case 0: /* flip a bit */
      if (left > 0) current[at] ^= (uint8_t)(1 << below(8));
      break;
    case 1: /* another byte */
      if (left > 0) current[at] = (uint8_t)next();
      break;
    case 2: { /* a boundary value, of some width and byte order */
      uint64_t value = interesting[below(sizeof interesting / sizeof *interesting)];
      size_t width = (size_t)1 << below(4);
      if (next() & 1) value = __builtin_bswap64(value) >> (8 * (8 - width));
      if (left >= width) memcpy(current + at, &value, width);
      break;
    }
    case 3: { /* cut out */
      size_t length = below(left + 1);
      memmove(current + at, current + at + length, left - length);
      current_length -= length;
      break;
    }
    case 4: { /* put in */
      size_t length = 1 + below(16);
      if (current_length + length > INPUT_BYTES) break;
      memmove(current + at + length, current + at, left);
      for (size_t i = 0; i < length; i++) current[at + i] = (uint8_t)next();
      current_length += length;
      break;
    }
    case 5: { /* repeat a stretch elsewhere */
      size_t from = below(current_length + 1), length = below(current_length - from + 1);
      if (length > left) length = left;
      memmove(current + at, current + from, length);
      break;
    }
    default: { /* splice with another seed */
      const struct input *other = &seeds[below(seed_count)];
      size_t from = below(other->length + 1), length = other->length - from;
      if (length > INPUT_BYTES - at) length = INPUT_BYTES - at;
      memcpy(current + at, other->bytes + from, length);
      current_length = at + length;
      break;
    }
  }
}

static void run_seed(const struct input *seed, bool mutate) {
  memcpy(current, seed->bytes, seed->length);
  current_length = seed->length;
  size_t mutations = mutate ? 1 + below(MAX_MUTATIONS) : 0;
  for (size_t i = 0; i < mutations; i++) mutate_once();
  /* Exactly sized, so that a read beyond the end is a read beyond the heap block. */
  uint8_t *copy = malloc(current_length > 0 ? current_length : 1);
  if (copy == NULL) abort();
  memcpy(copy, current, current_length);
  LLVMFuzzerTestOneInput(copy, current_length);
  free(copy);
}

int main(int argc, char **argv) {
  program = argv[0];
  if (argc < 2) {
    fprintf(stderr, "usage: %s SECONDS [CORPUS [SEED]] | FILE\n", program);
    return 2;
  }
  __sanitizer_set_death_callback(keep_crash);
  char *end;
  double seconds = strtod(argv[1], &end);
  if (*end != '\0') {
    if (!load(argv[1])) return 1;
    run_seed(&seeds[0], false);
    return 0;
  }
  static uint8_t nothing;
  seeds[seed_count++] = (struct input){&nothing, 0};
  if (argc > 2) load_corpus(argv[2]);
  state = argc > 3 ? strtoull(argv[3], NULL, 0) | 1 : 0x9e3779b97f4a7c15;
  for (size_t i = 0; i < seed_count; i++) run_seed(&seeds[i], false);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  uint64_t runs = 0;
  do {
    for (int i = 0; i < CLOCK_EVERY; i++, runs++) run_seed(&seeds[below(seed_count)], true);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 <
           seconds);
  const char *name = strrchr(program, '/');
  printf("ok %s: %zu seeds, %llu mutations\n", name != NULL ? name + 1 : program, seed_count,
         (unsigned long long)runs);
  return 0;
}

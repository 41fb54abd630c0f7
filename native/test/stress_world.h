/*
 * The world of the stress test, up to the ring: scenarios, what a drain thread reports, and the
 * producers that overrun, damage and replace their rings.
 */
#ifndef EVENTD_TEST_STRESS_WORLD_H
#define EVENTD_TEST_STRESS_WORLD_H

#include <sys/stat.h>

#include "../clock.h"
#include "../drain.h"
#include "ring_fixture.h"
#include "stress_ledger.h"

enum {
  MAX_CPUS = 2,
  MAX_SHARDS = 3,
  MAX_TEXT = 4000,
  LARGE_TEXT = 30000,
  PAYLOAD_HEAD = 12, /* checksum, sequence */
  /* Events of one size that divides the ring: an overwritten event has a sane header again. */
  FIXED_EVENT = 16384,
  PAYLOADS = 64,
  BATCH = 12,
  OWED_RUNS = 1 << 14,
  DEADLINE_SECONDS = 60,
};

struct scenario {
  uint32_t cpus, shards, rows;
  size_t bytes;
  bool fixed, drops;
  bool damage, resize, stall, fail, limits;
};

struct stress;

struct cpu {
  struct stress *stress;
  struct ring_fixture fixture;
  struct ledger *ledger;
  struct drain *drain;
  struct ring *ring;          /* the drain thread's view; only its reports look at it */
  uint64_t reading;           /* its generation, also after it was given up */
  struct ring *_Atomic next;  /* handed over last */
  pthread_t producer;
  uint64_t random;
  uint64_t write_pos, generation, capacity; /* the producer's view of its ring */
  uint64_t copied;                          /* survivors of a resize, up to this sequence */
  uint64_t straddler;                       /* newest event whose header crosses the wrap */
  uint8_t *live;                            /* the live ring, writable */
  uint8_t *payloads;
  uint32_t sums[PAYLOADS], lengths[PAYLOADS];
  uint64_t next_resize;
  uint16_t id;
  atomic_bool awaits_ring, finished, settled;
};

struct shard {
  struct stress *stress;
  struct fixture_channel channel;
  pthread_t writer;
  uint64_t random;
  uint32_t index, rows;          /* rows: the limit in force */
  uint64_t checked[MAX_CPUS];    /* watermark verified up to here */
  struct segment_run *owed;      /* lost and not recorded yet */
  uint32_t owed_count;
};

struct stress {
  const struct scenario *scenario;
  struct cpu cpus[MAX_CPUS];
  struct shard shards[MAX_SHARDS];
  atomic_bool emitting, writing;
  /* What happened, so that a scenario cannot pass by not happening. */
  _Atomic uint64_t delivered, lost, laps, corruptions, throttles, reattached, stale, failed, gaps;
};

static uint32_t roll(uint64_t *random, uint32_t below) {
  *random = *random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*random >> 33) % below;
}

static void rest_us(uint32_t us) { usleep(us); }

static uint32_t checksum(const uint8_t *bytes, size_t length) {
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < length; i++) sum = (sum ^ bytes[i]) * 16777619u;
  return sum;
}

static uint32_t seal(uint32_t sum, uint64_t sequence) {
  return sum ^ (uint32_t)(sequence * 2654435761u);
}

/* ---- What the drain thread says ---- */

static uint64_t global(const struct cpu *cpu, uint64_t generation, uint64_t position) {
  return cpu->ledger->base[generation % LEDGER_GENERATIONS] + position;
}

static void on_jump(struct cpu *cpu, const struct drain_report *report) {
  struct ledger *ledger = cpu->ledger;
  bool corrupt = report->kind == DRAIN_CORRUPT;
  /* A jump goes forward, and no farther than to the oldest survivor, or the end of the ring. */
  MUST(report->first < report->second);
  MUST(report->second <= ring_load(cpu->ring->page, corrupt ? RING_WRITE_POS : RING_TAIL_POS));
  pthread_mutex_lock(&ledger->lock);
  uint64_t from = global(cpu, cpu->reading, report->first);
  uint64_t to = global(cpu, cpu->reading, report->second);
  /* Damage must not come along into the next ring: there it would cost what nobody damaged. */
  if (corrupt) MUST(ledger_damaged(ledger, from, cpu->reading));
  span_add_ascending(&ledger->jumps, from, to);
  pthread_mutex_unlock(&ledger->lock);
}

/*
 * Which ring a mapping leads to. Replaced between mapping and the look at its generation, it shows
 * that of its successor; but not its file.
 */
static uint64_t true_generation(const struct cpu *cpu, const struct ring *ring) {
  bool dead = cpu->ledger->inodes[ring->generation % LEDGER_GENERATIONS] != ring->inode;
  return ring->generation - dead;
}

static void on_reattached(struct cpu *cpu, const struct drain_report *report) {
  struct ledger *ledger = cpu->ledger;
  struct ring *next = atomic_load(&cpu->next);
  struct drain_status status;
  MUST(report->first == next->generation && report->second == next->capacity);
  drain_status(cpu->drain, &status);
  pthread_mutex_lock(&ledger->lock);
  /* The old ring was read to its end; the new one is read from its tail on. */
  uint64_t from = ledger->end[cpu->reading % LEDGER_GENERATIONS];
  uint64_t reading = true_generation(cpu, next);
  uint64_t to = global(cpu, reading, status.read_pos);
  span_add_ascending(&ledger->jumps, from, to);
  pthread_mutex_unlock(&ledger->lock);
  cpu->ring = next;
  if (reading != next->generation) atomic_fetch_add(&cpu->stress->stale, 1);
  cpu->reading = reading;
  atomic_fetch_add(&cpu->stress->reattached, 1);
}

static void on_report(void *context, const struct drain_report *report) {
  struct cpu *cpu = context;
  struct stress *stress = cpu->stress;
  switch (report->kind) {
    case DRAIN_LAPPED:
      atomic_fetch_add(&stress->laps, 1);
      on_jump(cpu, report);
      break;
    case DRAIN_CORRUPT:
      atomic_fetch_add(&stress->corruptions, 1);
      MUST(stress->scenario->damage);
      on_jump(cpu, report);
      break;
    case DRAIN_REATTACHED:
      on_reattached(cpu, report);
      break;
    case DRAIN_GENERATION:
      atomic_store(&cpu->awaits_ring, true);
      break;
    case DRAIN_FINISHED:
      atomic_store(&cpu->finished, true);
      break;
    case DRAIN_THROTTLED:
      atomic_fetch_add(&stress->throttles, 1);
      break;
    case DRAIN_GAP:
      atomic_fetch_add(&stress->gaps, 1);
      break;
    default:
      break;
  }
}

static void close_ring(void *context, struct ring *ring) { ring_unmap(ring); }

/* ---- Producers ---- */

static uint8_t *payload_of(struct cpu *cpu, uint32_t slot) {
  return cpu->payloads + (size_t)slot * LARGE_TEXT;
}

static void make_payloads(struct cpu *cpu) {
  cpu->payloads = malloc((size_t)PAYLOADS * LARGE_TEXT);
  if (cpu->payloads == NULL) abort();
  for (uint32_t slot = 0; slot < PAYLOADS; slot++) {
    uint8_t *payload = payload_of(cpu, slot);
    uint32_t most = slot % 16 == 0 ? LARGE_TEXT : slot % 4 == 0 ? MAX_TEXT : 200;
    uint32_t length = PAYLOAD_HEAD + roll(&cpu->random, most - PAYLOAD_HEAD);
    if (cpu->stress->scenario->fixed) length = FIXED_EVENT - KMES_FIXED_HEADER - 1;
    for (uint32_t i = PAYLOAD_HEAD; i < length; i++) payload[i] = (uint8_t)roll(&cpu->random, 256);
    cpu->lengths[slot] = length;
    cpu->sums[slot] = checksum(payload + PAYLOAD_HEAD, length - PAYLOAD_HEAD);
  }
}

/* Waits until the marks of old sequences may be reused. */
static void await_window(struct cpu *cpu, uint64_t count) {
  struct ledger *ledger = cpu->ledger;
  uint64_t until = clock_monotonic() + DEADLINE_SECONDS * 1000000000ull;
  while (atomic_load(&ledger->emitted) + count - atomic_load(&ledger->floor) > LEDGER_WINDOW / 2) {
    ledger_floor(ledger);
    MUST(clock_monotonic() < until);
    rest_us(100);
  }
}

static void emit(struct cpu *cpu, uint32_t count, bool drop) {
  struct producer_event events[BATCH];
  static const uint8_t type = 't';
  static uint8_t huge[RING_MIN_CAPACITY * 4];
  await_window(cpu, count);
  uint64_t sequence = atomic_load(&cpu->ledger->emitted), position = cpu->write_pos;
  uint32_t slot = roll(&cpu->random, PAYLOADS);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t at = (slot + i) % PAYLOADS;
    uint8_t *payload = payload_of(cpu, at);
    uint32_t size = KMES_FIXED_HEADER + 1 + cpu->lengths[at];
    events[i] = (struct producer_event){&type, payload, 1, cpu->lengths[at]};
    if (drop && i == 0) {
      events[i] = (struct producer_event){&type, huge, 1, sizeof huge};
      size = 0;
    }
    sequence++;
    if (size > 0) {
      write_u32(payload, seal(cpu->sums[at], sequence));
      write_u64(payload + 4, sequence);
      if ((position & (cpu->capacity - 1)) + KMES_FIXED_HEADER > cpu->capacity) {
        cpu->straddler = sequence;
      }
    }
    ledger_emit(cpu->ledger, sequence, global(cpu, cpu->generation, position), size == 0);
    position += size;
  }
  atomic_store(&cpu->ledger->emitted, sequence);
  size_t written;
  uint64_t last;
  MUST(producer_emit(cpu->fixture.producer, 0, events, count, NULL, &written, &last) == 0);
  MUST(last == sequence && written == count - (drop ? 1 : 0));
  cpu->write_pos = position;
}

static uint64_t tail_of(const struct cpu *cpu) {
  struct producer_status status;
  MUST(producer_status(cpu->fixture.producer, &status) == 0);
  MUST(status.write_pos == cpu->write_pos && status.generation == cpu->generation);
  return status.tail_pos;
}

/* No reader can take a header for one after any of these. */
static const struct damage_kind {
  uint8_t offset, length;
  uint64_t value;
} damage_kinds[] = {
    {KMES_EVENT_SIZE, 4, UINT32_MAX},
    {KMES_EVENT_SIZE, 4, 0},
    {KMES_EVENT_SIZE, 4, 7},
    {KMES_EVENT_SIZE, 4, KMES_FIXED_HEADER - 1},
    {KMES_EVENT_SIZE, 4, RING_MAX_CAPACITY + 1},
    {KMES_HEADER_SIZE, 4, 0},
    {KMES_HEADER_SIZE, 4, KMES_FIXED_HEADER - 1},
    {KMES_HEADER_SIZE, 4, LARGE_TEXT + KMES_FIXED_HEADER + 2},
    {KMES_HEADER_SIZE, 4, GAP_MARKER},
    {KMES_TYPE_LEN, 2, UINT16_MAX},
    {KMES_TYPE_LEN, 2, 2}, /* one byte beyond the header */
    {KMES_CPU_ID, 2, 77},
    {KMES_SEQUENCE, 8, 0},
    {KMES_SEQUENCE, 8, UINT64_MAX},
};

/* Stores at any address. */
struct __attribute__((packed, may_alias)) any16 {
  uint16_t value;
};
struct __attribute__((packed, may_alias)) any32 {
  uint32_t value;
};
struct __attribute__((packed, may_alias)) any64 {
  uint64_t value;
};

/*
 * One store, which a reader sees whole or not at all: half a damage could look like a sane header.
 * A field across cache lines gets the first kind instead, whose last byte alone spoils it.
 */
static void spoil(struct cpu *cpu, uint64_t position, const struct damage_kind *kind) {
  enum { LINE = 64 };
  uint8_t *event = cpu->live + RING_DATA_OFFSET + (position & (cpu->capacity - 1));
  uintptr_t field = (uintptr_t)event + kind->offset;
  if (field / LINE == (field + kind->length - 1) / LINE) {
    if (kind->length == 2) ((volatile struct any16 *)field)->value = (uint16_t)kind->value;
    if (kind->length == 4) ((volatile struct any32 *)field)->value = (uint32_t)kind->value;
    if (kind->length == 8) ((volatile struct any64 *)field)->value = kind->value;
    return;
  }
  for (int i = 3; i >= 0; i--) __atomic_store_n(event + KMES_EVENT_SIZE + i, 0xff, __ATOMIC_RELEASE);
}

/* Spoils the header of a recent event so that no reader can take it for one. */
static void damage(struct cpu *cpu) {
  uint64_t emitted = atomic_load(&cpu->ledger->emitted);
  uint64_t back = roll(&cpu->random, 2) ? 0 : roll(&cpu->random, 40);
  uint64_t sequence = emitted > back ? emitted - back : emitted;
  if (roll(&cpu->random, 3) == 0) sequence = cpu->straddler;
  /* Survivors of a cut do not stand where they were emitted. */
  if (sequence <= cpu->copied || sequence <= atomic_load(&cpu->ledger->floor)) return;
  uint64_t mark = atomic_load(&cpu->ledger->marks[sequence % LEDGER_WINDOW]);
  uint64_t at = atomic_load(&cpu->ledger->positions[sequence % LEDGER_WINDOW]);
  uint64_t base = global(cpu, cpu->generation, 0);
  if ((mark & MARK_DROPPED) != 0 || at < base + tail_of(cpu)) return;
  /* Announced first: the reader may stumble over it at once. */
  struct ledger *ledger = cpu->ledger;
  pthread_mutex_lock(&ledger->lock);
  ledger->damages[ledger->damage_count++ % LEDGER_SPANS] = (struct damage){at, cpu->generation};
  pthread_mutex_unlock(&ledger->lock);
  uint32_t kind = roll(&cpu->random, sizeof damage_kinds / sizeof *damage_kinds);
  spoil(cpu, at - base, &damage_kinds[kind]);
}

static uint64_t inode_of(const char *path) {
  struct stat status;
  if (stat(path, &status) != 0) abort();
  return status.st_ino;
}

/* The live ring, writable, to spoil its bytes. `before` is the capacity of what is mapped now. */
static void map_live_ring(struct cpu *cpu, uint64_t before) {
  if (cpu->live != NULL) ring_unmap_double(cpu->live, before);
  int fd = open(cpu->fixture.path, O_RDWR | O_CLOEXEC);
  cpu->live = ring_map_double(fd, cpu->capacity, true);
  if (cpu->live == NULL) abort();
  close(fd);
}

/* A ring of another size. Damaged survivors, and those the damage hides, may stay behind. */
static void resize(struct cpu *cpu) {
  static const uint64_t capacities[] = {65536, 131072, 262144};
  uint64_t capacity = capacities[roll(&cpu->random, 3)];
  if (capacity == cpu->capacity) return;
  struct ledger *ledger = cpu->ledger;
  uint64_t tail = tail_of(cpu);
  pthread_mutex_lock(&ledger->lock);
  uint64_t base = global(cpu, cpu->generation, 0), end = base + cpu->write_pos;
  ledger->end[cpu->generation % LEDGER_GENERATIONS] = end;
  for (uint64_t i = 0; i < ledger->damage_count && i < LEDGER_SPANS; i++) {
    const struct damage *damage = &ledger->damages[i];
    if (damage->generation != cpu->generation || damage->at < base + tail) continue;
    span_add(&ledger->cuts, base + tail, end);
    break;
  }
  const char *reason;
  struct producer_status status;
  MUST(producer_resize(cpu->fixture.producer, capacity, &reason) == 0);
  MUST(producer_status(cpu->fixture.producer, &status) == 0);
  MUST(status.capacity == capacity && status.generation == cpu->generation + 1);
  uint64_t before = cpu->capacity;
  cpu->generation = status.generation;
  cpu->capacity = capacity;
  cpu->write_pos = status.write_pos;
  cpu->copied = atomic_load(&ledger->emitted);
  cpu->straddler = 0;
  ledger->base[cpu->generation % LEDGER_GENERATIONS] = end - status.write_pos;
  ledger->inodes[cpu->generation % LEDGER_GENERATIONS] = inode_of(cpu->fixture.path);
  pthread_mutex_unlock(&ledger->lock);
  map_live_ring(cpu, before);
}

/* Bursts with pauses in between, so that the reader is now ahead and now far behind. */
static void produce_some(struct cpu *cpu) {
  const struct scenario *scenario = cpu->stress->scenario;
  bool burst = roll(&cpu->random, 8) == 0;
  ledger_floor(cpu->ledger);
  uint32_t rounds = 1 + roll(&cpu->random, burst ? 400 : 12);
  for (uint32_t round = 0; round < rounds; round++) {
    bool drop = scenario->drops && roll(&cpu->random, 200) == 0;
    emit(cpu, scenario->fixed ? 1 : 1 + roll(&cpu->random, BATCH), drop);
    if (scenario->damage && roll(&cpu->random, 25) == 0) damage(cpu);
  }
  if (scenario->resize && clock_monotonic() >= cpu->next_resize) {
    resize(cpu);
    cpu->next_resize = clock_monotonic() + (1 + roll(&cpu->random, 20)) * 1000000ull;
  }
  if (!burst) rest_us(roll(&cpu->random, 1000));
}

static void *produce(void *argument) {
  struct cpu *cpu = argument;
  while (atomic_load(&cpu->stress->emitting)) produce_some(cpu);
  /* Only a further event shows that the ones before it are lost. */
  uint64_t until = clock_monotonic() + DEADLINE_SECONDS * 1000000000ull;
  struct drain_status status;
  do {
    emit(cpu, 1, false);
    rest_us(2000);
    drain_status(cpu->drain, &status);
    MUST(clock_monotonic() < until);
  } while (status.last_sequence < atomic_load(&cpu->ledger->emitted));
  atomic_store(&cpu->settled, true);
  return NULL;
}

#endif

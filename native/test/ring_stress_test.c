/*
 * Producers at full speed on the smallest rings against the real drain threads: lapping, damaged
 * event headers, rings replaced by larger and smaller ones, stalled and failing writers. The
 * ledger of each CPU says after every segment whether anything was repeated, torn, or given up
 * without need.
 *
 *     ring_stress_test [SECONDS]     over all scenarios; 6 by default. STRESS_SEED repeats a run's
 *                                    choices, though not the timing of its threads; STRESS_ONLY=n
 *                                    runs the nth scenario alone.
 */
#include "stress_world.h"

/* ---- Writers ---- */

static void check_event(const uint8_t *entry) {
  uint32_t header = read_u32(entry + KMES_HEADER_SIZE);
  const uint8_t *payload = entry + header;
  MUST(header == KMES_FIXED_HEADER + 1 && entry[KMES_TYPE] == 't');
  size_t length = entry_size(entry) - header;
  uint64_t sequence = read_u64(payload + 4);
  MUST(sequence == read_u64(entry + KMES_SEQUENCE));
  MUST(read_u32(payload) == seal(checksum(payload + PAYLOAD_HEAD, length - PAYLOAD_HEAD), sequence));
}

/* Takes note of every entry; the last sequence of each CPU goes to `last`. */
static void check_entries(struct shard *shard, const uint8_t *bytes, size_t length, uint32_t rows,
                          uint64_t last[MAX_CPUS]) {
  struct stress *stress = shard->stress;
  uint32_t seen = 0;
  for (size_t at = 0; at < length; at += entry_size(bytes + at), seen++) {
    const uint8_t *entry = bytes + at;
    bool gap = entry_is_gap(entry);
    uint16_t id = entry_cpu(entry);
    uint64_t first = entry_first(entry), end = entry_last(entry);
    MUST(id < stress->scenario->cpus && first > last[id] && first <= end);
    last[id] = end;
    if (!gap) check_event(entry);
    for (uint64_t s = first; s <= end; s++) {
      ledger_take(stress->cpus[id].ledger, s, shard->index, gap);
    }
    atomic_fetch_add(gap ? &stress->lost : &stress->delivered, end - first + 1);
  }
  MUST(seen == rows);
}

static void check_watermarks(struct shard *shard, int64_t segment, const uint64_t last[MAX_CPUS]) {
  struct segment_watermark *marks;
  int count = segment_watermarks(segment, &marks), expected = 0;
  for (int i = 0; i < MAX_CPUS; i++) expected += last[i] > 0;
  MUST(count == expected);
  for (int i = 0; i < count; i++) {
    uint16_t id = marks[i].cpu;
    struct ledger *ledger = shard->stress->cpus[id].ledger;
    MUST(marks[i].last == last[id]);
    uint64_t floor = atomic_load(&ledger->floor);
    if (shard->checked[id] < floor) shard->checked[id] = floor;
    while (shard->checked[id] < marks[i].settled) {
      MUST(ledger_claimable(ledger, ++shard->checked[id], shard->index));
    }
  }
  free(marks);
}

static void flag_entries(struct shard *shard, const uint8_t *bytes, size_t length, uint64_t flag) {
  for (size_t at = 0; at < length; at += entry_size(bytes + at)) {
    struct ledger *ledger = shard->stress->cpus[entry_cpu(bytes + at)].ledger;
    for (uint64_t s = entry_first(bytes + at); s <= entry_last(bytes + at); s++) {
      ledger_flag(ledger, s, flag);
    }
  }
}

/* The transaction failed: the segment's runs are owed from now on. */
static void fail(struct shard *shard, int64_t segment, uint64_t total) {
  struct segment_run *runs;
  int count = segment_lost(segment, &runs);
  MUST(count > 0 && shard->owed_count + (uint32_t)count <= OWED_RUNS);
  for (int i = 0; i < count; i++) {
    for (uint64_t s = runs[i].first; s <= runs[i].last; s++, total--) {
      ledger_flag(shard->stress->cpus[runs[i].cpu].ledger, s, MARK_LOST);
    }
    shard->owed[shard->owed_count++] = runs[i];
  }
  MUST(total == 0);
  free(runs);
  atomic_fetch_add(&shard->stress->failed, 1);
}

/* The owed runs are recorded in the transaction that commits now. */
static void record_owed(struct shard *shard) {
  for (uint32_t i = 0; i < shard->owed_count; i++) {
    const struct segment_run *run = &shard->owed[i];
    for (uint64_t s = run->first; s <= run->last; s++) {
      ledger_flag(shard->stress->cpus[run->cpu].ledger, s, MARK_SAFE);
    }
  }
  if (shard->owed_count > 0) channel_loss_recorded(shard->channel.channel);
  shard->owed_count = 0;
}

static bool write_some(struct shard *shard) {
  const struct scenario *scenario = shard->stress->scenario;
  struct segment_info info;
  if (channel_take(shard->channel.channel, &info) != 1) return false;
  MUST(info.rows > 0 && info.rows <= shard->rows && info.rows == info.events + info.gaps);
  const uint8_t *bytes;
  size_t length;
  uint32_t rows;
  MUST(segment_borrow(info.handle, &bytes, &length, &rows));
  uint64_t last[MAX_CPUS] = {0}, total = 0;
  check_entries(shard, bytes, length, rows, last);
  for (size_t at = 0; at < length; at += entry_size(bytes + at)) {
    total += entry_last(bytes + at) - entry_first(bytes + at) + 1;
  }
  uint64_t checked[MAX_CPUS];
  memcpy(checked, shard->checked, sizeof checked);
  check_watermarks(shard, info.handle, last);
  bool failing = scenario->fail && atomic_load(&shard->stress->writing) &&
                 shard->owed_count < OWED_RUNS / 2 && roll(&shard->random, 5) == 0;
  if (failing) {
    segment_return(info.handle);
    fail(shard, info.handle, total);
    /* What it would have proved must be proved again. */
    memcpy(shard->checked, checked, sizeof checked);
    return true;
  }
  flag_entries(shard, bytes, length, MARK_SAFE);
  segment_return(info.handle);
  record_owed(shard);
  MUST(segment_committed(info.handle) && !segment_committed(info.handle));
  return true;
}

static void *write_all(void *argument) {
  struct shard *shard = argument;
  const struct scenario *scenario = shard->stress->scenario;
  for (;;) {
    /* Looked at first: what was handed over before it ended is taken below. */
    bool writing = atomic_load(&shard->stress->writing);
    if (scenario->limits && writing && roll(&shard->random, 8) == 0) {
      shard->rows = 1 + roll(&shard->random, roll(&shard->random, 2) ? 8 : scenario->rows);
      channel_limit(shard->channel.channel, shard->rows);
    }
    if (scenario->stall && writing && roll(&shard->random, 40) == 0) {
      rest_us(1000 + roll(&shard->random, 60000));
    }
    if (write_some(shard)) continue;
    if (!writing) break;
    rest_us(200);
  }
  /* Nothing new came with which to record what is owed: a commit of its own does it. */
  record_owed(shard);
  return NULL;
}

/* ---- One scenario ---- */

static void start_cpu(struct stress *stress, uint16_t id) {
  struct cpu *cpu = &stress->cpus[id];
  const struct scenario *scenario = stress->scenario;
  cpu->stress = stress;
  cpu->id = id;
  cpu->random = stress_seed * 31 + id;
  cpu->ledger = ledger_new();
  cpu->capacity = RING_MIN_CAPACITY;
  cpu->generation = 1;
  fixture_open_cpu(&cpu->fixture, id, RING_MIN_CAPACITY);
  map_live_ring(cpu, 0);
  cpu->ledger->inodes[cpu->generation] = inode_of(cpu->fixture.path);
  make_payloads(cpu);
  struct channel *channels[MAX_SHARDS];
  uint32_t count = 0;
  if (scenario->shards <= scenario->cpus) {
    channels[count++] = stress->shards[id % scenario->shards].channel.channel;
  } else {
    for (uint32_t j = id; j < scenario->shards; j += scenario->cpus) {
      channels[count++] = stress->shards[j].channel.channel;
    }
  }
  cpu->ring = cpu->fixture.ring;
  cpu->reading = cpu->ring->generation;
  cpu->fixture.ring = NULL; /* the thread's now */
  const struct drain_options options = {
      .ring = cpu->ring,
      .close_ring = close_ring,
      .cpu = id,
      .channels = channels,
      .channel_count = count,
      .elevated_percent = 50,
      .emergency_percent = 80,
      .notify = on_report,
      .context = cpu,
  };
  MUST(drain_start(&options, &cpu->drain) == 0);
}

/* The control plane's part: a replaced ring is attached after a while. */
static void reattach(struct cpu *cpu, uint64_t *random) {
  struct ring *ring;
  const char *reason;
  if (!atomic_load(&cpu->awaits_ring) || roll(random, 3) == 0) return;
  atomic_store(&cpu->awaits_ring, false);
  MUST(ring_map_file(cpu->fixture.path, &ring, &reason) == 0);
  atomic_store(&cpu->next, ring);
  MUST(drain_reattach(cpu->drain, ring) == 0);
}

static void stop_cpu(struct stress *stress, struct cpu *cpu) {
  drain_stop(cpu->drain);
  drain_stop(cpu->drain);
  drain_free(cpu->drain);
  ledger_floor(cpu->ledger);
  /* Every number was delivered or recorded, and all of it is safe. */
  MUST(atomic_load(&cpu->ledger->floor) == atomic_load(&cpu->ledger->emitted));
  ledger_free(cpu->ledger);
  free(cpu->payloads);
  ring_unmap_double(cpu->live, cpu->capacity);
  fixture_close(&cpu->fixture);
}

static void run_threads(struct stress *stress, uint64_t nanoseconds) {
  const struct scenario *scenario = stress->scenario;
  uint64_t random = stress_seed, emitted = 0, counted = 0, gaps = 0;
  uint64_t end = clock_monotonic() + nanoseconds;
  for (uint32_t done = 0; done < scenario->cpus;) {
    if (clock_monotonic() >= end) atomic_store(&stress->emitting, false);
    done = 0;
    for (uint32_t i = 0; i < scenario->cpus; i++) {
      reattach(&stress->cpus[i], &random);
      done += atomic_load(&stress->cpus[i].settled);
    }
    rest_us(500);
  }
  for (uint32_t i = 0; i < scenario->cpus; i++) {
    struct cpu *cpu = &stress->cpus[i];
    pthread_join(cpu->producer, NULL);
    drain_finish(cpu->drain);
    while (!atomic_load(&cpu->finished)) rest_us(200);
    struct drain_status status;
    drain_status(cpu->drain, &status);
    emitted += atomic_load(&cpu->ledger->emitted);
    counted += status.events + status.lost;
    gaps += status.gaps;
  }
  atomic_store(&stress->writing, false);
  for (uint32_t i = 0; i < scenario->shards; i++) {
    pthread_join(stress->shards[i].writer, NULL);
  }
  MUST(counted == emitted && gaps == stress->gaps);
  MUST(stress->delivered + stress->lost == emitted);
}

static void check_happened(const struct stress *stress) {
  const struct scenario *scenario = stress->scenario;
  EXPECT(stress->delivered > 0 && stress->laps > 0);
  EXPECT(!scenario->damage || stress->corruptions > 0);
  EXPECT(!scenario->resize || stress->reattached > 0);
  EXPECT(!scenario->stall || stress->throttles > 0);
  EXPECT(!scenario->fail || stress->failed > 0);
}

static void run(const struct scenario *scenario, double seconds) {
  struct stress *stress = calloc(1, sizeof *stress);
  if (stress == NULL) abort();
  stress->scenario = scenario;
  atomic_store(&stress->emitting, true);
  atomic_store(&stress->writing, true);
  for (uint32_t i = 0; i < scenario->shards; i++) {
    struct shard *shard = &stress->shards[i];
    *shard = (struct shard){.stress = stress, .index = i, .rows = scenario->rows};
    shard->random = stress_seed * 17 + i;
    shard->owed = malloc(OWED_RUNS * sizeof *shard->owed);
    if (shard->owed == NULL) abort();
    shard->channel = fixture_channel(scenario->rows, scenario->bytes);
  }
  for (uint32_t i = 0; i < scenario->cpus; i++) start_cpu(stress, (uint16_t)i);
  for (uint32_t i = 0; i < scenario->shards; i++) {
    pthread_create(&stress->shards[i].writer, NULL, write_all, &stress->shards[i]);
  }
  for (uint32_t i = 0; i < scenario->cpus; i++) {
    pthread_create(&stress->cpus[i].producer, NULL, produce, &stress->cpus[i]);
  }
  run_threads(stress, (uint64_t)(seconds * 1e9));
  check_happened(stress);
  for (uint32_t i = 0; i < scenario->cpus; i++) stop_cpu(stress, &stress->cpus[i]);
  for (uint32_t i = 0; i < scenario->shards; i++) {
    fixture_channel_close(&stress->shards[i].channel);
    free(stress->shards[i].owed);
  }
  printf("# %llu delivered, %llu in %llu gaps; %llu laps, %llu corrupt, %llu rings (%llu stale), %llu full, "
         "%llu failed\n",
         (unsigned long long)stress->delivered, (unsigned long long)stress->lost,
         (unsigned long long)stress->gaps, (unsigned long long)stress->laps,
         (unsigned long long)stress->corruptions, (unsigned long long)stress->reattached, (unsigned long long)stress->stale,
         (unsigned long long)stress->throttles, (unsigned long long)stress->failed);
  free(stress);
}

#define MIB (1 << 20)

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 6;
  const char *seed = getenv("STRESS_SEED");
  stress_seed = seed != NULL ? strtoull(seed, NULL, 10) : argc > 1 ? clock_realtime() % 1000000 : 1;
  const struct scenario scenarios[] = {
      {.cpus = 1, .shards = 1, .rows = 1000, .bytes = MIB, .drops = true},
      {.cpus = 1, .shards = 1, .rows = 1000, .bytes = MIB, .fixed = true},
      {.cpus = 1, .shards = 1, .rows = 3, .bytes = 70000, .stall = true},
      {.cpus = 1, .shards = 3, .rows = 100, .bytes = MIB, .fail = true, .stall = true},
      {.cpus = 2, .shards = 1, .rows = 500, .bytes = MIB, .limits = true, .stall = true},
      {.cpus = 1, .shards = 1, .rows = 1000, .bytes = MIB, .resize = true, .drops = true},
      {.cpus = 1, .shards = 1, .rows = 1000, .bytes = MIB, .damage = true},
      {.cpus = 2, .shards = 3, .rows = 300, .bytes = MIB, .drops = true, .damage = true,
       .resize = true, .stall = true, .fail = true, .limits = true},
  };
  const char *only = getenv("STRESS_ONLY");
  unsigned alone = only != NULL ? (unsigned)strtoul(only, NULL, 10) : 0;
  double each = alone > 0 ? seconds : seconds / (sizeof scenarios / sizeof *scenarios);
  alarm((unsigned)seconds + 8 * DEADLINE_SECONDS);
  printf("# STRESS_SEED=%llu\n", stress_seed);
  if (alone == 0 || alone == 1) {
    title("[KMES-123] [ING-11] [ING-22] a lapped reader never delivers a torn event or hides a loss");
    run(&scenarios[0], each);
  }
  if (alone == 0 || alone == 2) {
    title("[KMES-123] a torn copy that looks like an event is forgotten as well");
    run(&scenarios[1], each);
  }
  if (alone == 0 || alone == 3) {
    title("[ING-43] [ING-44] [ING-45] a nearly always full channel loses nothing but what was overwritten");
    run(&scenarios[2], each);
  }
  if (alone == 0 || alone == 4) {
    title("[ING-31] [STO-15] [FAIL-3] three shards with failing commits: no watermark is ever too high");
    run(&scenarios[3], each);
  }
  if (alone == 0 || alone == 5) {
    title("[ING-43] [LIFE-144] two CPUs on one shard whose limit falls under what is queued");
    run(&scenarios[4], each);
  }
  if (alone == 0 || alone == 6) {
    title("[ING-17] [KMES-142] swaps under load neither lose nor repeat an event");
    run(&scenarios[5], each);
  }
  if (alone == 0 || alone == 7) {
    title("[KMES-124] [KMES-126] damaged headers cost what lies behind them, and nothing else");
    run(&scenarios[6], each);
  }
  if (alone == 0 || alone == 8) {
    title("[ING-17] [ING-45] [KMES-124] everything at once on two CPUs and three shards");
    run(&scenarios[7], each);
  }
  return expect_result();
}

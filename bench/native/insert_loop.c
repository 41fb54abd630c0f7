/*
 * The peer to beat: what a daemon in a compiled language does. One prepared INSERT per event, bound
 * and stepped in a plain C loop, into the same file, with the same pragmas, batch size and checkpoint
 * rule as eventd's writer, on the very SQLite that better-sqlite3 is linked with.
 *
 *   insert_loop DATABASE RING EVENTS BATCH CHECKPOINT_BYTES ROW_OVERHEAD BOOT_ID_HEX [PRAGMA ...]
 *
 * DATABASE has its schema already. RING is a filled ring file; its first EVENTS events are stored,
 * straight from the mapping. Prints one JSON line: seconds, cpuSeconds.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../native/kmes_format.h"
#include "sqlite_loop.h"

static const char insert_sql[] =
    "INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type,"
    " effective_token_guid, true_token_guid, process_guid, payload)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

static void bind_event(sqlite3_stmt *insert, const uint8_t *event, uint32_t size) {
  uint32_t header = read_u32(event + KMES_HEADER_SIZE);
  sqlite3_bind_int64(insert, 2, (sqlite3_int64)read_u64(event + KMES_TIMESTAMP));
  sqlite3_bind_int(insert, 3, read_u16(event + KMES_CPU_ID));
  sqlite3_bind_int64(insert, 4, (sqlite3_int64)read_u64(event + KMES_SEQUENCE));
  sqlite3_bind_int(insert, 5, event[KMES_ORIGIN]);
  sqlite3_bind_text(insert, 6, (const char *)event + KMES_TYPE, read_u16(event + KMES_TYPE_LEN),
                    SQLITE_STATIC);
  sqlite3_bind_blob(insert, 7, event + KMES_EFFECTIVE_GUID, KMES_GUID_BYTES, SQLITE_STATIC);
  sqlite3_bind_blob(insert, 8, event + KMES_TRUE_GUID, KMES_GUID_BYTES, SQLITE_STATIC);
  sqlite3_bind_blob(insert, 9, event + KMES_PROCESS_GUID, KMES_GUID_BYTES, SQLITE_STATIC);
  sqlite3_bind_blob(insert, 10, event + header, (int)(size - header), SQLITE_STATIC);
}

static const uint8_t *map_ring(const char *path, size_t *length) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat stat;
  if (fd < 0 || fstat(fd, &stat) != 0 || stat.st_size <= RING_DATA_OFFSET) fail(path, "no ring file");
  const uint8_t *file = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (file == MAP_FAILED) fail(path, "cannot be mapped");
  close(fd);
  *length = (size_t)stat.st_size - RING_DATA_OFFSET;
  return file + RING_DATA_OFFSET;
}

static void read_guid(const char *hex, uint8_t out[KMES_GUID_BYTES]) {
  for (int i = 0; i < KMES_GUID_BYTES; i++) {
    unsigned byte;
    if (sscanf(hex + (size_t)i * 2, "%2x", &byte) != 1) fail("BOOT_ID_HEX", "not 32 hex digits");
    out[i] = (uint8_t)byte;
  }
}

int main(int argc, char **argv) {
  if (argc < 8) {
    fprintf(stderr, "usage: insert_loop DATABASE RING EVENTS BATCH CHECKPOINT_BYTES ROW_OVERHEAD "
                    "BOOT_ID_HEX [PRAGMA ...]\n");
    return 2;
  }
  unsigned long long events = strtoull(argv[3], NULL, 10), batch = strtoull(argv[4], NULL, 10);
  unsigned long long checkpoint = strtoull(argv[5], NULL, 10), overhead = strtoull(argv[6], NULL, 10);
  uint8_t boot_id[KMES_GUID_BYTES];
  read_guid(argv[7], boot_id);
  size_t length;
  const uint8_t *event = map_ring(argv[2], &length), *end = event + length;

  struct loop loop = loop_open(argv[1], argv + 8, insert_sql);
  sqlite3_bind_blob(loop.insert, 1, boot_id, sizeof boot_id, SQLITE_STATIC);

  loop_start(&loop);
  unsigned long long done = 0, since_checkpoint = 0;
  while (done < events) {
    step(&loop, loop.begin, "BEGIN");
    for (unsigned long long i = 0; i < batch && done < events; i++, done++) {
      if ((size_t)(end - event) < KMES_FIXED_HEADER) fail("ring", "holds too few events");
      uint32_t size = read_u32(event + KMES_EVENT_SIZE);
      if (size < KMES_FIXED_HEADER || size > (size_t)(end - event)) fail("ring", "holds too few events");
      bind_event(loop.insert, event, size);
      step(&loop, loop.insert, "INSERT");
      event += size;
      since_checkpoint += size + overhead;
    }
    step(&loop, loop.commit, "COMMIT");
    if (since_checkpoint < checkpoint) continue;
    check(loop.db, sqlite3_wal_checkpoint_v2(loop.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL), "checkpoint");
    since_checkpoint = 0;
  }
  loop_finish(&loop);
  return 0;
}

/* The SQLite extension inside a real SQLite, under sanitizers. */
#include <pthread.h>
#include <stdatomic.h>

#include "../channel.h"
#include "../cursor.h"
#include "../handle.h"
#include "../kmes_format.h"
#include "../slot.h"
#include "expect.h"
#include "sqlite3.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

static sqlite3 *open_db(void) {
  sqlite3 *db = NULL;
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  return db;
}

static int64_t integer(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  int64_t value = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : INT64_MIN;
  sqlite3_finalize(statement);
  return value;
}

/* A channel whose segment is handed out holding exactly these bytes. */
struct source {
  int64_t channel;
  struct track *track;
  struct channel_feed *feed;
  int64_t segment;
};

static struct source taken(const uint8_t *bytes, size_t n, uint32_t events) {
  struct source source = {.channel = channel_open(0, 1000, 1 << 20), .track = track_new(1, 1, 0)};
  struct channel *channel = handle_acquire(HANDLE_CHANNEL, source.channel);
  struct channel_room room;
  struct channel_change change;
  struct segment_info info = {0};
  source.feed = channel_attach(channel, source.track, 0, NULL);
  EXPECT(channel_begin(channel, n, n, &room) == CHANNEL_OK);
  memcpy(room.at, bytes, n);
  channel_account(channel, source.feed, &room, &(struct channel_append){n, events, 0, 1, events, 1});
  channel_end(channel, &change);
  EXPECT(channel_take(channel, &info) == 1);
  source.segment = info.handle;
  return source;
}

static void dispose(struct source *source) {
  struct channel *channel = handle_acquire(HANDLE_CHANNEL, source->channel);
  segment_committed(source->segment);
  channel_detach(channel, source->feed);
  channel_shut(channel);
  handle_release(source->channel);
  handle_release(source->channel);
  handle_close(HANDLE_CHANNEL, source->channel);
  track_unref(source->track);
}

static size_t event(uint8_t *out, const char *type, const char *payload, uint64_t sequence) {
  uint16_t type_length = (uint16_t)strlen(type);
  uint32_t header = KMES_FIXED_HEADER + type_length;
  uint32_t size = header + (uint32_t)strlen(payload);
  memset(out, 0x11, KMES_FIXED_HEADER);
  write_u32(out + KMES_EVENT_SIZE, size);
  write_u32(out + KMES_HEADER_SIZE, header);
  write_u64(out + KMES_TIMESTAMP, 1000 + sequence);
  write_u64(out + KMES_SEQUENCE, sequence);
  write_u16(out + KMES_TYPE_LEN, type_length);
  memcpy(out + KMES_TYPE, type, type_length);
  memcpy(out + header, payload, strlen(payload));
  return size;
}

static const char table[] =
    "CREATE TABLE events(id INTEGER PRIMARY KEY, boot_id BLOB, timestamp INTEGER, cpu_id INTEGER, sequence INTEGER,"
    " origin_class INTEGER, event_type TEXT, effective_token_guid BLOB, true_token_guid BLOB, process_guid BLOB,"
    " payload BLOB)";
static const char columns[] =
    "timestamp, cpu_id, sequence, origin_class, event_type, effective_token_guid, true_token_guid, process_guid";

/* Stores a segment; the result code, and whether the message holds `expected`. */
static int store(sqlite3 *db, int64_t segment, const char *expected) {
  char sql[512];
  snprintf(sql, sizeof sql, "INSERT INTO events(%s, payload) SELECT %s, payload FROM kmes_batch(%lld)", columns, columns,
           (long long)segment);
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  if (expected != NULL && strstr(sqlite3_errmsg(db), expected) == NULL) {
    fprintf(stderr, "message: %s\n", sqlite3_errmsg(db));
    EXPECT(!"the message says why");
  }
  return rc;
}

static void malformed_segments(void) {
  title("[KMES-25] [STO-2] a malformed segment stores nothing and says which row is bad");
  uint8_t bytes[1024];
  size_t first = event(bytes, "t", "\xc0", 1);
  size_t both = first + event(bytes + first, "u", "\xc0", 2);
  static const struct {
    size_t at;
    uint32_t value;
    const char *message;
  } damages[] = {
      {KMES_EVENT_SIZE, 4096, "row 2: entry reaches beyond the segment"},
      {KMES_EVENT_SIZE, 0, "row 2: event shorter than its header"},
      {KMES_HEADER_SIZE, 76, "row 2: event shorter than its header"},
      {KMES_HEADER_SIZE, 900, "row 2: event header larger than the event"},
      {KMES_HEADER_SIZE, 77, "row 2: event type reaches beyond the header"},
      {KMES_HEADER_SIZE, GAP_MARKER, "row 2: gap entry of wrong size"},
  };
  sqlite3 *db = open_db();
  EXPECT(sqlite3_exec(db, table, NULL, NULL, NULL) == SQLITE_OK);
  for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
    event(bytes + first, "u", "\xc0", 2);
    write_u32(bytes + first + damages[i].at, damages[i].value);
    struct source source = taken(bytes, both, 2);
    EXPECT(store(db, source.segment, damages[i].message) == SQLITE_CORRUPT);
    EXPECT(sqlite3_extended_errcode(db) == SQLITE_CORRUPT_VTAB);
    dispose(&source);
  }
  event(bytes + first, "u", "\xc0", 2);
  struct source source = taken(bytes, both - 1, 2);
  EXPECT(store(db, source.segment, "row 2: entry reaches beyond the segment") == SQLITE_CORRUPT);
  EXPECT(integer(db, "SELECT count(*) FROM events") == 0);
  dispose(&source);
  source = taken(bytes, both, 2);
  EXPECT(store(db, source.segment, NULL) == SQLITE_OK);
  EXPECT(integer(db, "SELECT count(*) FROM events WHERE payload = x'c0'") == 2);
  dispose(&source);
  sqlite3_close(db);
}

static void borrowed_segment(void) {
  title("[STO-2] a segment stays readable while a statement stands in it, whatever its owner does");
  uint8_t bytes[1024];
  size_t first = event(bytes, "t", "\xc0", 1);
  size_t both = first + event(bytes + first, "second", "\xc0", 2);
  sqlite3 *db = open_db();
  struct source source = taken(bytes, both, 2);
  sqlite3_stmt *statement;
  EXPECT(sqlite3_prepare_v2(db, "SELECT event_type FROM kmes_batch(?)", -1, &statement, NULL) == SQLITE_OK);
  sqlite3_bind_int64(statement, 1, source.segment);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  dispose(&source);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  EXPECT(strcmp((const char *)sqlite3_column_text(statement, 0), "second") == 0);
  EXPECT(sqlite3_step(statement) == SQLITE_DONE);
  sqlite3_reset(statement);
  EXPECT(sqlite3_step(statement) == SQLITE_ERROR);
  sqlite3_finalize(statement);
  sqlite3_close(db);
}

static void stamps_beyond_sqlite(void) {
  title("[STO-1] stamps above 2^63-1 stay the largest integer instead of turning negative");
  uint8_t bytes[256];
  size_t n = event(bytes, "t", "\xc0", 1);
  write_u64(bytes + KMES_TIMESTAMP, UINT64_MAX);
  sqlite3 *db = open_db();
  sqlite3_exec(db, table, NULL, NULL, NULL);
  struct source source = taken(bytes, n, 1);
  EXPECT(store(db, source.segment, NULL) == SQLITE_OK);
  EXPECT(integer(db, "SELECT timestamp FROM events") == INT64_MAX);
  dispose(&source);
  sqlite3_close(db);
}

static void functions_on_any_bytes(void) {
  title("[IDX-34] [QX-12] the payload functions never raise an error, whatever the bytes");
  sqlite3 *db = open_db();
  sqlite3_stmt *statement;
  static const char sql[] =
      "SELECT msgpack_extract(?1, '$.a'), msgpack_extract(?1, '$.a.b'), msgpack_kind(?1, '$.a'),"
      " msgpack_order(?1, '$.a', 5), msgpack_guid(?1, '$.a'), ascii_contains(CAST(?1 AS TEXT), 'a'),"
      " ascii_glob(CAST(?1 AS TEXT), '*a*b')";
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  unsigned state = 1;
  for (int round = 0; round < 20000; round++) {
    uint8_t bytes[24] = "\x82\xa1" "a\x81\xa1" "b\x05\xa1" "a\xcb";
    size_t n = (size_t)round % sizeof bytes;
    for (int i = 0; i < 3; i++) {
      state = state * 1103515245 + 12345;
      bytes[(state >> 8) % sizeof bytes] = (uint8_t)(state >> 16);
    }
    uint8_t *copy = exact_copy(bytes, n);
    sqlite3_bind_blob(statement, 1, copy, (int)n, SQLITE_STATIC);
    EXPECT(sqlite3_step(statement) == SQLITE_ROW);
    int64_t kind = sqlite3_column_int64(statement, 2);
    bool scalar = sqlite3_column_type(statement, 0) != SQLITE_NULL;
    EXPECT(scalar == (kind >= 1 && kind <= 4));
    EXPECT((sqlite3_column_type(statement, 3) != SQLITE_NULL) == (kind == 1 || kind == 2));
    sqlite3_reset(statement);
    free(copy);
  }
  sqlite3_finalize(statement);
  sqlite3_close(db);
}

static void cursor_outlives_connection(void) {
  title("[QX-64] a cursor may be closed after its connection was");
  for (int fetches = 0; fetches < 3; fetches++) {
    sqlite3 *db = open_db();
    sqlite3_exec(db, table, NULL, NULL, NULL);
    sqlite3_exec(db, "INSERT INTO events(timestamp, event_type) VALUES (1, 'a'), (2, 'b'), (3, 'c')", NULL, NULL, NULL);
    struct cursor_options options = {.parts = 1, .keys = 1, .take = UINT64_MAX, .descending = calloc(1, 1)};
    struct cursor *cursor = cursor_new(&options);
    sqlite3_stmt *statement;
    char sql[512];
    snprintf(sql, sizeof sql, "SELECT timestamp, %s, boot_id, payload FROM events", columns);
    EXPECT(cursor_add(cursor, db, sql, strlen(sql), &statement) == SQLITE_OK);
    struct cursor_chunk chunk;
    for (int i = 0; i < fetches; i++) {
      EXPECT(cursor_fetch(cursor, 1, 1000, &chunk) == SQLITE_OK);
      EXPECT(chunk.records == 1 && !chunk.done);
    }
    sqlite3_close_v2(db);
    EXPECT(cursor_fetch(cursor, 1, 1000, &chunk) == SQLITE_OK);
    EXPECT(chunk.done == (fetches == 2));
    cursor_free(cursor);
  }
}

static void unbound_cursor_parts(void) {
  title("[QX-10] more parts than announced are refused, and nothing leaks when a cursor fails half-way");
  sqlite3 *db = open_db();
  struct cursor_options options = {.parts = 1, .keys = 0, .take = UINT64_MAX, .descending = calloc(1, 1)};
  struct cursor *cursor = cursor_new(&options);
  sqlite3_stmt *statement;
  static const char sql[] = "SELECT 1,2,3,4,5,6,7,8,9,NULL";
  EXPECT(cursor_add(cursor, db, sql, sizeof sql - 1, &statement) == SQLITE_OK);
  EXPECT(cursor_add(cursor, db, sql, sizeof sql - 1, &statement) == SQLITE_MISUSE);
  struct cursor_chunk chunk;
  EXPECT(cursor_fetch(cursor, 1, 1, &chunk) == SQLITE_MISUSE);
  EXPECT(sqlite3_close(db) == SQLITE_OK);
  cursor_free(cursor);
}

static void ended_cursor(void) {
  title("[QX-64] an ended cursor has let go of its connection before it is freed, and reads nothing more");
  sqlite3 *db = open_db();
  struct cursor_options options = {.parts = 1, .keys = 0, .take = UINT64_MAX, .descending = calloc(1, 1)};
  struct cursor *cursor = cursor_new(&options);
  sqlite3_stmt *statement;
  struct cursor_chunk chunk;
  static const char sql[] = "SELECT 1,2,3,4,5,6,7,8,9,NULL UNION ALL SELECT 1,2,3,4,5,6,7,8,9,NULL";
  EXPECT(cursor_add(cursor, db, sql, sizeof sql - 1, &statement) == SQLITE_OK);
  EXPECT(cursor_fetch(cursor, 1, 1, &chunk) == SQLITE_OK && chunk.records == 1 && !chunk.done);
  cursor_end(cursor);
  cursor_end(cursor);
  EXPECT(sqlite3_close(db) == SQLITE_OK);
  EXPECT(cursor_fetch(cursor, 1, 1, &chunk) == SQLITE_MISUSE);
  cursor_free(cursor);
}

static atomic_bool stop;
static _Atomic int64_t current;

static void *pester(void *unused) {
  (void)unused;
  uint64_t hits = 0;
  while (!atomic_load(&stop)) {
    int64_t slot = atomic_load(&current);
    if (slot == 0) continue;
    hits += slot_interrupt(slot);
    EXPECT(slot_deadline(slot, 1 + hits % 3) == 0);
  }
  return NULL;
}

static void slots_under_fire(void) {
  title("[QX-65] interrupts and deadlines from other threads never meet a connection that is being closed");
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, pester, NULL);
  int64_t before = 0;
  for (int i = 0; i < 300; i++) {
    sqlite3 *db = open_db();
    int64_t slot = 0;
    /* The other threads may interrupt even this, once they know the number. */
    slot = integer(db, "SELECT eventd_slot()");
    EXPECT(slot > 0 && slot != before && slot <= SLOT_MAX);
    bool own;
    EXPECT(slot_connection(slot, &own) == db && own);
    atomic_store(&current, slot);
    for (int j = 0; j < 20; j++) {
      sqlite3_exec(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 50) SELECT sum(i) FROM n",
                   NULL, NULL, NULL);
    }
    EXPECT(sqlite3_close(db) == SQLITE_OK);
    EXPECT(slot_connection(slot, &own) == NULL && !own);
    EXPECT(!slot_interrupt(slot));
    before = slot;
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

int main(void) {
  sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init);
  malformed_segments();
  borrowed_segment();
  stamps_beyond_sqlite();
  functions_on_any_bytes();
  cursor_outlives_connection();
  unbound_cursor_parts();
  ended_cursor();
  slots_under_fire();
  return expect_result();
}

/* Scans of committed rows over a real SQLite, under sanitizers. */
#include "../tail.h"

#include "../msgpack.h"
#include "expect.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

#define WIDE .max_bytes = 1 << 30, .total_bytes = 1 << 30

static sqlite3 *open_db(const char *schema) {
  sqlite3 *db = NULL;
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  EXPECT(sqlite3_exec(db, schema, NULL, NULL, NULL) == SQLITE_OK);
  return db;
}

static struct tail_program *add(struct tail *tail, const void *spec, size_t n) {
  enum tail_problem problem;
  uint8_t *copy = exact_copy(spec, n);
  struct tail_program *program = tail_add(tail, copy, n, &problem);
  EXPECT((program == NULL) == (problem != TAIL_OK));
  free(copy);
  return program;
}

#define ADD(tail, text) add(tail, text, sizeof(text) - 1)

/* Whole messages, one behind the other; returns how many, and the records in them. */
static uint32_t messages(const struct tail_part *part, uint32_t *records) {
  uint32_t count = 0;
  *records = 0;
  for (size_t at = 0; at < part->length; count++) {
    uint32_t length;
    uint32_t array;
    memcpy(&length, part->frames + at, 4);
    const uint8_t *body = part->frames + at + 4;
    bool utf8 = true;
    EXPECT(msgpack_scan(body, body + length, &utf8) == body + length && utf8);
    memcpy(&array, body + 20, 4);
    *records += __builtin_bswap32(array);
    at += 4 + (size_t)length;
  }
  return count;
}

#define EVENTS                                                                                                  \
  "CREATE TABLE events (id INTEGER PRIMARY KEY, boot_id BLOB, timestamp INTEGER, cpu_id INTEGER, sequence INTEGER," \
  " origin_class INTEGER, event_type TEXT, effective_token_guid BLOB, true_token_guid BLOB, process_guid BLOB,"     \
  " payload BLOB);"                                                                                             \
  "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 2500)"                             \
  " INSERT INTO events SELECT i, zeroblob(16), i, 0, i, 0, 'type.' || (i % 10), NULL, NULL, NULL,"              \
  " x'81a16e' || x'05' FROM n;"

/* [[9, [4, 0], "TYPE.7"], nil] and [nil, [["n", -1, "n"]]] */
#define TYPE_7 "\x92\x93\x09\x92\x04\x00\xa6" "TYPE.7" "\xc0"
#define ALL_N "\x92\xc0\x91\x93\xa1n\xff\xa1n"

static void events(void) {
  title("[STR-8] [STR-12] one scan serves all programs, in whole messages of at most 1000 records");
  sqlite3 *db = open_db(EVENTS);
  struct tail *tail = tail_new(TAIL_EVENTS);
  struct tail_part parts[2] = {{.program = ADD(tail, TYPE_7)}, {.program = ADD(tail, ALL_N)}};
  struct tail_range range = {.after = 0, .up_to = 2400, .max_rows = 10000, WIDE};
  uint32_t records;
  EXPECT(tail_scan(tail, db, &range, parts, 2) == SQLITE_OK);
  EXPECT(range.last == 2400 && range.rows == 2400 && range.done);
  EXPECT(parts[0].records == 240 && messages(&parts[0], &records) == 1 && records == 240);
  EXPECT(parts[1].records == 2400 && messages(&parts[1], &records) == 3 && records == 2400);
  range = (struct tail_range){.after = 2400, .up_to = INT64_MAX, .max_rows = 60, WIDE};
  EXPECT(tail_scan(tail, db, &range, parts, 1) == SQLITE_OK);
  EXPECT(range.last == 2460 && range.rows == 60 && !range.done && parts[0].records == 6);
  range = (struct tail_range){.after = 2500, .up_to = INT64_MAX, .max_rows = 60, WIDE};
  EXPECT(tail_scan(tail, db, &range, parts, 2) == SQLITE_OK);
  EXPECT(range.last == 2500 && range.done && parts[0].length == 0 && parts[1].records == 0);
  tail_remove(tail, parts[0].program);
  tail_free(tail);
  sqlite3_close(db);
}

static void total(void) {
  title("[STR-12] what all programs of a scan hold together is bounded, also by those that the last row did not match");
  sqlite3 *db = open_db(EVENTS);
  struct tail *tail = tail_new(TAIL_EVENTS);
  struct tail_part parts[3] = {
      {.program = ADD(tail, TYPE_7)}, {.program = ADD(tail, ALL_N)}, {.program = ADD(tail, ALL_N)}};
  struct tail_range range = {.after = 0, .up_to = 2400, .max_rows = 10000, .max_bytes = 1 << 30, .total_bytes = 2000};
  uint32_t seen = 0;
  uint32_t records;
  for (range.done = false; !range.done; range.after = range.last) {
    EXPECT(tail_scan(tail, db, &range, parts, 3) == SQLITE_OK);
    size_t sum = parts[0].length + parts[1].length + parts[2].length;
    EXPECT(sum < 2500 && (range.done || sum >= 2000));
    EXPECT(range.done || parts[1].length < 2000);
    EXPECT(messages(&parts[1], &records) <= 1 && records == range.rows);
    EXPECT(parts[0].records * 10 <= range.rows + 10 && parts[2].records == range.rows);
    seen += range.rows;
  }
  EXPECT(seen == 2400 && range.last == 2400);
  tail_free(tail);
  sqlite3_close(db);
}

static void logs(void) {
  title("[STR-7] [QL-121] log records are shown with their five columns");
  sqlite3 *db = open_db(
      "CREATE TABLE logs (id INTEGER PRIMARY KEY, boot_id BLOB, timestamp INTEGER, origin TEXT, is_error INTEGER,"
      " message TEXT); INSERT INTO logs VALUES (1, zeroblob(16), 5, 'a', 1, 'x'), (2, zeroblob(3), 2.5, NULL, 0, 'y');");
  struct tail *tail = tail_new(TAIL_LOGS);
  struct tail_part parts[2] = {{.program = ADD(tail, "\x92\xc0\xc0")},
                               {.program = ADD(tail, "\x92\xc0\x92\x92\xa7message\x03\x92\xa8is_error\x02")}};
  struct tail_range range = {.after = 0, .up_to = 9, .max_rows = 9, WIDE};
  uint32_t records;
  EXPECT(tail_scan(tail, db, &range, parts, 2) == SQLITE_OK);
  EXPECT(messages(&parts[0], &records) == 1 && records == 2);
  static const char selected[] = "\x82\xa7message\xa1x\xa8is_error\xc3\x82\xa7message\xa1y\xa8is_error\xc2";
  EXPECT(parts[1].length == 28 + sizeof selected - 1);
  EXPECT(memcmp(parts[1].frames + 28, selected, sizeof selected - 1) == 0);
  tail_free(tail);
  sqlite3_close(db);
}

static void failures(void) {
  title("[STR-2] what is no spec is refused; a database that cannot be read ends the scan with its error");
  struct tail *tail = tail_new(TAIL_EVENTS);
  for (size_t n = 0; n < sizeof TYPE_7 - 1; n++) EXPECT(add(tail, TYPE_7, n) == NULL);
  for (size_t n = 0; n < sizeof ALL_N - 1; n++) EXPECT(add(tail, ALL_N, n) == NULL);
  EXPECT(ADD(tail, "\x92\xc0\x91\x92\xa1n\xff") == NULL);
  EXPECT(ADD(tail, "\x92\xc0\x91\x92\xa1n\x09") == NULL);
  sqlite3 *db = open_db("CREATE TABLE other (id)");
  struct tail_part part = {.program = ADD(tail, ALL_N)};
  struct tail_range range = {.after = 0, .up_to = 9, .max_rows = 9, WIDE};
  EXPECT(tail_scan(tail, db, &range, &part, 1) == SQLITE_ERROR);
  EXPECT(strstr(tail_message(tail), "events") != NULL);
  tail_free(tail);
  sqlite3_close(db);
}

int main(void) {
  sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init);
  events();
  total();
  logs();
  failures();
  return expect_result();
}

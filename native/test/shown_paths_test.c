/* What fields payloads have, and the SQL functions of native/sqlite_shown.c. */
#include "../shown.h"

#include "expect.h"
#include "sqlite3.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* The paths, behind something that is in the writer already. */
static bool tells(const uint8_t *payload, size_t n, const uint8_t *paths, size_t m) {
  struct msgpack_writer writer = {0};
  uint8_t *copy = exact_copy(payload, n);
  msgpack_write_nil(&writer);
  shown_paths(&writer, copy, n);
  free(copy);
  bool same = !writer.failed && writer.length == 1 + m && writer.bytes[0] == 0xc0 &&
              memcmp(writer.bytes + 1, paths, m) == 0;
  msgpack_writer_free(&writer);
  return same;
}

#define TELLS(payload, paths) tells(BYTES(payload), BYTES(paths))

static void paths(void) {
  title("[ACL-23] the paths of a payload: leaves, empty maps and arrays by all their segments");
  EXPECT(TELLS("\x80", "\xdd\0\0\0\0"));
  EXPECT(TELLS("\x84\xa1" "a\x01\xa1" "b\x82\xa1" "c\x80\xa1" "d\x81\xa1" "e\x91\x81\xa1x\x01"
               "\x01\x81\xa1y\x02\xa1" "a\xc0",
               "\xdd\0\0\0\x04\x91\xa1" "a\x92\xa1" "b\xa1" "c\x93\xa1" "b\xa1" "d\xa1" "e\x91\xa1" "a"));
  /* Segments stay apart: what dots mean is for others to say. */
  EXPECT(TELLS("\xde\0\x02\xa3" "a.b\x01\xa0\x81\xa0\x02", "\xdd\0\0\0\x02\x91\xa3" "a.b\x92\xa0\xa0"));
  EXPECT(TELLS("\x82\xa2" "a\xff\x01\xa1\xc0\x81\xa1z\x02",
               "\xdd\0\0\0\x02\x91\xa4" "a\xef\xbf\xbd\x92\xa3\xef\xbf\xbd\xa1z"));
  /* Nothing of a map that has no string as key. */
  EXPECT(TELLS("\x81\xa1" "a\x82\x01\x02\x90\x81\xa1" "b\x03", "\xdd\0\0\0\0"));
}

static void bad_payloads(void) {
  title("[ACL-23] [QL-44] a payload that is no map, malformed, cut short or followed by more has no fields");
  static const char good[] = "\x83\xa1" "a\x01\xa1" "b\x81\xa1" "c\xc4\x02xy\x90\xde\0\x01\xa1" "d\xcd" "12";
  size_t size = sizeof good - 1;
  EXPECT(tells((const uint8_t *)good, size, BYTES("\xdd\0\0\0\x02\x91\xa1" "a\x92\xa1" "b\xa1" "c")));
  for (size_t n = 0; n < size; n++) EXPECT(tells((const uint8_t *)good, n, BYTES("\xdd\0\0\0\0")));
  EXPECT(TELLS("\x81\xa1" "a\x01\xc0", "\xdd\0\0\0\0"));
  EXPECT(TELLS("\x82\xa1" "a\x01\xa1" "b\xc1", "\xdd\0\0\0\0"));
  EXPECT(TELLS("\xdf\xff\xff\xff\xff\xa1" "a\x01", "\xdd\0\0\0\0"));
  EXPECT(TELLS("\x91\x81\xa1" "a\x01", "\xdd\0\0\0\0"));
  EXPECT(TELLS("\xc1", "\xdd\0\0\0\0"));
  EXPECT(TELLS("\xc0", "\xdd\0\0\0\0"));
}

static void many_paths(void) {
  title("[ACL-23] paths are told up to a bound, whole ones, and a field too deep by its first 64 segments");
  struct msgpack_item head;
  for (size_t levels = 63; levels < 70; levels++) {
    struct msgpack_writer payload = {0};
    struct msgpack_writer writer = {0};
    struct msgpack_item path;
    for (size_t i = 0; i < levels; i++) msgpack_write_raw(&payload, "\x81\xa1" "a", 3);
    msgpack_write_nil(&payload);
    shown_paths(&writer, payload.bytes, payload.length);
    const uint8_t *end = writer.bytes + writer.length;
    const uint8_t *p = msgpack_read(writer.bytes, end, &head);
    EXPECT(msgpack_valid(writer.bytes, writer.length, 2) && head.length == 1);
    EXPECT(msgpack_read(p, end, &path) != NULL && path.length == (levels < 64 ? levels : 64));
    msgpack_writer_free(&payload);
    msgpack_writer_free(&writer);
  }
  /* 65535 leaves, each 60 levels down a name of 40 bytes: 3 + 60 * 42 + 2 bytes of path. */
  struct msgpack_writer deep = {0};
  for (int i = 0; i < 60; i++) {
    msgpack_write_raw(&deep, "\x81\xd9\x28........................................", 43);
  }
  msgpack_write_map(&deep, 65535);
  for (int i = 0; i < 65535; i++) msgpack_write_raw(&deep, "\xa1" "a\x01", 3);
  struct msgpack_writer writer = {0};
  shown_paths(&writer, deep.bytes, deep.length);
  EXPECT(msgpack_valid(writer.bytes, writer.length, 2));
  EXPECT(msgpack_read(writer.bytes, writer.bytes + writer.length, &head) != NULL);
  EXPECT(head.length == (256 << 10) / 2525 + 1);
  EXPECT(writer.length > 256 << 10 && writer.length < (256 << 10) + 2525 + 5);
  msgpack_writer_free(&writer);
  msgpack_writer_free(&deep);
}

/* One value of one SELECT as text: hex of a blob, or what the error says. */
static bool selects(sqlite3 *db, const char *sql, const char *text) {
  sqlite3_stmt *statement;
  bool same = false;
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  if (sqlite3_step(statement) == SQLITE_ROW) {
    const char *value = (const char *)sqlite3_column_text(statement, 0);
    same = value != NULL && strcmp(value, text) == 0;
  } else {
    same = strcmp(sqlite3_errmsg(db), text) == 0;
  }
  sqlite3_finalize(statement);
  return same;
}

static void in_sql(void) {
  title("[ACL-31] in SQL: what is not granted is left out without a trace, in every row by its own identifier");
  sqlite3 *db = NULL;
  sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init);
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  /* [[["a"], "t"], [nil, "u"]] and {a: 1, b: 2} */
#define SPEC "x'929291a161a17492c0a175'"
#define RECORD "x'82a16101a16202'"
  EXPECT(selects(db, "SELECT group_concat(hex(shown(" RECORD ", n, " SPEC ")), ' ') FROM"
                     " (SELECT 'T' n UNION ALL SELECT 'u' UNION ALL SELECT 'v'"
                     " UNION ALL SELECT NULL UNION ALL SELECT 7)",
                 "81A16101 82A16101A16202 80 80 80"));
  /* A spec of every row. */
  EXPECT(selects(db, "SELECT group_concat(hex(shown(" RECORD ", 't', s)), ' ') FROM"
                     " (SELECT " SPEC " s UNION ALL SELECT x'90' UNION ALL SELECT x'9192c0a174')",
                 "81A16101 80 82A16101A16202"));
  EXPECT(selects(db, "SELECT hex(shown(NULL, 't', " SPEC "))", "80"));
  EXPECT(selects(db, "SELECT hex(shown(x'', 't', " SPEC "))", "80"));
  EXPECT(selects(db, "SELECT hex(shown('text', 't', " SPEC "))", "80"));
  EXPECT(selects(db, "SELECT hex(shown(x'82a16101a162', 't', " SPEC "))", "80"));
  static const char *const bad[] = {"NULL", "x''", "'text'", "1", "x'91'", "x'c0'"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT shown(" RECORD ", 't', %s)", bad[i]);
    EXPECT(selects(db, sql, "shown takes what the field names are granted to"));
  }
  EXPECT(selects(db, "SELECT hex(payload_paths(" RECORD "))", "DD0000000291A16191A162"));
  EXPECT(selects(db, "SELECT hex(payload_paths(NULL)) || hex(payload_paths(x'')) || hex(payload_paths('a')) ||"
                     " hex(payload_paths(1)) || hex(payload_paths(x'82a161'))",
                 "DD00000000" "DD00000000" "DD00000000" "DD00000000" "DD00000000"));
#undef SPEC
#undef RECORD
  sqlite3_close(db);
}

int main(void) {
  paths();
  bad_payloads();
  many_paths();
  in_sql();
  return expect_result();
}

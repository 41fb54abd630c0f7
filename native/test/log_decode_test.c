/* Log records out of datagrams: what counts, what is dropped, and steps within a datagram. */
#include <errno.h>

#include "../handle.h"
#include "../log_decode.h"
#include "../msgpack.h"
#include "expect.h"
#include "sqlite3.h"

int sqlite3_eventd_init(sqlite3 *db, char **error, const void *api);

enum { RECEIPT = 1000 };

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* Building blocks of records. */
#define ORIGIN "\xa6origin\xa3svc"
#define IS_ERROR "\xa8is_error\xc3"
#define MESSAGE "\xa7message\xa2hi"
#define RECORD "\x83" ORIGIN IS_ERROR MESSAGE
/* Not part of the escapes before them. */
#define KEY_A "\xa1" "a"

/* A batch of one datagram. */
static void load(struct datagrams *batch, const uint8_t *bytes, size_t length) {
  EXPECT(datagrams_init(batch, 1 << 20));
  EXPECT(datagrams_append(batch, RECEIPT, bytes, length));
}

/* How many records the datagram yields; the first one is left in `record`, its texts gone. */
static uint32_t records(const uint8_t *bytes, size_t length, struct log_record *record) {
  struct datagrams batch;
  struct log_step step;
  uint32_t count;
  load(&batch, bytes, length);
  EXPECT(log_decode(&batch, 1000000, &step) == 0 && !step.more);
  const struct log_record *found = log_decoded(&batch, &count);
  EXPECT(count == step.records);
  if (count > 0 && record != NULL) *record = found[0];
  datagrams_free(&batch);
  return step.records;
}

static uint32_t count(const uint8_t *bytes, size_t length) { return records(bytes, length, NULL); }

static void outer_form(void) {
  title("[LOG-13] a map is one record, an array of maps a batch");
  EXPECT(count(BYTES(RECORD)) == 1);
  EXPECT(count(BYTES("\x91" RECORD)) == 1 && count(BYTES("\x93" RECORD RECORD RECORD)) == 3);
  EXPECT(count(BYTES("\xdc\x00\x02" RECORD RECORD)) == 2 && count(BYTES("\xdd\x00\x00\x00\x01" RECORD)) == 1);
  EXPECT(count(BYTES("\xde\x00\x03" ORIGIN IS_ERROR MESSAGE)) == 1);
  EXPECT(count(BYTES("\xdf\x00\x00\x00\x03" ORIGIN IS_ERROR MESSAGE)) == 1);
  title("[LOG-18] what is not one whole value to its last byte is dropped with all its records");
  EXPECT(count(BYTES("")) == 0);
  EXPECT(count(BYTES(RECORD "\xc0")) == 0 && count(BYTES(RECORD RECORD)) == 0);
  EXPECT(count(BYTES("\x93" RECORD RECORD)) == 0);
  EXPECT(count(BYTES("\x92" RECORD "\xc1")) == 0 && count(BYTES("\xc1")) == 0);
  static const uint8_t whole[] = "\x92" RECORD RECORD;
  for (size_t cut = 0; cut < sizeof whole - 1; cut++) EXPECT(count(whole, cut) == 0);
  title("[LOG-18] declared lengths are never believed");
  EXPECT(count(BYTES("\xdd\x01\xff\xff\xff")) == 0 && count(BYTES("\xdf\xff\xff\xff\xff" ORIGIN)) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xdb\xff\xff\xff\xff")) == 0);
  title("[LOG-19] other values are dropped");
  EXPECT(count(BYTES("\xc0")) == 0 && count(BYTES("\x05")) == 0 && count(BYTES("\xa3" "abc")) == 0);
  EXPECT(count(BYTES("\xcb\0\0\0\0\0\0\0\0")) == 0 && count(BYTES("\xc4\x01x")) == 0);
  EXPECT(count(BYTES("\x80")) == 0);
  title("[LOG-21] [LOG-22] bad elements of an array cost only themselves");
  EXPECT(count(BYTES("\x92" RECORD "\x03")) == 1 && count(BYTES("\x92\x03" RECORD)) == 1);
  EXPECT(count(BYTES("\x94\xc0\x91" RECORD "\x80" RECORD)) == 1);
  EXPECT(count(BYTES("\x93" RECORD "\x82" ORIGIN MESSAGE RECORD)) == 2);
  EXPECT(count(BYTES("\x90")) == 0 && count(BYTES("\x91\x90")) == 0);
}

static void required_fields(void) {
  title("[LOG-20] a missing required field or one of wrong type costs the record");
  EXPECT(count(BYTES("\x82" ORIGIN IS_ERROR)) == 0);
  EXPECT(count(BYTES("\x82" ORIGIN MESSAGE)) == 0);
  EXPECT(count(BYTES("\x82" IS_ERROR MESSAGE)) == 0);
  EXPECT(count(BYTES("\x83\xa6origin\x01" IS_ERROR MESSAGE)) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xc0")) == 0);
  title("[LOG-17] is_error is a bool, never a number");
  EXPECT(count(BYTES("\x83" ORIGIN "\xa8is_error\x00" MESSAGE)) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN "\xa8is_error\x01" MESSAGE)) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN "\xa8is_error\xc0" MESSAGE)) == 0);
  struct log_record record;
  EXPECT(records(BYTES("\x83" ORIGIN "\xa8is_error\xc2" MESSAGE), &record) == 1 && !record.is_error);
  EXPECT(records(BYTES(RECORD), &record) == 1 && record.is_error);
  title("[LOG-17] text is str, never bin, and valid UTF-8");
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xc4\x02hi")) == 0);
  EXPECT(count(BYTES("\x83\xa6origin\xc4\x03svc" IS_ERROR MESSAGE)) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xa2h\xff")) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xa3\xed\xa0\x80")) == 0);
  EXPECT(count(BYTES("\x83\xa6origin\xa1\xc3" IS_ERROR MESSAGE)) == 0);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xa4\xf0\x9f\x90\x9d")) == 1);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xd9\x02hi")) == 1);
  EXPECT(count(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xdb\x00\x00\x00\x02hi")) == 1);
  title("[LOG-17] empty strings and newlines are legal");
  EXPECT(count(BYTES("\x83\xa6origin\xa0" IS_ERROR "\xa7message\xa0")) == 1);
  EXPECT(records(BYTES("\x83" ORIGIN IS_ERROR "\xa7message\xa3\n\0\n"), &record) == 1 && record.message_length == 3);
}

static int64_t stamped(const uint8_t *bytes, size_t length) {
  struct log_record record = {.timestamp = -1};
  return records(bytes, length, &record) == 1 ? record.timestamp : -1;
}

#define STAMPED(value) BYTES("\x84" ORIGIN IS_ERROR MESSAGE "\xa9timestamp" value)

static void timestamps(void) {
  title("[LOG-14] [LOG-30] without a timestamp the receipt time counts");
  EXPECT(stamped(BYTES(RECORD)) == RECEIPT);
  title("[LOG-17] any integer encoding from 0 to 2^63-1 is a timestamp");
  EXPECT(stamped(STAMPED("\x00")) == 0 && stamped(STAMPED("\x7f")) == 127);
  EXPECT(stamped(STAMPED("\xcc\xff")) == 255 && stamped(STAMPED("\xcd\xff\xff")) == 65535);
  EXPECT(stamped(STAMPED("\xce\xff\xff\xff\xff")) == 4294967295);
  EXPECT(stamped(STAMPED("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff")) == INT64_MAX);
  EXPECT(stamped(STAMPED("\xd0\x05")) == 5 && stamped(STAMPED("\xd1\x00\x05")) == 5);
  EXPECT(stamped(STAMPED("\xd2\x00\x00\x00\x05")) == 5 && stamped(STAMPED("\xd3\0\0\0\0\0\0\0\x05")) == 5);
  title("[LOG-17] a present timestamp of another type costs the record");
  EXPECT(stamped(STAMPED("\xcf\x80\0\0\0\0\0\0\0")) == -1 && stamped(STAMPED("\xff")) == -1);
  EXPECT(stamped(STAMPED("\xd3\xff\xff\xff\xff\xff\xff\xff\xff")) == -1 && stamped(STAMPED("\xc0")) == -1);
  EXPECT(stamped(STAMPED("\xcb\x3f\xf0\0\0\0\0\0\0")) == -1 && stamped(STAMPED("\xa1" "5")) == -1);
  EXPECT(stamped(STAMPED("\x81" KEY_A "\x01")) == -1 && stamped(STAMPED("\xc3")) == -1);
}

static void keys(void) {
  struct log_record record;
  title("[LOG-17] unknown keys of any type and depth are ignored");
  EXPECT(count(BYTES("\x84" KEY_A "\xc0" ORIGIN IS_ERROR MESSAGE)) == 1);
  EXPECT(count(BYTES("\x84" ORIGIN "\xc0\x01" IS_ERROR MESSAGE)) == 1);
  EXPECT(count(BYTES("\x84" ORIGIN IS_ERROR "\x81" KEY_A "\x91\xc0\x92\x01\x02" MESSAGE)) == 1);
  EXPECT(count(BYTES("\x84" ORIGIN IS_ERROR "\xa9__proto__\x81" KEY_A "\x93\x01\x02\x03" MESSAGE)) == 1);
  EXPECT(count(BYTES("\x84\xa2\xff\xff\xa1\xff" ORIGIN IS_ERROR MESSAGE)) == 1);
  EXPECT(count(BYTES("\x84\xc4\x07message\x01" ORIGIN IS_ERROR MESSAGE)) == 1);
  EXPECT(count(BYTES("\x83\xc4\x06origin\xa3svc" IS_ERROR MESSAGE)) == 0);
  title("[LOG-17] of duplicate keys the first counts");
  EXPECT(records(BYTES("\x84" ORIGIN IS_ERROR MESSAGE "\xa8is_error\xc2"), &record) == 1 && record.is_error);
  EXPECT(count(BYTES("\x84" ORIGIN IS_ERROR MESSAGE "\xa7message\x05")) == 1);
  EXPECT(count(BYTES("\x84" ORIGIN IS_ERROR "\xa7message\x05" MESSAGE)) == 0);
  EXPECT(count(BYTES("\x84" ORIGIN IS_ERROR MESSAGE "\xa7message\x81" KEY_A "\x01")) == 1);
}

/* As deep and as many as one datagram can hold. */
static void hostile(void) {
  title("[LOG-18] [LOG-22] the deepest and the widest datagram are read in one pass");
  uint8_t *bytes = malloc(DATAGRAM_MAX_BYTES);
  memset(bytes, 0x91, DATAGRAM_MAX_BYTES);
  bytes[DATAGRAM_MAX_BYTES - 1] = 0xc0;
  EXPECT(count(bytes, DATAGRAM_MAX_BYTES) == 0);
  static const char record[] = RECORD;
  size_t depth = DATAGRAM_MAX_BYTES - sizeof record;
  bytes[0] = 0x92;
  memset(bytes + 1, 0x91, depth - 1);
  bytes[depth] = 0xc0;
  memcpy(bytes + depth + 1, record, sizeof record - 1);
  EXPECT(count(bytes, DATAGRAM_MAX_BYTES) == 1);
  memset(bytes, 0x80, DATAGRAM_MAX_BYTES);
  memcpy(bytes, "\xdd\x00\x03\x3f\xfb", 5);
  EXPECT(count(bytes, DATAGRAM_MAX_BYTES) == 0);
  free(bytes);
}

/* A batch of records whose messages are "00".."99", three datagrams: a map, 50 of an array, 3. */
static void load_numbered(struct datagrams *batch) {
  EXPECT(datagrams_init(batch, 1 << 20));
  struct msgpack_writer writer = {0};
  uint32_t number = 0;
  for (int datagram = 0; datagram < 3; datagram++) {
    uint32_t size = datagram == 0 ? 1 : datagram == 1 ? 50 : 3;
    const uint8_t head[] = {0xdc, 0, (uint8_t)size};
    writer.length = 0;
    if (datagram > 0) msgpack_write_raw(&writer, head, sizeof head);
    for (uint32_t i = 0; i < size; i++, number++) {
      char text[8];
      snprintf(text, sizeof text, "%02u", number);
      msgpack_write_raw(&writer, "\x83" ORIGIN IS_ERROR "\xa7message", sizeof("\x83" ORIGIN IS_ERROR "\xa7message") - 1);
      msgpack_write_str(&writer, text, 2);
    }
    EXPECT(datagrams_append(batch, RECEIPT + (uint64_t)datagram, writer.bytes, writer.length));
  }
  msgpack_writer_free(&writer);
}

static void steps(void) {
  struct datagrams batch;
  struct log_step step;
  title("[LOG-28] [LOG-30] a datagram spans steps; order and receipt time stay");
  load_numbered(&batch);
  uint32_t next = 0, found;
  do {
    EXPECT(log_decode(&batch, 7, &step) == 0);
    const struct log_record *records = log_decoded(&batch, &found);
    EXPECT(found == step.records && found <= 7 && (found == 7 || !step.more));
    for (uint32_t i = 0; i < found; i++, next++) {
      char text[8];
      snprintf(text, sizeof text, "%02u", next);
      EXPECT(records[i].message_length == 2 && memcmp(records[i].message, text, 2) == 0);
      EXPECT(records[i].timestamp == RECEIPT + (next == 0 ? 0 : next < 51 ? 1 : 2));
    }
  } while (step.more);
  EXPECT(next == 54);
  EXPECT(log_decode(&batch, 7, &step) == 0 && step.records == 0 && !step.more);
  datagrams_free(&batch);
  title("[LOG-28] a step that ends with the last record says so");
  load_numbered(&batch);
  EXPECT(log_decode(&batch, 54, &step) == 0 && step.records == 54 && !step.more);
  datagrams_free(&batch);
}

static void given_back(struct datagrams *batch) { (*(int *)batch->owner)++; }

static void life(void) {
  struct datagrams batch;
  struct log_step step;
  int back = 0;
  uint32_t found;
  title("[LOG-32] a batch is emptied and given back when its last user lets go, and can fill again");
  load_numbered(&batch);
  batch.owner = &back;
  int64_t handle = datagrams_publish(&batch, given_back);
  EXPECT(handle_acquire(HANDLE_DATAGRAMS, handle) == &batch);
  EXPECT(log_decoded(&batch, &found) == NULL && found == 0);
  EXPECT(log_decode(&batch, 10, &step) == 0 && step.more);
  EXPECT(handle_close(HANDLE_DATAGRAMS, handle) && back == 0);
  handle_release(handle);
  EXPECT(back == 1 && batch.length == 0 && batch.count == 0);
  log_decoded(&batch, &found);
  EXPECT(found == 0);
  EXPECT(datagrams_append(&batch, 5, BYTES(RECORD)));
  handle = datagrams_publish(&batch, given_back);
  EXPECT(log_decode(&batch, 10, &step) == 0 && step.records == 1 && !step.more);
  handle_close(HANDLE_DATAGRAMS, handle);
  title("[LOG-28] decoding waits for no reader: a collision is an error");
  EXPECT(datagrams_lock_read(&batch) && datagrams_lock_read(&batch));
  EXPECT(log_decode(&batch, 1, &step) == EBUSY);
  datagrams_unlock_read(&batch);
  EXPECT(log_decode(&batch, 1, &step) == EBUSY);
  datagrams_unlock_read(&batch);
  EXPECT(log_decode(&batch, 1, &step) == 0 && datagrams_lock_decode(&batch) && !datagrams_lock_read(&batch));
  datagrams_unlock_decode(&batch);
  title("[LOG-9] what does not fit is refused whole");
  static uint8_t large[DATAGRAM_MAX_BYTES + 1];
  batch.length = batch.capacity - datagrams_entry_bytes(104);
  EXPECT(!datagrams_append(&batch, 1, large, 105) && datagrams_append(&batch, 1, large, 104));
  batch.length = 0;
  EXPECT(!datagrams_append(&batch, 1, large, sizeof large) && datagrams_append(&batch, 1, large, sizeof large - 1));
  datagrams_free(&batch);
}

/* ---- SQL ---- */

static int64_t integer(sqlite3 *db, const char *sql, int64_t handle) {
  sqlite3_stmt *statement = NULL;
  EXPECT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
  sqlite3_bind_int64(statement, 1, handle);
  int64_t value = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
  sqlite3_finalize(statement);
  return value;
}

static void table(void) {
  sqlite3 *db = NULL;
  struct datagrams batch;
  struct log_step step;
  EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
  title("[LOG-33] log_batch yields the last step's records in order, each with all columns");
  load_numbered(&batch);
  int64_t handle = datagrams_publish(&batch, NULL);
  EXPECT(integer(db, "SELECT count(*) FROM log_batch(?)", handle) == 0);
  EXPECT(log_decode(&batch, 20, &step) == 0);
  EXPECT(integer(db, "SELECT count(*) FROM log_batch(?)", handle) == 20);
  EXPECT(integer(db, "SELECT sum(message = format('%02d', rowid - 1)) FROM log_batch(?)", handle) == 20);
  EXPECT(log_decode(&batch, 20, &step) == 0);
  EXPECT(integer(db, "SELECT min(message) FROM log_batch(?)", handle) == 20);
  EXPECT(integer(db,
                 "SELECT count(*) FROM log_batch(?) WHERE origin = 'svc' AND is_error = 1 AND timestamp = 1001"
                 " AND typeof(message) = 'text' AND typeof(origin) = 'text'", handle) == 20);
  title("[LOG-33] a batch that is being read cannot be decoded, and lives until it is read");
  sqlite3_stmt *statement = NULL;
  EXPECT(sqlite3_prepare_v2(db, "SELECT message FROM log_batch(?)", -1, &statement, NULL) == SQLITE_OK);
  sqlite3_bind_int64(statement, 1, handle);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  EXPECT(log_decode(&batch, 20, &step) == EBUSY);
  EXPECT(handle_close(HANDLE_DATAGRAMS, handle) && batch.length > 0);
  EXPECT(sqlite3_step(statement) == SQLITE_ROW);
  sqlite3_finalize(statement);
  EXPECT(batch.length == 0);
  title("[LOG-33] a stale batch, another handle and a missing argument are errors");
  EXPECT(integer(db, "SELECT count(*) FROM log_batch(?)", handle) == -1);
  EXPECT(integer(db, "SELECT count(*) FROM log_batch(?)", 0) == -1);
  EXPECT(sqlite3_prepare_v2(db, "SELECT * FROM log_batch", -1, &statement, NULL) == SQLITE_ERROR);
  EXPECT(strstr(sqlite3_errmsg(db), "argument is missing") != NULL);
  datagrams_free(&batch);
  sqlite3_close(db);
}

int main(void) {
  sqlite3_auto_extension((void (*)(void))sqlite3_eventd_init);
  outer_form();
  required_fields();
  timestamps();
  keys();
  hostile();
  steps();
  life();
  table();
  return expect_result();
}

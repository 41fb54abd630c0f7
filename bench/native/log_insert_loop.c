/*
 * The peer to beat on the log path: one prepared INSERT per line, bound and stepped in a plain C loop,
 * with the same file, pragmas, batch size and checkpoint rule as eventd's writer, on the very SQLite
 * that better-sqlite3 is linked with. It gets its lines for nothing: nothing is received or decoded.
 *
 *   log_insert_loop DATABASE RECORDS ORIGINS MESSAGE_BYTES BATCH START_NS [PRAGMA ...]
 *
 * DATABASE has its schema already. Line i comes from origin "load-<i % ORIGINS>" at START_NS + i * 5 us;
 * every eighth is an error; its text begins with i in 12 digits. Checkpoints come from the pragma
 * wal_autocheckpoint. Prints one JSON line: seconds, cpuSeconds.
 */
#include "sqlite_loop.h"

static const char insert_sql[] =
    "INSERT INTO logs(boot_id, timestamp, origin, is_error, message) VALUES (?1, ?2, ?3, ?4, ?5)";

enum { DIGITS = 12, MAX_MESSAGE = 65536 };

static void write_number(char *digits, unsigned long long number) {
  for (int i = DIGITS - 1; i >= 0; i--, number /= 10) digits[i] = (char)('0' + number % 10);
}

int main(int argc, char **argv) {
  if (argc < 7) {
    fprintf(stderr, "usage: log_insert_loop DATABASE RECORDS ORIGINS MESSAGE_BYTES BATCH START_NS [PRAGMA ...]\n");
    return 2;
  }
  unsigned long long records = strtoull(argv[2], NULL, 10), origins = strtoull(argv[3], NULL, 10);
  unsigned long long length = strtoull(argv[4], NULL, 10), batch = strtoull(argv[5], NULL, 10);
  unsigned long long start = strtoull(argv[6], NULL, 10);
  if (origins == 0 || batch == 0) fail("arguments", "ORIGINS and BATCH must be above 0");
  if (length < DIGITS || length > MAX_MESSAGE) fail("arguments", "MESSAGE_BYTES is out of range");

  struct loop loop = loop_open(argv[1], argv + 7, insert_sql);
  static const char boot[16] = {0x5a};
  static char message[MAX_MESSAGE];
  for (size_t i = DIGITS; i < length; i++) message[i] = (char)(i == DIGITS ? ' ' : 'a' + (i - DIGITS) % 26);
  check(loop.db, sqlite3_bind_blob(loop.insert, 1, boot, sizeof boot, SQLITE_STATIC), "bind");

  loop_start(&loop);
  for (unsigned long long done = 0; done < records;) {
    step(&loop, loop.begin, "BEGIN");
    for (unsigned long long i = 0; i < batch && done < records; i++, done++) {
      char origin[32];
      int origin_length = snprintf(origin, sizeof origin, "load-%llu", done % origins);
      write_number(message, done);
      sqlite3_bind_int64(loop.insert, 2, (sqlite3_int64)(start + done * 5000u));
      sqlite3_bind_text(loop.insert, 3, origin, origin_length, SQLITE_STATIC);
      sqlite3_bind_int(loop.insert, 4, done % 8 == 0);
      sqlite3_bind_text(loop.insert, 5, message, (int)length, SQLITE_STATIC);
      step(&loop, loop.insert, "INSERT");
    }
    step(&loop, loop.commit, "COMMIT");
  }
  loop_finish(&loop);
  return 0;
}

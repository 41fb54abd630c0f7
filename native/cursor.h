/*
 * A merged read over several databases (QX-23, QX-26): one SELECT per database, already sorted,
 * merged row by row into wire frames of result records.
 *
 * A cursor belongs to the thread of its connections. Close it before them: SQLite refuses to close
 * a connection that still has statements, which leaves it open for the life of the process.
 */
#ifndef EVENTD_CURSOR_H
#define EVENTD_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"
#include "shown.h"
#include "sqlite3.h"

/* Columns of a part's SELECT behind its sort keys: the header columns, then the payload. */
#define CURSOR_ROW_COLUMNS (RECORD_COLUMNS + 1)

struct cursor;

struct cursor_options {
  size_t parts;
  size_t keys;
  /* Behind the keys a row has one column, the record itself as msgpack; `fields` is not looked at. */
  bool encoded;
  /* One per key; malloc'ed, becomes the cursor's. */
  bool *descending;
  uint64_t skip;
  /* UINT64_MAX = no limit. */
  uint64_t take;
  /* One malloc'ed block, becomes the cursor's; NULL = all (record_write). */
  struct record_field *fields;
  size_t field_count;
  /* What the types of events show; becomes the cursor's. NULL = everything, or `encoded`. */
  struct shown *shown;
};

/* One fetched piece; `frame` stays the cursor's and is valid until its next call. */
struct cursor_chunk {
  uint32_t records;
  bool done;
  const uint8_t *frame;
  size_t length;
};

/* NULL when memory is short; the options' blocks are freed in that case too. */
struct cursor *cursor_new(const struct cursor_options *options);
/* On the cursor's own thread: finalises its statements; every later fetch fails. Safe twice. */
void cursor_end(struct cursor *cursor);
/* Ends it, if that is still due, and frees it; any thread once it has ended. */
void cursor_free(struct cursor *cursor);

/* Whether the calling thread is the one that made the cursor. */
bool cursor_is_own(const struct cursor *cursor);

/*
 * Prepares the next part. On SQLITE_OK the caller binds parameters to `*statement`. Fails with
 * SQLITE_MISUSE for SQL that is no single SELECT with the columns a cursor expects.
 */
int cursor_add(struct cursor *cursor, sqlite3 *db, const char *sql, size_t length, sqlite3_stmt **statement);

/*
 * Works at the frame that cursor_fetch gives out next, for about `ns`; UINT64_MAX = until it is ready. True when
 * it is, or the cursor has failed. A frame is of the size that was asked for when it was begun. Until it is ready
 * nothing else may use the connections.
 */
bool cursor_advance(struct cursor *cursor, uint32_t max_records, size_t max_bytes, uint64_t ns);

/*
 * Builds a frame of at most `max_records` records that ends with the record passing `max_bytes`.
 * Returns SQLITE_OK or the error that ended the cursor, which then stays its answer.
 */
int cursor_fetch(struct cursor *cursor, uint32_t max_records, size_t max_bytes, struct cursor_chunk *chunk);

/* What the last failing call had to say. */
const char *cursor_message(const struct cursor *cursor);

#endif

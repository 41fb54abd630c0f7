/*
 * Copies the rows of a SELECT, or the groups they make, into a table of another connection (QX-24): no
 * row becomes an object of JavaScript. Both connections belong to the calling thread.
 */
#ifndef EVENTD_ROW_COPY_H
#define EVENTD_ROW_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "row_groups.h"
#include "sqlite3.h"

struct row_copy;

struct row_copy_slice {
  /* Read and inserted. */
  uint64_t rows;
  /* Size of the row that waits for more room, 0 = none does. */
  uint64_t waiting;
  bool done;
};

/*
 * Takes over both statements and the groups, also when it fails; `groups` NULL copies row by row. NULL when
 * memory is short; `*error` tells what does not fit otherwise (a static text).
 */
struct row_copy *row_copy_new(sqlite3_stmt *select, sqlite3_stmt *insert, struct row_groups *groups,
                              const char **error);
/* On the thread of the connections: finalises both statements; every later step fails. Safe twice. */
void row_copy_end(struct row_copy *copy);
/* Ends it, if that is still due, and frees it. */
void row_copy_free(struct row_copy *copy);
bool row_copy_is_own(const struct row_copy *copy);

enum row_copy_read {
  /* All the rows that were asked for are in their groups. */
  ROW_COPY_READS,
  /* The time is over, and the search for the next row goes on the next time. */
  ROW_COPY_SEARCHES,
  /* It is up to row_copy_step now, be it to insert, to go on with a step, to end or to fail. */
  ROW_COPY_WAITS,
};

/*
 * Reads on without inserting, for about `ns`, on any thread while nobody else uses the copy or the connection it
 * reads from: at most `max_rows` rows into groups, or up to one that is copied as it is.
 */
enum row_copy_read row_copy_read(struct row_copy *copy, uint64_t max_rows, uint64_t ns);

/*
 * Copies until `max_rows` are read or inserted, or the next to insert would take all of the slice past
 * `max_bytes` (values, plus 16 per value), for about `ns` (UINT64_MAX = however long it takes). When that time is
 * over `slice` is empty, and the next call goes on, with the limits the step was begun with. Returns SQLITE_OK or
 * the error that ended the copy, which then stays its answer.
 */
int row_copy_step(struct row_copy *copy, uint64_t max_rows, uint64_t max_bytes, uint64_t ns,
                  struct row_copy_slice *slice);

/* What the last failing step had to say. */
const char *row_copy_message(const struct row_copy *copy);

#endif

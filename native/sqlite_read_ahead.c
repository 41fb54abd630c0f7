/*
 * eventd_read_ahead(): from then on, the database file of this connection is read ahead where it is
 * read backwards and the disk makes that slow (QX-26).
 *
 * A store grows at its end, and queries want the newest first, so they read files from the end to the
 * beginning, a page at a time. The kernel reads ahead only for those who read forwards: each page
 * that is not in memory would be a disk access to wait for. So after a read that had to wait, a
 * growing piece of the file before it is read as well. That fills the page cache of the kernel; what
 * SQLite gets it still reads itself, page by page, so nothing can be stale.
 *
 * The file's methods are replaced by a copy with another xRead. A VFS around the usual one would do
 * the same, but must be known when the connection is opened, and better-sqlite3 opens with the
 * default one.
 *
 * Before each read of a page, a call that reads in slices of time may end its slice.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sliced_call.h"
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "sqlite_parts.h"

/* What is in memory takes a microsecond or two, what is on the fastest disks some tens. */
#define SLOW_NS 20000

/* Reads follow each other when they are at most so far apart: pages of a table and of its index are mixed. */
#define REACH (512 << 10)

/* So many reads must have followed each other: who wants a few records does not wait for more. */
#define STEADY 8

/* Places that are read in turns, like a table and an index in other parts of the file. */
#define TRAILS 4

#define SMALLEST_WINDOW (128 << 10)
#define LARGEST_WINDOW (1 << 20)
#define PIECE (128 << 10)

struct trail {
  /* Where the last page was read. */
  sqlite3_int64 last;
  /* Reads that went backwards, less those that did not; at most twice what makes them steady. */
  int steps;
  /* From here on everything was read ahead. */
  sqlite3_int64 low;
  int window;
  /* When it was used last, in reads of the file; 0: never. */
  uint64_t used;
};

struct read_ahead {
  /* First, because this is what the methods of the file point to. */
  sqlite3_io_methods methods;
  const sqlite3_io_methods *original;
  struct trail trails[TRAILS];
  uint64_t reads;
  uint8_t *piece;
};

/* The trail that goes on at this place, or a new one instead of that which was left first. */
static struct trail *find_trail(struct read_ahead *ahead, sqlite3_int64 offset) {
  struct trail *found = &ahead->trails[0];
  for (struct trail *trail = ahead->trails; trail < ahead->trails + TRAILS; trail++) {
    if (trail->used > 0 && llabs(trail->last - offset) <= REACH) {
      trail->steps += offset < trail->last ? trail->steps < 2 * STEADY : -(trail->steps > 0);
      trail->last = offset;
      return trail;
    }
    if (trail->used < found->used) found = trail;
  }
  *found = (struct trail){.last = offset, .low = offset};
  return found;
}

/* What cannot be read is left to the reader who comes for it. */
static void fetch(struct read_ahead *ahead, sqlite3_file *file, sqlite3_int64 from, sqlite3_int64 to) {
  if (ahead->piece == NULL) ahead->piece = malloc(PIECE);
  if (ahead->piece == NULL) return;
  for (int length; from < to; from += length) {
    length = to - from < PIECE ? (int)(to - from) : PIECE;
    if (ahead->original->xRead(file, ahead->piece, length, from) != SQLITE_OK) return;
  }
}

static int read_page(sqlite3_file *file, void *page, int length, sqlite3_int64 offset) {
  struct read_ahead *ahead = (struct read_ahead *)file->pMethods;
  sliced_call_look();
  uint64_t began = clock_monotonic();
  int rc = ahead->original->xRead(file, page, length, offset);
  if (rc != SQLITE_OK) return rc;
  bool slow = clock_monotonic() - began > SLOW_NS;
  struct trail *trail = find_trail(ahead, offset);
  trail->used = ++ahead->reads;
  /* What was read ahead is in memory: a read of it was slow for other reasons. */
  if (!slow || trail->steps < STEADY || offset >= trail->low) return SQLITE_OK;
  bool goes_on = trail->window > 0 && trail->low - offset <= REACH;
  trail->window = !goes_on ? SMALLEST_WINDOW : trail->window < LARGEST_WINDOW ? trail->window * 2 : LARGEST_WINDOW;
  trail->low = offset > trail->window ? offset - trail->window : 0;
  fetch(ahead, file, trail->low, offset);
  return SQLITE_OK;
}

/* SQLite drops the function behind the file, whose methods are gone by then. */
static void release(void *pointer) {
  struct read_ahead *ahead = pointer;
  free(ahead->piece);
  free(ahead);
}

static void eventd_read_ahead(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  struct read_ahead *ahead = sqlite3_user_data(context);
  sqlite3_file *file = sqlite_main_file(sqlite3_context_db_handle(context));
  if (file != NULL && ahead->original == NULL) {
    ahead->original = file->pMethods;
    ahead->methods = *file->pMethods;
    ahead->methods.xRead = read_page;
    file->pMethods = &ahead->methods;
  }
  sqlite3_result_int(context, file != NULL);
}

int sqlite_read_ahead_register(sqlite3 *db) {
  /* Loaded into the connection once more: the state must outlive the file that refers to it. */
  sqlite3_file *file = sqlite_main_file(db);
  if (file != NULL && file->pMethods->xRead == read_page) return SQLITE_OK;
  struct read_ahead *ahead = calloc(1, sizeof *ahead);
  if (ahead == NULL) return SQLITE_NOMEM;
  return sqlite3_create_function_v2(db, "eventd_read_ahead", 0, SQLITE_UTF8 | SQLITE_DIRECTONLY, ahead,
                                    eventd_read_ahead, NULL, NULL, release);
}

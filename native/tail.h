/*
 * The rows of a committed batch, read once for all streams (STR-2, STR-7, STR-8): each row is tested by
 * every program and encoded for those that it matches.
 *
 * A tail and its programs belong to one thread.
 */
#ifndef EVENTD_TAIL_H
#define EVENTD_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sqlite3.h"

/* Messages of one scan, of all parts together: many different streams must not hold their bytes at once. */
#define TAIL_TOTAL_BYTES ((size_t)512 << 20)

/* What a database holds: events, or log records. */
enum tail_store { TAIL_EVENTS, TAIL_LOGS };

struct tail;
struct tail_program;

enum tail_problem { TAIL_OK, TAIL_MALFORMED, TAIL_NO_MEMORY };

/* NULL when memory is short. */
struct tail *tail_new(enum tail_store store);
/* With all its programs. */
void tail_free(struct tail *tail);

/*
 * Adds what a stream looks for: msgpack `[condition | nil, fields | nil, shown | nil]`, with the condition
 * of predicate.h and `fields` a list of `[name, column, path name...]`; nil is every field. The columns are
 * EVENT_COLUMNS, or the five of a log record in the order in which it shows them. `shown` are bytes for
 * shown_new; nil, or left out, is everything. NULL with `*problem` set.
 */
struct tail_program *tail_add(struct tail *tail, const uint8_t *spec, size_t length, enum tail_problem *problem);
void tail_remove(struct tail *tail, struct tail_program *program);

/* How many truth values the program wants for a batch (predicate_truths). */
size_t tail_truths(const struct tail_program *program);

/* One program of a scan: what it is told, and what came of it. */
struct tail_part {
  struct tail_program *program;
  const uint8_t *truths;
  /* Result messages, one behind the other; they stay the program's and are valid until its next scan. */
  const uint8_t *frames;
  size_t length;
  uint32_t records;
};

struct tail_range {
  /* Rows with `after` < id <= `up_to`, in the order of ids. */
  int64_t after;
  int64_t up_to;
  /* Stops behind this many rows, or when a part has this many bytes, or all parts together. */
  uint32_t max_rows;
  size_t max_bytes;
  size_t total_bytes;
  /* Filled in: the last id read, or `after`; the number of rows; whether there are none left. */
  int64_t last;
  uint32_t rows;
  bool done;
};

/* SQLITE_OK, or what ended the scan: its parts hold nothing then. */
int tail_scan(struct tail *tail, sqlite3 *db, struct tail_range *range, struct tail_part *parts, size_t count);

/* What the last failing scan had to say. */
const char *tail_message(const struct tail *tail);

#endif

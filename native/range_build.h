/*
 * Turns the rows of SELECTs into a set of time ranges (range_set.h), merging the databases of a store, in
 * memory that does not grow with the rows (QL-111..114).
 *
 *   spans     a row is a range: from and to, both INTEGER; sorted by `from`. The set is their union.
 *   samples   a row is a sample of one series: timestamp INTEGER and value REAL. Series form units, and the
 *             set holds the times at which some unit fulfils the test: the mean of the newest values of
 *             those of its series that have one.
 *
 * A builder belongs to the thread of its connections; free it before they close.
 */
#ifndef EVENTD_RANGE_BUILD_H
#define EVENTD_RANGE_BUILD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "number.h"
#include "range_set.h"
#include "sqlite3.h"

enum range_test_kind { TEST_EQUAL, TEST_UNEQUAL, TEST_ABOVE, TEST_AT_LEAST, TEST_BELOW, TEST_AT_MOST, TEST_IN, TEST_NOT_IN };

/* What a value is compared with, by exact mathematical value (QL-23); more than one number only for lists. */
struct range_test {
  enum range_test_kind kind;
  struct number *numbers;
  size_t count;
};

struct range_build;

/* A builder of spans from at most `sources` statements; the set may have `limit` bytes. NULL: no memory. */
struct range_build *range_spans_new(size_t sources, size_t limit);

/* Adds a statement, which becomes the builder's, also on failure. False: more than announced. */
bool range_spans_add(struct range_build *build, sqlite3_stmt *statement);

struct range_samples_options {
  /* How many databases and sources will be added at most. */
  size_t databases;
  size_t sources;
  /* Bytes of the finished set at most. */
  size_t limit;
  /* The set is cut to from..to; samples are read from `oldest` on, and those before `from` count from there. */
  int64_t oldest;
  int64_t from;
  int64_t to;
  /* The numbers are malloc'ed and become the builder's, also on failure. */
  struct range_test test;
  /* The unit of each series, ascending from 0 without holes; copied. */
  const uint32_t *units;
  size_t series;
};

struct range_build *range_samples_new(const struct range_samples_options *options);

/*
 * Adds a database: a statement with the parameters series id, lowest and highest timestamp, sorted by
 * timestamp, then age. It becomes the builder's, also on failure. False: more than announced.
 */
bool range_samples_database(struct range_build *build, sqlite3_stmt *statement);

/*
 * Adds a series of one database; of equal timestamps in one series that of the source added first counts.
 * `skip` is a set of ranges within which no sample of the source fulfils the test, or NULL: of each only
 * the first sample need be read. False: no memory, or more than announced.
 */
bool range_samples_add(struct range_build *build, size_t database, int64_t id, size_t series, const uint8_t *skip,
                       size_t skip_length);

void range_build_free(struct range_build *build);
bool range_build_is_own(const struct range_build *build);

/*
 * Uses up about `rows` rows. SQLITE_ROW: there is more to do; SQLITE_DONE: the set is complete;
 * SQLITE_TOOBIG: it outgrew its limit; or another error code. After an error every call gives it again.
 */
int range_build_step(struct range_build *build, size_t rows);

/* The set so far: whole after SQLITE_DONE. */
const struct range_writer *range_build_set(const struct range_build *build);

/* What the last failing call had to say. */
const char *range_build_message(const struct range_build *build);

#endif

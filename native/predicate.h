/*
 * WHERE conditions evaluated outside SQL, for streams (STR-7): the truth of a condition for a row must
 * be what the SQL translation (src/query/sqlPredicate.ts) says of it.
 *
 * A set holds the programs of many streams over rows of one shape. What their conditions have in
 * common, fields and whole predicates alike, is kept once and worked out at most once per row.
 * A set with everything in it belongs to one thread.
 *
 * A program is msgpack (src/query/predicateProgram.ts):
 *
 *   node   [0, node...]           all of them
 *          [1, node...]           any of them
 *          [2, index]             what the caller says for this batch: a term about another store
 *          [op, field, operand*]  op 3..8: == != > >= < <=    9..12: STARTS_WITH ENDS_WITH CONTAINS,
 *                                 glob    13, 14: IN, NOT_IN    15, 16: IS NULL, IS NOT NULL
 *   field  [column, kind, name*]  column -1: only the payload path; kind 1: the payload path where the
 *                                 column is NULL; kind 2: the same, its strings are compared as GUIDs
 *   operand                       an integer, a float, a string, or bin of 16 bytes: a GUID
 */
#ifndef EVENTD_PREDICATE_H
#define EVENTD_PREDICATE_H

#include "msgpack.h"
#include "record.h"

/* Columns a row can have, the payload not counted. */
#define PREDICATE_MAX_COLUMNS 32

/* Terms about other stores that one program can have. */
#define PREDICATE_MAX_TRUTHS 4096

struct predicate_set;
struct predicate_program;

/* Where a row's values come from; asked when a predicate first looks at them. */
struct predicate_source {
  /* The value of a column; column number `columns` is the payload, RECORD_BLOB or anything else for none. */
  void (*load)(void *context, int column, struct record_value *value);
  void *context;
  /* Columns before the payload. */
  int columns;
};

/* NULL when memory is short. The source is copied. */
struct predicate_set *predicate_set_new(const struct predicate_source *source);
/* With no program left in it. */
void predicate_set_free(struct predicate_set *set);

enum predicate_problem { PREDICATE_OK, PREDICATE_MALFORMED, PREDICATE_NO_MEMORY };

/* Compiles the node at the start of `condition`, which must end with it. NULL with `*problem` set. */
struct predicate_program *predicate_compile(struct predicate_set *set, struct msgpack_slice condition,
                                            enum predicate_problem *problem);
void predicate_program_free(struct predicate_set *set, struct predicate_program *program);

/* How many truth values the program wants for a batch: its highest index and one. */
size_t predicate_truths(const struct predicate_program *program);

/* The source stands on another row now. */
void predicate_next_row(struct predicate_set *set);

/*
 * Whether the row fulfils the condition. `truths` has predicate_truths() bytes, 0 or 1. Running out of
 * memory shows in predicate_failed.
 */
bool predicate_matches(struct predicate_set *set, const struct predicate_program *program, const uint8_t *truths);

/* Whether memory was short since the set was made or last asked. */
bool predicate_failed(struct predicate_set *set);

/* The row's payload, checked once per row; false when it is none or no well-formed value (QL-44). */
bool predicate_payload(struct predicate_set *set, struct msgpack_slice *payload);

/* Distinct fields and predicates kept at the moment. */
size_t predicate_set_size(const struct predicate_set *set);

#endif

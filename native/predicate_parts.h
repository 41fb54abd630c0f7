/* What compiling and evaluating programs share; see predicate.h. */
#ifndef EVENTD_PREDICATE_PARTS_H
#define EVENTD_PREDICATE_PARTS_H

#include "ascii_match.h"
#include "number.h"
#include "predicate.h"
#include "siphash.h"

/* Chains of the tables of interned things. */
#define PREDICATE_BUCKETS 1024

/* How a field, or a literal, comes out. */
enum value_kind { VALUE_NULL, VALUE_NUMBER, VALUE_TEXT, VALUE_BLOB, VALUE_CONTAINER };

struct value {
  enum value_kind kind;
  struct number number;
  const uint8_t *bytes;
  size_t length;
};

/* Something that several programs can mean, known by its encoding. */
struct interned {
  struct interned *next;
  uint64_t hash;
  uint32_t references;
  /* The row of which the rest is true. */
  uint64_t row;
  size_t length;
  uint8_t *key;
};

struct field {
  struct interned interned;
  /* -1: the payload alone. */
  int column;
  /* Where the column is NULL, the payload path. */
  bool fallback;
  /* Strings of the payload are compared as GUIDs (QL-46). */
  bool guid;
  struct msgpack_path path;
  /* The value in the current row, and whether it is the payload's. */
  struct value value;
  bool from_payload;
};

enum operation {
  OP_EQUAL = 3,
  OP_DIFFERENT,
  OP_ABOVE,
  OP_ABOVE_EQUAL,
  OP_BELOW,
  OP_BELOW_EQUAL,
  OP_STARTS,
  OP_ENDS,
  OP_CONTAINS,
  OP_GLOB,
  OP_IN,
  OP_NOT_IN,
  OP_NULL,
  OP_NOT_NULL,
};

/* Literals of one kind, sorted. Texts are in lower case; texts and GUIDs point into the predicate's key copy. */
struct literals {
  struct value *values;
  size_t count;
};

struct predicate {
  struct interned interned;
  enum operation operation;
  struct field *field;
  /* For the string operators. */
  struct ascii_pattern *pattern;
  /* For all others: what the field is compared with. */
  struct literals numbers;
  struct literals texts;
  struct literals guids;
  /* The numbers once more, when there are several and none is negative or a fraction. */
  uint64_t *whole;
  /* One block with all values, and one with the texts in lower case. */
  struct value *block;
  uint8_t *lower;
  /* Its truth for the current row. */
  bool truth;
};

enum node_kind { NODE_ALL, NODE_ANY, NODE_TRUTH, NODE_PREDICATE };

struct node {
  enum node_kind kind;
  /* Nodes of the subtree, this one included: the next sibling is so far away. */
  size_t size;
  size_t truth;
  struct predicate *predicate;
};

struct predicate_program {
  size_t count;
  size_t room;
  size_t truths;
  struct node *nodes;
};

struct predicate_set {
  struct predicate_source source;
  struct siphash_key hash_key;
  struct interned *fields[PREDICATE_BUCKETS];
  struct interned *predicates[PREDICATE_BUCKETS];
  size_t size;
  bool failed;
  /* Counts rows from 1. */
  uint64_t row;
  /* Whether the payload of the current row was looked at, and what came of it. */
  uint64_t payload_row;
  bool payload_usable;
  struct msgpack_slice payload;
  /* Room for a text in lower case. */
  uint8_t *lower;
  size_t lower_room;
};

/* The order of sorted literals, and what they are looked up by. */
int predicate_order_numbers(const void *a, const void *b);
int predicate_order_bytes(const void *a, const void *b);

static inline uint8_t predicate_fold(uint8_t c) {
  return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* ASCII letters in lower case (QL-21). */
void predicate_lower(uint8_t *out, const uint8_t *in, size_t length);

#endif

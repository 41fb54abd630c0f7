/*
 * Any bytes as a program, and any bytes as the payload it looks at: nothing is read beyond them, nothing
 * is left behind, and a program says the same of the same row twice.
 */
#include <stdlib.h>

#include "../predicate.h"

static void must(bool condition) {
  if (!condition) abort();
}

struct row {
  const uint8_t *data;
  size_t size;
};

static void load(void *context, int column, struct record_value *value) {
  const struct row *row = context;
  switch (column) {
    case 0: *value = (struct record_value){.kind = RECORD_INTEGER, .integer = (int64_t)row->size}; break;
    case 1: *value = (struct record_value){.kind = RECORD_NULL}; break;
    case 2:
    case 3:
      *value = (struct record_value){.kind = column == 2 ? RECORD_TEXT : RECORD_BLOB,
                                     .bytes = row->data,
                                     .length = (uint32_t)row->size};
      break;
    default: break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct row row = {data, size};
  struct predicate_source source = {.load = load, .context = &row, .columns = 3};
  struct predicate_set *set = predicate_set_new(&source);
  must(set != NULL);
  const uint8_t *end = msgpack_skip(data, data + size);
  enum predicate_problem problem;
  struct msgpack_slice condition = {data, end == NULL ? data + size : end};
  struct predicate_program *program = predicate_compile(set, condition, &problem);
  if (program != NULL) {
    static const uint8_t truths[PREDICATE_MAX_TRUTHS] = {1, 0, 1};
    struct predicate_program *again = predicate_compile(set, condition, &problem);
    must(again != NULL);
    /* What follows the program is the row's payload. */
    row = (struct row){condition.end, (size_t)(data + size - condition.end)};
    predicate_next_row(set);
    bool matches = predicate_matches(set, program, truths);
    predicate_next_row(set);
    must(predicate_matches(set, again, truths) == matches && !predicate_failed(set));
    predicate_program_free(set, again);
  }
  predicate_program_free(set, program);
  must(predicate_set_size(set) == 0);
  predicate_set_free(set);
  return 0;
}

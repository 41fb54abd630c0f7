/*
 * Any bytes as what LCS writes: a batch of values where the first byte is even, else watch records. What
 * is found lies inside the bytes, and every step moves on.
 */
#include <stdlib.h>

#include "../lcs.h"

static void must(bool condition) {
  if (!condition) abort();
}

static uint32_t sum;

/* Reads every byte, so that a sanitizer sees those outside. */
static void inside(const struct lcs_answer *answer, struct lcs_text text) {
  must(text.length == 0 || (text.bytes >= answer->bytes && text.bytes + text.length <= answer->bytes + answer->length));
  for (uint32_t i = 0; i < text.length; i++) sum += text.bytes[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  struct lcs_answer answer = {.bytes = (uint8_t *)data + 1, .length = (uint32_t)(size - 1)};
  struct lcs_value value;
  struct lcs_record record;
  uint32_t at = 0, before = 0;
  if (data[0] % 2 == 0) {
    for (; lcs_next_value(&answer, &at, &value); before = at) {
      must(at >= before + 12 && at <= answer.length);
      inside(&answer, value.name);
      inside(&answer, value.data);
    }
    return 0;
  }
  for (; lcs_next_record(&answer, &at, &record); before = at) {
    must(at >= before + 8 && at <= answer.length);
    inside(&answer, record.name);
    inside(&answer, record.path);
    struct lcs_text component;
    uint32_t in_path = 0, depth = 0;
    for (; lcs_next_component(record.path, &in_path, &component); depth++) inside(&answer, component);
    must(depth == record.depth && in_path == record.path.length);
  }
  must(at == before);
  return 0;
}

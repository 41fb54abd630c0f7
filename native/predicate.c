#include "predicate_parts.h"

#include <stdlib.h>

#include "payload_number.h"

struct predicate_set *predicate_set_new(const struct predicate_source *source) {
  struct predicate_set *set = calloc(1, sizeof *set);
  if (set == NULL) return NULL;
  set->source = *source;
  set->hash_key = siphash_random_key();
  set->row = 1;
  return set;
}

void predicate_set_free(struct predicate_set *set) {
  if (set != NULL) free(set->lower);
  free(set);
}

size_t predicate_set_size(const struct predicate_set *set) {
  return set->size;
}

size_t predicate_truths(const struct predicate_program *program) {
  return program->truths;
}

void predicate_next_row(struct predicate_set *set) {
  set->row++;
}

bool predicate_failed(struct predicate_set *set) {
  bool failed = set->failed;
  set->failed = false;
  return failed;
}

void predicate_lower(uint8_t *out, const uint8_t *in, size_t length) {
  for (size_t i = 0; i < length; i++) out[i] = predicate_fold(in[i]);
}

int predicate_order_numbers(const void *a, const void *b) {
  return number_compare(&((const struct value *)a)->number, &((const struct value *)b)->number);
}

int predicate_order_bytes(const void *a, const void *b) {
  const struct value *left = a;
  const struct value *right = b;
  if (left->length != right->length) return left->length < right->length ? -1 : 1;
  return left->length == 0 ? 0 : memcmp(left->bytes, right->bytes, left->length);
}

bool predicate_payload(struct predicate_set *set, struct msgpack_slice *payload) {
  if (set->payload_row != set->row) {
    struct record_value stored = {.kind = RECORD_NULL};
    set->source.load(set->source.context, set->source.columns, &stored);
    set->payload_row = set->row;
    set->payload_usable = stored.kind == RECORD_BLOB && stored.bytes != NULL;
    if (set->payload_usable) {
      set->payload = (struct msgpack_slice){stored.bytes, stored.bytes + stored.length};
      set->payload_usable = msgpack_skip(set->payload.start, set->payload.end) == set->payload.end;
    }
  }
  *payload = set->payload;
  return set->payload_usable;
}

static struct value payload_value(struct predicate_set *set, const struct field *field) {
  struct msgpack_slice payload;
  struct msgpack_slice found;
  struct msgpack_item item;
  struct value value = {.kind = VALUE_NULL};
  if (!predicate_payload(set, &payload)) return value;
  if (!msgpack_descend(payload, field->path.names, field->path.count, &found)) return value;
  if (msgpack_read(found.start, found.end, &item) == NULL) return value;
  switch (item.kind) {
    case MSGPACK_NIL: break;
    case MSGPACK_STR:
    case MSGPACK_BIN:
      value.kind = item.kind == MSGPACK_STR ? VALUE_TEXT : VALUE_BLOB;
      value.bytes = item.data;
      value.length = item.length;
      break;
    case MSGPACK_EXT:
    case MSGPACK_ARRAY:
    case MSGPACK_MAP: value.kind = VALUE_CONTAINER; break;
    default:
      if (payload_number(&item, &value.number)) value.kind = VALUE_NUMBER;
      break;
  }
  return value;
}

static struct value column_value(struct predicate_set *set, int column) {
  struct record_value stored = {.kind = RECORD_NULL};
  set->source.load(set->source.context, column, &stored);
  switch (stored.kind) {
    case RECORD_INTEGER: return (struct value){.kind = VALUE_NUMBER, .number = number_of_int(stored.integer)};
    case RECORD_REAL:
      return (struct value){.kind = VALUE_NUMBER, .number = {.kind = NUMBER_REAL, .real = stored.real}};
    case RECORD_TEXT: return (struct value){.kind = VALUE_TEXT, .bytes = stored.bytes, .length = stored.length};
    case RECORD_BLOB: return (struct value){.kind = VALUE_BLOB, .bytes = stored.bytes, .length = stored.length};
    default: return (struct value){.kind = VALUE_NULL};
  }
}

/* The field's value: the column, or the payload where it is NULL or there is none (QL-45). */
static void load(struct predicate_set *set, struct field *field) {
  if (field->interned.row == set->row) return;
  field->interned.row = set->row;
  field->from_payload = field->column < 0;
  if (field->column >= 0) {
    field->value = column_value(set, field->column);
    if (field->value.kind != VALUE_NULL || !field->fallback) return;
    field->from_payload = true;
  }
  field->value = payload_value(set, field);
}

static bool listed(const struct literals *literals, const struct value *value,
                   int (*order)(const void *, const void *)) {
  if (literals->count == 1) return order(value, literals->values) == 0;
  return literals->count > 0 && bsearch(value, literals->values, literals->count, sizeof *value, order) != NULL;
}

/* Long lists of ids are what streams are often made of: no comparison of kinds, no branch that can be guessed wrong. */
static bool whole_listed(const struct predicate *predicate, uint64_t value) {
  const uint64_t *at = predicate->whole;
  size_t left = predicate->numbers.count;
  while (left > 1) {
    size_t half = left / 2;
    at += at[half - 1] < value ? half : 0;
    left -= half;
  }
  return *at == value;
}

static bool number_listed(const struct predicate *predicate, const struct value *value) {
  if (predicate->whole == NULL || value->number.kind == NUMBER_REAL) {
    return listed(&predicate->numbers, value, predicate_order_numbers);
  }
  return value->number.kind == NUMBER_UINT && whole_listed(predicate, value->number.uint);
}

static bool equals_text(const struct value *lower, const struct value *value) {
  if (lower->length != value->length) return false;
  for (size_t i = 0; i < value->length; i++) {
    if (predicate_fold(value->bytes[i]) != lower->bytes[i]) return false;
  }
  return true;
}

static bool text_listed(struct predicate_set *set, const struct predicate *predicate, const struct value *value) {
  const struct literals *texts = &predicate->texts;
  if (texts->count == 0) return false;
  if (texts->count == 1) return equals_text(texts->values, value);
  if (value->length > set->lower_room) {
    uint8_t *more = realloc(set->lower, value->length);
    if (more == NULL) {
      set->failed = true;
      return false;
    }
    set->lower = more;
    set->lower_room = value->length;
  }
  predicate_lower(set->lower, value->bytes, value->length);
  struct value folded = {.kind = VALUE_TEXT, .bytes = set->lower, .length = value->length};
  return listed(texts, &folded, predicate_order_bytes);
}

static bool guid_listed(const struct predicate *predicate, const struct field *field) {
  struct value value = field->value;
  uint8_t guid[16];
  if (predicate->guids.count == 0) return false;
  if (field->from_payload) {
    if (!field->guid || value.kind != VALUE_TEXT || !guid_parse(guid, value.bytes, value.length)) return false;
    value.bytes = guid;
    value.length = sizeof guid;
  } else if (value.kind != VALUE_BLOB) {
    return false;
  }
  return listed(&predicate->guids, &value, predicate_order_bytes);
}

/* Whether the value equals one of the literals. */
static bool is_member(struct predicate_set *set, const struct predicate *predicate) {
  const struct value *value = &predicate->field->value;
  if (value->kind == VALUE_NUMBER) return number_listed(predicate, value);
  if (value->kind == VALUE_TEXT && text_listed(set, predicate, value)) return true;
  return guid_listed(predicate, predicate->field);
}

static bool is_ordered(const struct predicate *predicate) {
  const struct value *value = &predicate->field->value;
  /* Only numbers have an order in the language (QL-31). */
  if (value->kind != VALUE_NUMBER || predicate->numbers.count != 1) return false;
  int order = predicate_order_numbers(value, predicate->numbers.values);
  switch (predicate->operation) {
    case OP_ABOVE: return order > 0;
    case OP_ABOVE_EQUAL: return order >= 0;
    case OP_BELOW: return order < 0;
    default: return order <= 0;
  }
}

static bool judge(struct predicate_set *set, const struct predicate *predicate) {
  load(set, predicate->field);
  const struct value *value = &predicate->field->value;
  switch (predicate->operation) {
    case OP_NULL: return value->kind == VALUE_NULL;
    case OP_NOT_NULL: return value->kind != VALUE_NULL;
    default: break;
  }
  if (value->kind == VALUE_NULL || value->kind == VALUE_CONTAINER) return false;
  switch (predicate->operation) {
    case OP_EQUAL:
    case OP_IN: return is_member(set, predicate);
    case OP_DIFFERENT:
    case OP_NOT_IN: return !is_member(set, predicate);
    case OP_STARTS:
    case OP_ENDS:
    case OP_CONTAINS:
    case OP_GLOB: {
      if (value->kind != VALUE_TEXT) return false;
      int match = ascii_match(predicate->pattern, value->bytes, value->length);
      if (match < 0) set->failed = true;
      return match > 0;
    }
    default: return is_ordered(predicate);
  }
}

static bool holds(struct predicate_set *set, const struct node *node, const uint8_t *truths) {
  switch (node->kind) {
    case NODE_PREDICATE: {
      struct predicate *predicate = node->predicate;
      if (predicate->interned.row != set->row) {
        predicate->truth = judge(set, predicate);
        predicate->interned.row = set->row;
      }
      return predicate->truth;
    }
    case NODE_TRUTH: return truths[node->truth] != 0;
    default: {
      bool any = node->kind == NODE_ANY;
      for (size_t at = 1; at < node->size; at += node[at].size) {
        if (holds(set, node + at, truths) == any) return any;
      }
      return !any;
    }
  }
}

bool predicate_matches(struct predicate_set *set, const struct predicate_program *program, const uint8_t *truths) {
  return holds(set, program->nodes, truths);
}

/* Programs from their encoding, with what they share kept once. */
#include <math.h>
#include <stdlib.h>

#include "payload_number.h"
#include "predicate_parts.h"

/* The parser allows parentheses 64 deep; AND and OR take turns between them. */
#define DEPTH_LIMIT 256

struct compiler {
  struct predicate_set *set;
  struct predicate_program *program;
  enum predicate_problem problem;
};

static bool refuse(struct compiler *compiler, enum predicate_problem problem) {
  if (compiler->problem == PREDICATE_OK) compiler->problem = problem;
  return false;
}

static bool malformed(struct compiler *compiler) {
  return refuse(compiler, PREDICATE_MALFORMED);
}

/* Reads a small integer: operations, columns, indexes. */
static bool take_int(struct msgpack_slice *from, int64_t *out) {
  struct msgpack_item item;
  const uint8_t *after = msgpack_read(from->start, from->end, &item);
  if (after == NULL) return false;
  if (item.kind == MSGPACK_UINT && item.uint <= INT32_MAX) {
    *out = (int64_t)item.uint;
  } else if (item.kind == MSGPACK_SINT && item.sint >= INT32_MIN) {
    *out = item.sint;
  } else {
    return false;
  }
  from->start = after;
  return true;
}

static bool take_array(struct msgpack_slice *from, uint32_t *length) {
  struct msgpack_item item;
  const uint8_t *after = msgpack_read(from->start, from->end, &item);
  if (after == NULL || item.kind != MSGPACK_ARRAY) return false;
  *length = item.length;
  from->start = after;
  return true;
}

/* ---- interning ---- */

static struct interned *find(struct interned **table, uint64_t hash, struct msgpack_slice key) {
  size_t length = (size_t)(key.end - key.start);
  for (struct interned *each = table[hash % PREDICATE_BUCKETS]; each != NULL; each = each->next) {
    if (each->hash == hash && each->length == length && memcmp(each->key, key.start, length) == 0) return each;
  }
  return NULL;
}

/* Gives a new thing its key and its place. False: no memory. */
static bool keep(struct predicate_set *set, struct interned **table, struct interned *made, uint64_t hash,
                 struct msgpack_slice key) {
  made->length = (size_t)(key.end - key.start);
  made->key = malloc(made->length + 1);
  if (made->key == NULL) return false;
  memcpy(made->key, key.start, made->length);
  made->hash = hash;
  made->references = 1;
  made->next = table[hash % PREDICATE_BUCKETS];
  table[hash % PREDICATE_BUCKETS] = made;
  set->size++;
  return true;
}

/* True when that was the last reference: it is out of the table then and the caller frees it. */
static bool let_go(struct predicate_set *set, struct interned **table, struct interned *interned) {
  if (--interned->references > 0) return false;
  struct interned **at = &table[interned->hash % PREDICATE_BUCKETS];
  while (*at != interned) at = &(*at)->next;
  *at = interned->next;
  set->size--;
  free(interned->key);
  return true;
}

static void release_field(struct predicate_set *set, struct field *field) {
  if (field == NULL || !let_go(set, set->fields, &field->interned)) return;
  free(field->path.names);
  free(field);
}

static void free_predicate_parts(struct predicate *predicate) {
  ascii_pattern_free(predicate->pattern);
  free(predicate->whole);
  free(predicate->block);
  free(predicate->lower);
  free(predicate);
}

static void release_predicate(struct predicate_set *set, struct predicate *predicate) {
  struct field *field = predicate->field;
  if (!let_go(set, set->predicates, &predicate->interned)) return;
  free_predicate_parts(predicate);
  release_field(set, field);
}

/* ---- fields ---- */

/* Reads `[column, kind, name...]` out of the field's own key, so that its names stay where they are. */
static bool read_field(struct compiler *compiler, struct field *field) {
  struct msgpack_slice from = {field->interned.key, field->interned.key + field->interned.length};
  uint32_t length;
  int64_t column;
  int64_t kind;
  if (!take_array(&from, &length) || length < 2) return malformed(compiler);
  if (!take_int(&from, &column) || !take_int(&from, &kind)) return malformed(compiler);
  if (column < -1 || column >= compiler->set->source.columns || kind < 0 || kind > 2) return malformed(compiler);
  field->column = (int)column;
  field->fallback = kind > 0;
  field->guid = kind == 2;
  field->path.count = length - 2;
  if ((column < 0 || kind > 0) != (length > 2)) return malformed(compiler);
  field->path.names = calloc(field->path.count + 1, sizeof *field->path.names);
  if (field->path.names == NULL) return refuse(compiler, PREDICATE_NO_MEMORY);
  for (size_t i = 0; i < field->path.count; i++) {
    struct msgpack_item name;
    from.start = msgpack_read(from.start, from.end, &name);
    if (from.start == NULL || name.kind != MSGPACK_STR) return malformed(compiler);
    field->path.names[i] = (struct msgpack_name){name.data, name.length};
  }
  return true;
}

static struct field *take_field(struct compiler *compiler, struct msgpack_slice *from) {
  struct predicate_set *set = compiler->set;
  const uint8_t *after = msgpack_skip(from->start, from->end);
  if (after == NULL) {
    malformed(compiler);
    return NULL;
  }
  struct msgpack_slice key = {from->start, after};
  from->start = after;
  uint64_t hash = siphash13(&set->hash_key, key.start, (size_t)(key.end - key.start));
  struct interned *known = find(set->fields, hash, key);
  if (known != NULL) {
    known->references++;
    return (struct field *)known;
  }
  struct field *field = calloc(1, sizeof *field);
  if (field == NULL || !keep(set, set->fields, &field->interned, hash, key)) {
    free(field);
    refuse(compiler, PREDICATE_NO_MEMORY);
    return NULL;
  }
  if (read_field(compiler, field)) return field;
  release_field(set, field);
  return NULL;
}

/* ---- predicates ---- */

static bool read_operand(struct compiler *compiler, const struct msgpack_item *item, struct value *value) {
  switch (item->kind) {
    case MSGPACK_UINT:
    case MSGPACK_SINT:
    case MSGPACK_FLOAT64:
      value->kind = VALUE_NUMBER;
      return payload_number(item, &value->number) || malformed(compiler);
    case MSGPACK_STR:
    case MSGPACK_BIN:
      if (item->kind == MSGPACK_BIN && item->length != 16) return malformed(compiler);
      value->kind = item->kind == MSGPACK_STR ? VALUE_TEXT : VALUE_BLOB;
      value->bytes = item->data;
      value->length = item->length;
      return true;
    default: return malformed(compiler);
  }
}

static int by_kind(const void *a, const void *b) {
  return (int)((const struct value *)a)->kind - (int)((const struct value *)b)->kind;
}

/* Sorts the literals into their three lists; texts are compared in lower case. */
static void sort_literals(struct predicate *predicate, size_t count) {
  qsort(predicate->block, count, sizeof *predicate->block, by_kind);
  uint8_t *lower = predicate->lower;
  struct value *at = predicate->block;
  struct value *end = at + count;
  predicate->numbers.values = at;
  for (; at < end && at->kind == VALUE_NUMBER; at++) predicate->numbers.count++;
  predicate->texts.values = at;
  for (; at < end && at->kind == VALUE_TEXT; at++) {
    predicate_lower(lower, at->bytes, at->length);
    at->bytes = lower;
    lower += at->length;
    predicate->texts.count++;
  }
  predicate->guids.values = at;
  predicate->guids.count = (size_t)(end - at);
  qsort(predicate->numbers.values, predicate->numbers.count, sizeof *at, predicate_order_numbers);
  qsort(predicate->texts.values, predicate->texts.count, sizeof *at, predicate_order_bytes);
  qsort(predicate->guids.values, predicate->guids.count, sizeof *at, predicate_order_bytes);
}

/* False: no memory. */
static bool copy_whole_numbers(struct predicate *predicate) {
  const struct literals *numbers = &predicate->numbers;
  if (numbers->count < 2) return true;
  for (size_t i = 0; i < numbers->count; i++) {
    if (numbers->values[i].number.kind != NUMBER_UINT) return true;
  }
  predicate->whole = malloc(numbers->count * sizeof *predicate->whole);
  if (predicate->whole == NULL) return false;
  for (size_t i = 0; i < numbers->count; i++) predicate->whole[i] = numbers->values[i].number.uint;
  return true;
}

static bool read_literals(struct compiler *compiler, struct predicate *predicate, struct msgpack_slice from,
                          uint32_t count) {
  predicate->block = calloc(count + 1, sizeof *predicate->block);
  predicate->lower = malloc((size_t)(from.end - from.start) + 1);
  if (predicate->block == NULL || predicate->lower == NULL) return refuse(compiler, PREDICATE_NO_MEMORY);
  for (uint32_t i = 0; i < count; i++) {
    struct msgpack_item item;
    from.start = msgpack_read(from.start, from.end, &item);
    if (from.start == NULL) return malformed(compiler);
    if (!read_operand(compiler, &item, &predicate->block[i])) return false;
  }
  sort_literals(predicate, count);
  return copy_whole_numbers(predicate) || refuse(compiler, PREDICATE_NO_MEMORY);
}

static bool read_pattern(struct compiler *compiler, struct predicate *predicate, struct msgpack_slice from) {
  static const enum ascii_form forms[] = {ASCII_STARTS, ASCII_ENDS, ASCII_CONTAINS, ASCII_GLOB};
  struct msgpack_item item;
  if (msgpack_read(from.start, from.end, &item) == NULL || item.kind != MSGPACK_STR) return malformed(compiler);
  predicate->pattern = ascii_pattern_new(forms[predicate->operation - OP_STARTS], item.data, item.length);
  return predicate->pattern != NULL || refuse(compiler, PREDICATE_NO_MEMORY);
}

/* How many operands an operation takes; -1: any number but none. */
static int operands_of(int64_t operation) {
  if (operation == OP_NULL || operation == OP_NOT_NULL) return 0;
  return operation == OP_IN || operation == OP_NOT_IN ? -1 : 1;
}

/* Reads what follows the operation, out of the predicate's own key. */
static bool read_predicate(struct compiler *compiler, struct predicate *predicate, struct msgpack_slice from,
                           uint32_t length) {
  int wanted = operands_of(predicate->operation);
  uint32_t operands = length - 2;
  if (wanted < 0 ? operands == 0 : operands != (uint32_t)wanted) return malformed(compiler);
  predicate->field = take_field(compiler, &from);
  if (predicate->field == NULL) return false;
  if (operands == 0) return true;
  bool is_match = predicate->operation >= OP_STARTS && predicate->operation <= OP_GLOB;
  return is_match ? read_pattern(compiler, predicate, from) : read_literals(compiler, predicate, from, operands);
}

static struct predicate *intern_predicate(struct compiler *compiler, struct msgpack_slice key) {
  struct predicate_set *set = compiler->set;
  uint64_t hash = siphash13(&set->hash_key, key.start, (size_t)(key.end - key.start));
  struct interned *known = find(set->predicates, hash, key);
  if (known != NULL) {
    known->references++;
    return (struct predicate *)known;
  }
  struct predicate *predicate = calloc(1, sizeof *predicate);
  if (predicate == NULL || !keep(set, set->predicates, &predicate->interned, hash, key)) {
    free(predicate);
    refuse(compiler, PREDICATE_NO_MEMORY);
    return NULL;
  }
  struct msgpack_slice own = {predicate->interned.key, predicate->interned.key + predicate->interned.length};
  uint32_t length;
  int64_t operation;
  bool read = take_array(&own, &length) && length >= 2 && take_int(&own, &operation) && operation >= OP_EQUAL &&
              operation <= OP_NOT_NULL;
  if (read) {
    predicate->operation = (enum operation)operation;
    if (read_predicate(compiler, predicate, own, length)) return predicate;
  }
  malformed(compiler);
  release_predicate(set, predicate);
  return NULL;
}

/* ---- nodes ---- */

static struct node *add_node(struct compiler *compiler, enum node_kind kind) {
  struct predicate_program *program = compiler->program;
  if (program->count == program->room) {
    size_t room = program->room == 0 ? 8 : program->room * 2;
    struct node *nodes = realloc(program->nodes, room * sizeof *nodes);
    if (nodes == NULL) {
      refuse(compiler, PREDICATE_NO_MEMORY);
      return NULL;
    }
    program->nodes = nodes;
    program->room = room;
  }
  struct node *node = &program->nodes[program->count++];
  *node = (struct node){.kind = kind, .size = 1};
  return node;
}

static bool add_truth(struct compiler *compiler, struct msgpack_slice from, uint32_t length) {
  int64_t index;
  if (length != 2 || !take_int(&from, &index) || index < 0 || index >= PREDICATE_MAX_TRUTHS) {
    return malformed(compiler);
  }
  struct node *node = add_node(compiler, NODE_TRUTH);
  if (node == NULL) return false;
  node->truth = (size_t)index;
  if (compiler->program->truths <= node->truth) compiler->program->truths = node->truth + 1;
  return true;
}

static bool add(struct compiler *compiler, struct msgpack_slice *from, unsigned depth);

static bool add_terms(struct compiler *compiler, struct msgpack_slice *from, uint32_t terms, enum node_kind kind,
                      unsigned depth) {
  size_t at = compiler->program->count;
  if (add_node(compiler, kind) == NULL) return false;
  for (uint32_t i = 0; i < terms; i++) {
    if (!add(compiler, from, depth + 1)) return false;
  }
  compiler->program->nodes[at].size = compiler->program->count - at;
  return true;
}

static bool add(struct compiler *compiler, struct msgpack_slice *from, unsigned depth) {
  struct msgpack_slice whole = *from;
  uint32_t length;
  int64_t operation;
  if (depth > DEPTH_LIMIT || !take_array(from, &length) || length == 0 || !take_int(from, &operation)) {
    return malformed(compiler);
  }
  if (operation == 0 || operation == 1) {
    return add_terms(compiler, from, length - 1, operation == 0 ? NODE_ALL : NODE_ANY, depth);
  }
  whole.end = msgpack_skip(whole.start, whole.end);
  if (whole.end == NULL) return malformed(compiler);
  struct msgpack_slice rest = {from->start, whole.end};
  from->start = whole.end;
  if (operation == 2) return add_truth(compiler, rest, length);
  struct predicate *predicate = intern_predicate(compiler, whole);
  if (predicate == NULL) return false;
  struct node *node = add_node(compiler, NODE_PREDICATE);
  if (node == NULL) {
    release_predicate(compiler->set, predicate);
    return false;
  }
  node->predicate = predicate;
  return true;
}

struct predicate_program *predicate_compile(struct predicate_set *set, struct msgpack_slice condition,
                                            enum predicate_problem *problem) {
  struct predicate_program *program = calloc(1, sizeof *program);
  struct compiler compiler = {set, program, program == NULL ? PREDICATE_NO_MEMORY : PREDICATE_OK};
  bool made = program != NULL && add(&compiler, &condition, 0);
  if (made && condition.start != condition.end) made = malformed(&compiler);
  *problem = compiler.problem;
  if (made) return program;
  predicate_program_free(set, program);
  return NULL;
}

void predicate_program_free(struct predicate_set *set, struct predicate_program *program) {
  if (program == NULL) return;
  for (size_t i = 0; i < program->count; i++) {
    if (program->nodes[i].kind == NODE_PREDICATE) release_predicate(set, program->nodes[i].predicate);
  }
  free(program->nodes);
  free(program);
}

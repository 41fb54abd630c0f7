#include "../predicate.h"

#include "expect.h"

/* One row of the columns number, text (nullable with fallback), guid; and the payload. */
static struct record_value row[4];
static int loads;

static void load(void *context, int column, struct record_value *value) {
  (void)context;
  loads++;
  *value = row[column];
}

static const uint8_t guid[16] = {0x0e, 0x55, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static struct predicate_set *new_set(void) {
  struct predicate_source source = {.load = load, .columns = 3};
  struct predicate_set *set = predicate_set_new(&source);
  EXPECT(set != NULL);
  return set;
}

static struct predicate_program *compile(struct predicate_set *set, const void *bytes, size_t n) {
  enum predicate_problem problem;
  uint8_t *copy = exact_copy(bytes, n);
  struct predicate_program *program = predicate_compile(set, (struct msgpack_slice){copy, copy + n}, &problem);
  EXPECT((program == NULL) == (problem != PREDICATE_OK));
  free(copy);
  return program;
}

#define COMPILE(set, text) compile(set, text, sizeof(text) - 1)

static void set_row(int64_t number, const char *text, const void *payload, size_t n) {
  row[0] = (struct record_value){.kind = RECORD_INTEGER, .integer = number};
  row[1] = (struct record_value){.kind = text == NULL ? RECORD_NULL : RECORD_TEXT,
                                 .bytes = (const uint8_t *)text,
                                 .length = text == NULL ? 0 : (uint32_t)strlen(text)};
  row[2] = (struct record_value){.kind = RECORD_BLOB, .bytes = guid, .length = 16};
  row[3] = (struct record_value){.kind = payload == NULL ? RECORD_NULL : RECORD_BLOB,
                                 .bytes = payload,
                                 .length = (uint32_t)n};
}

static bool matches(struct predicate_set *set, const struct predicate_program *program) {
  static const uint8_t truths[2] = {0, 1};
  predicate_next_row(set);
  return predicate_matches(set, program, truths);
}

/* [3, [0, 0], 5]: the number column equals 5. */
#define NUMBER_IS_5 "\x93\x03\x92\x00\x00\x05"
/* [12, [1, 1, "t"], "a*c"] */
#define TEXT_GLOB "\x93\x0c\x93\x01\x01\xa1t\xa3" "a*c"
/* [9, [-1, 0, "x", "y"], "AB"] */
#define PATH_STARTS "\x93\x09\x94\xff\x00\xa1x\xa1y\xa2" "AB"

static void columns_and_fallback(void) {
  title("[STR-7] columns, the payload behind a NULL column, and payload paths");
  struct predicate_set *set = new_set();
  struct predicate_program *number = COMPILE(set, NUMBER_IS_5);
  struct predicate_program *text = COMPILE(set, TEXT_GLOB);
  struct predicate_program *path = COMPILE(set, PATH_STARTS);
  set_row(5, "AbC", NULL, 0);
  EXPECT(matches(set, number) && matches(set, text) && !matches(set, path));
  static const char payload[] = "\x82\xa1t\xa3" "axc" "\xa1x\x81\xa1y\xa3" "abZ";
  uint8_t *copy = exact_copy(payload, sizeof payload - 1);
  set_row(6, NULL, copy, sizeof payload - 1);
  EXPECT(!matches(set, number) && matches(set, text) && matches(set, path));
  set_row(6, "no", copy, sizeof payload - 1);
  EXPECT(!matches(set, text));
  /* Cut short it is no payload at all (QL-44). */
  uint8_t *cut = exact_copy(payload, sizeof payload - 2);
  set_row(6, NULL, cut, sizeof payload - 2);
  EXPECT(!matches(set, text) && !matches(set, path));
  predicate_program_free(set, number);
  predicate_program_free(set, text);
  predicate_program_free(set, path);
  EXPECT(predicate_set_size(set) == 0);
  predicate_set_free(set);
  free(copy);
  free(cut);
}

static void sharing(void) {
  title("[STR-2] what programs have in common is kept once and worked out once per row");
  struct predicate_set *set = new_set();
  struct predicate_program *programs[50];
  for (int i = 0; i < 50; i++) programs[i] = COMPILE(set, "\x93\x00" NUMBER_IS_5 TEXT_GLOB);
  EXPECT(predicate_set_size(set) == 4);
  set_row(5, "ac", NULL, 0);
  loads = 0;
  predicate_next_row(set);
  for (int i = 0; i < 50; i++) EXPECT(predicate_matches(set, programs[i], NULL));
  EXPECT(loads == 2);
  for (int i = 0; i < 49; i++) predicate_program_free(set, programs[i]);
  EXPECT(predicate_set_size(set) == 4);
  EXPECT(matches(set, programs[49]));
  predicate_program_free(set, programs[49]);
  EXPECT(predicate_set_size(set) == 0);
  predicate_set_free(set);
}

static void lists(void) {
  title("[STR-7] lists of whole numbers, of any numbers, of texts and of GUIDs");
  struct predicate_set *set = new_set();
  /* [13, [0, 0], 9, 1, 5, 7] and with a fraction and a negative number in between */
  struct predicate_program *whole = COMPILE(set, "\x96\x0d\x92\x00\x00\x09\x01\x05\x07");
  struct predicate_program *mixed = COMPILE(set, "\x97\x0d\x92\x00\x00\x09\xcb\x3f\xf8\0\0\0\0\0\0\x05\xfe\x07");
  struct predicate_program *none = COMPILE(set, "\x96\x0e\x92\x00\x00\x09\x01\x05\x07");
  struct predicate_program *texts = COMPILE(set, "\x95\x0d\x93\x01\x01\xa1t\xa1" "B" "\xa2" "ab" "\x05");
  uint8_t is_guid[] = "\x93\x03\x92\x02\x00\xc4\x10................";
  memcpy(is_guid + 7, guid, 16);
  struct predicate_program *guids = compile(set, is_guid, sizeof is_guid - 1);
  for (int64_t n = -3; n < 12; n++) {
    bool listed = n == 9 || n == 1 || n == 5 || n == 7;
    set_row(n, n == 2 ? "b" : n == 3 ? "AB" : "x", NULL, 0);
    EXPECT(matches(set, whole) == listed);
    EXPECT(matches(set, mixed) == (n == 9 || n == 5 || n == 7 || n == -2));
    EXPECT(matches(set, none) == !listed);
    EXPECT(matches(set, texts) == (n == 2 || n == 3));
    EXPECT(matches(set, guids));
  }
  struct predicate_program *all[] = {whole, mixed, none, texts, guids};
  for (size_t i = 0; i < 5; i++) predicate_program_free(set, all[i]);
  predicate_set_free(set);
}

static void truth_values(void) {
  title("[STR-22] a term about another store is what the caller says of the batch");
  struct predicate_set *set = new_set();
  set_row(5, "x", NULL, 0);
  /* [1, [2, 0], [0, [2, 1], NUMBER_IS_5]] */
  struct predicate_program *program = COMPILE(set, "\x93\x01\x92\x02\x00\x93\x00\x92\x02\x01" NUMBER_IS_5);
  EXPECT(predicate_truths(program) == 2);
  EXPECT(matches(set, program));
  set_row(6, "x", NULL, 0);
  EXPECT(!matches(set, program));
  predicate_program_free(set, program);
  predicate_set_free(set);
}

static void nonsense(void) {
  title("[STR-7] what is no program is refused and leaves nothing behind");
  struct predicate_set *set = new_set();
  static const char good[] = "\x93\x01" NUMBER_IS_5 "\x93\x00" TEXT_GLOB PATH_STARTS;
  for (size_t n = 0; n < sizeof good - 1; n++) EXPECT(compile(set, good, n) == NULL);
  EXPECT(COMPILE(set, NUMBER_IS_5 "\xc0") == NULL);         /* something behind it */
  EXPECT(COMPILE(set, "\x93\x03\x92\x03\x00\x05") == NULL); /* no such column */
  EXPECT(COMPILE(set, "\x93\x03\x92\x00\x01\x05") == NULL); /* a fallback without a path */
  EXPECT(COMPILE(set, "\x93\x03\x92\xff\x00\x05") == NULL); /* neither column nor path */
  EXPECT(COMPILE(set, "\x93\x11\x92\x00\x00\x05") == NULL); /* no such operation */
  EXPECT(COMPILE(set, "\x92\x03\x92\x00\x00") == NULL);     /* no operand */
  EXPECT(COMPILE(set, "\x92\x0d\x92\x00\x00") == NULL);     /* an empty list */
  EXPECT(COMPILE(set, "\x93\x09\x92\x00\x00\x05") == NULL); /* a number as pattern */
  EXPECT(COMPILE(set, "\x93\x03\x92\x00\x00\xc4\x01x") == NULL); /* a GUID of one byte */
  EXPECT(COMPILE(set, "\x93\x03\x92\x00\x00\xc0") == NULL); /* nil is no literal */
  EXPECT(COMPILE(set, "\x92\x02\xcd\xff\xff") == NULL);     /* a term that cannot be */
  uint8_t deep[2000];
  for (size_t i = 0; i < sizeof deep; i += 2) memcpy(deep + i, "\x92\x00", 2);
  EXPECT(compile(set, deep, sizeof deep) == NULL);
  EXPECT(predicate_set_size(set) == 0);
  predicate_set_free(set);
}

int main(void) {
  columns_and_fallback();
  sharing();
  lists();
  truth_values();
  nonsense();
  return expect_result();
}

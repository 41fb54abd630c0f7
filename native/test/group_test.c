#include "../group_key.h"
#include "../group_table.h"
#include "../sum_state.h"

#include <math.h>

#include "expect.h"

static struct number integer(int64_t value) { return number_of_int(value); }
static struct number large(uint64_t value) { return (struct number){.kind = NUMBER_UINT, .uint = value}; }
static struct number real(double value) { return (struct number){.kind = NUMBER_REAL, .real = value}; }

/* The key on the heap, so that a sanitizer sees every read beyond it. */
static bool read_back(const struct number *number, size_t length, struct group_key *out) {
  uint8_t key[GROUP_KEY_NUMBER_FULL];
  group_key_of_number(key, number);
  uint8_t *copy = exact_copy(key, length);
  bool read = group_key_read(copy, length, out);
  free(copy);
  return read;
}

static size_t fill(struct number *numbers) {
  size_t n = 0;
  static const double floats[] = {0, 0.5, 1, 1.5, 1e15, 9007199254740992, 9007199254740994, 9223372036854774784.0,
                                  9223372036854775808.0, 18446744073709549568.0, 18446744073709551616.0, 1e300};
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    numbers[n++] = real(floats[i]);
    numbers[n++] = real(-floats[i]);
  }
  numbers[n++] = real(INFINITY);
  numbers[n++] = real(-INFINITY);
  static const uint64_t near[] = {0, 1, 2, UINT64_C(1) << 52, UINT64_C(1) << 53, UINT64_C(1) << 62, INT64_MAX - 1};
  for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
    for (int64_t off = -2; off <= 2; off++) {
      int64_t value = (int64_t)near[i] + (near[i] == INT64_MAX - 1 && off > 1 ? 1 : off);
      numbers[n++] = integer(value);
      numbers[n++] = integer(-value);
    }
  }
  numbers[n++] = integer(INT64_MIN);
  for (uint64_t off = 0; off < 4; off++) {
    numbers[n++] = large((UINT64_C(1) << 63) + off);
    numbers[n++] = large(UINT64_MAX - off);
    numbers[n++] = large(UINT64_MAX - 2046 - off);
  }
  return n;
}

static void order(void) {
  title("[QL-66] [QL-71] keys of numbers are equal and sort as their exact values, whatever their types");
  struct number numbers[256];
  size_t n = fill(numbers);
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < n; j++) {
      uint8_t a[GROUP_KEY_NUMBER_FULL];
      uint8_t b[GROUP_KEY_NUMBER_FULL];
      group_key_of_number(a, &numbers[i]);
      group_key_of_number(b, &numbers[j]);
      int keys = memcmp(a, b, GROUP_KEY_NUMBER_BASE);
      int values = number_compare(&numbers[i], &numbers[j]);
      EXPECT((keys > 0) - (keys < 0) == values);
    }
  }
}

static void round_trip(void) {
  title("[QL-66] [QL-69] a full key gives back number and type, a base key the integer where there is one");
  struct number numbers[256];
  struct group_key key;
  size_t n = fill(numbers);
  for (size_t i = 0; i < n; i++) {
    EXPECT(read_back(&numbers[i], GROUP_KEY_NUMBER_FULL, &key) && key.kind == GROUP_KEY_NUMBER);
    EXPECT((key.number.kind == NUMBER_REAL) == (numbers[i].kind == NUMBER_REAL));
    EXPECT(number_compare(&key.number, &numbers[i]) == 0);
    EXPECT(read_back(&numbers[i], GROUP_KEY_NUMBER_BASE, &key));
    EXPECT(number_compare(&key.number, &numbers[i]) == 0);
  }
  struct number one = real(1);
  EXPECT(read_back(&one, GROUP_KEY_NUMBER_BASE, &key) && key.number.kind == NUMBER_UINT && key.number.uint == 1);
}

static void foreign_bytes(void) {
  title("[QL-66] bytes that are no key are refused, none is read beyond its end");
  struct group_key key;
  unsigned seed = 7;
  for (int i = 0; i < 20000; i++) {
    uint8_t bytes[16];
    size_t length = (size_t)(rand_r(&seed) % 16);
    for (size_t j = 0; j < length; j++) bytes[j] = (uint8_t)rand_r(&seed);
    if (length > 0 && i % 2 == 0) bytes[0] = GROUP_KEY_NUMBER;
    uint8_t *copy = exact_copy(bytes, length);
    if (group_key_read(copy, length, &key) && key.kind == GROUP_KEY_NUMBER) {
      EXPECT(key.number.kind != NUMBER_REAL || !isnan(key.number.real));
    }
    free(copy);
  }
  EXPECT(!group_key_read((const uint8_t *)"", 0, &key));
  EXPECT(!group_key_read(NULL, 0, &key));
  EXPECT(!group_key_read((const uint8_t *)"\x04", 1, &key));
  EXPECT(!group_key_read((const uint8_t *)"\0x", 2, &key));
  EXPECT(group_key_read((const uint8_t *)"\x02" "ab", 3, &key) && key.kind == GROUP_KEY_TEXT && key.length == 2);
}

static void sums(void) {
  title("[QL-69] sums are integers while they can be, in whatever order and parts they are added");
  struct sum_state a = {0};
  struct sum_state b = {0};
  struct number most = integer(INT64_MAX);
  struct number least = integer(INT64_MIN);
  sum_state_add(&a, &most);
  sum_state_add(&a, &most);
  struct number sum = sum_state_sum(&a);
  EXPECT(sum.kind == NUMBER_REAL && sum.real == 18446744073709551616.0);
  sum_state_add(&b, &least);
  sum_state_add(&b, &least);
  sum_state_join(&a, &b);
  sum = sum_state_sum(&a);
  EXPECT(sum.kind == NUMBER_SINT && sum.sint == -2);
  EXPECT(sum_state_mean(&a) == -0.5);
  struct number huge = real(1e16);
  struct number small = real(1);
  struct sum_state c = {0};
  sum_state_add(&c, &huge);
  for (int i = 0; i < 1000; i++) sum_state_add(&c, &small);
  huge.real = -1e16;
  sum_state_add(&c, &huge);
  sum = sum_state_sum(&c);
  EXPECT(sum.kind == NUMBER_REAL && sum.real == 1000);
  struct number infinite = real(INFINITY);
  sum_state_add(&c, &infinite);
  EXPECT(sum_state_sum(&c).real == INFINITY && sum_state_mean(&c) == INFINITY);
}

static void table(void) {
  title("[QX-24] the table of groups keeps its bound, and every group until it is emptied");
  struct group_table *groups = group_table_new(1, 64 * 1024);
  struct group *group;
  uint32_t made = 0;
  for (;; made++) {
    uint8_t *key = exact_copy(&made, sizeof made);
    uint8_t type = 1;
    enum group_found found = group_table_find(groups, key, sizeof made, &type, &group);
    free(key);
    EXPECT(found != GROUP_NO_MEMORY);
    if (found != GROUP_FOUND) break;
    group->value.count = made;
  }
  EXPECT(made > 200 && made * sizeof(struct group) < 64 * 1024);
  for (uint32_t i = 0; i < made; i++) {
    uint8_t type = i % 2;
    EXPECT(group_table_find(groups, (uint8_t *)&i, sizeof i, &type, &group) == GROUP_FOUND && group->value.count == i);
    EXPECT(*group_table_types(groups, group) == i % 2);
  }
  EXPECT(group_table_count(groups) == made);
  group_table_clear(groups);
  EXPECT(group_table_count(groups) == 0);
  size_t length = 1 << 20;
  uint8_t *big = calloc(length, 1);
  EXPECT(group_table_find(groups, big, length, (uint8_t[]){0}, &group) == GROUP_FOUND && group->value.count == 0);
  EXPECT(memcmp(group_table_key(groups, group), big, length) == 0);
  EXPECT(group_table_find(groups, (uint8_t *)"ab", 2, (uint8_t[]){0}, &group) == GROUP_FULL);
  free(big);
  group_table_free(groups);
}

static void extremes(void) {
  title("[QL-69] MIN and MAX keep the type; of equal numbers the integer is the smaller");
  struct group_value least = {0};
  struct group_value most = {0};
  struct number numbers[] = {real(2), integer(2), real(1), integer(1), real(1.5)};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    group_value_add(&least, GROUP_MIN, &numbers[i]);
    group_value_add(&most, GROUP_MAX, &numbers[i]);
  }
  struct group_key key;
  EXPECT(group_key_read(least.extreme, sizeof least.extreme, &key) && key.number.kind == NUMBER_UINT);
  EXPECT(key.number.uint == 1);
  EXPECT(group_key_read(most.extreme, sizeof most.extreme, &key) && key.number.kind == NUMBER_REAL);
  EXPECT(key.number.real == 2);
}

int main(void) {
  order();
  round_trip();
  foreign_bytes();
  sums();
  table();
  extremes();
  return expect_result();
}

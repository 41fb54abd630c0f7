#include <math.h>
#include <time.h>

#include "../ascii_match.h"
#include "../number.h"
#include "expect.h"

static struct number real(double value) {
  return (struct number){.kind = NUMBER_REAL, .real = value};
}

static struct number integer(const char *digits) {
  struct number number = {0};
  EXPECT(number_parse(&number, (const uint8_t *)digits, strlen(digits)));
  return number;
}

static int compare(struct number a, struct number b) {
  int order = number_compare(&a, &b);
  EXPECT(number_compare(&b, &a) == -order);
  return order;
}

static void numbers(void) {
  title("[QL-23] integers and floats compare by exact value, uint64 included");
  EXPECT(compare(integer("9007199254740993"), real(9007199254740992.0)) == 1);
  EXPECT(compare(integer("9007199254740992"), real(9007199254740992.0)) == 0);
  EXPECT(compare(integer("18446744073709551615"), real(18446744073709551616.0)) == -1);
  EXPECT(compare(integer("9223372036854775808"), real(9223372036854775808.0)) == 0);
  EXPECT(compare(integer("9223372036854775807"), real(9223372036854775808.0)) == -1);
  EXPECT(compare(integer("18446744073709551615"), integer("9223372036854775807")) == 1);
  EXPECT(compare(integer("18446744073709551615"), integer("-1")) == 1);
  EXPECT(compare(integer("-9223372036854775808"), real(-9223372036854775808.0)) == 0);
  EXPECT(compare(integer("-9223372036854775808"), real(-9223372036854777856.0)) == 1);
  EXPECT(compare(integer("-9007199254740993"), real(-9007199254740992.0)) == -1);
  EXPECT(compare(integer("2"), real(2.5)) == -1);
  EXPECT(compare(integer("3"), real(2.5)) == 1);
  EXPECT(compare(integer("-2"), real(-2.5)) == 1);
  EXPECT(compare(integer("-3"), real(-2.5)) == -1);
  EXPECT(compare(integer("0"), real(-0.0)) == 0);
  EXPECT(compare(integer("0"), real(-0.5)) == 1);
  EXPECT(compare(integer("-1"), real(-0.5)) == -1);
  EXPECT(compare(integer("18446744073709551615"), real(INFINITY)) == -1);
  EXPECT(compare(integer("-9223372036854775808"), real(-INFINITY)) == 1);
  EXPECT(compare(real(1.5), real(2.5)) == -1);
  title("[QL-14] decimal literals outside -2^63..2^64-1, or with anything else in them, are none");
  static const char *const bad[] = {"", "-", "18446744073709551616", "-9223372036854775809", "1 ", "+1", "0x1", "1.5",
                                    "99999999999999999999999"};
  struct number number;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    EXPECT(!number_parse(&number, (const uint8_t *)bad[i], strlen(bad[i])));
  }
  EXPECT(integer("-0").kind == NUMBER_UINT);
}

static bool match(enum ascii_form form, const char *pattern, const char *text) {
  uint8_t *pattern_copy = exact_copy(pattern, strlen(pattern));
  uint8_t *text_copy = exact_copy(text, strlen(text));
  struct ascii_pattern *prepared = ascii_pattern_new(form, pattern_copy, strlen(pattern));
  free(pattern_copy);
  int result = ascii_match(prepared, text_copy, strlen(text));
  EXPECT(ascii_match(prepared, text_copy, strlen(text)) == result);
  ascii_pattern_free(prepared);
  free(text_copy);
  return result == 1;
}

/* The definition of a glob, tried every way; for short texts only. */
static bool glob_by_definition(const char *pattern, const char *text) {
  if (*pattern == '*') return glob_by_definition(pattern + 1, text) || (*text && glob_by_definition(pattern, text + 1));
  return *pattern == *text && (*text == 0 || glob_by_definition(pattern + 1, text + 1));
}

static void globs(void) {
  title("[QL-60] * is any run of characters over the whole string, everything else literal, case ignored");
  EXPECT(match(ASCII_GLOB, "kacs.*", "kacs.") && match(ASCII_GLOB, "kacs.*", "KACS.a.b"));
  EXPECT(!match(ASCII_GLOB, "kacs.*", "kacs"));
  EXPECT(match(ASCII_GLOB, "kacs.*.denied", "kacs.a.b.denied") && !match(ASCII_GLOB, "kacs.*.denied", "kacs.denied"));
  EXPECT(match(ASCII_GLOB, "kacs.a?", "kacs.A?") && !match(ASCII_GLOB, "kacs.a?", "kacs.ab"));
  EXPECT(match(ASCII_GLOB, "[a-z]{x}", "[A-Z]{X}") && !match(ASCII_GLOB, "[a-z]", "b"));
  EXPECT(!match(ASCII_GLOB, "kacs", "kacs.x") && !match(ASCII_GLOB, "kacs", "x.kacs"));
  EXPECT(match(ASCII_GLOB, "*", "") && match(ASCII_GLOB, "**", "x") && match(ASCII_GLOB, "", "") && !match(ASCII_GLOB, "", "x"));
  for (int p = 0; p < 729; p++) {
    for (int t = 0; t < 64; t++) {
      char pattern[7] = {0};
      char text[7] = {0};
      for (int i = 0, v = p; i < 6; i++, v /= 3) pattern[i] = "ab*"[v % 3];
      for (int i = 0; i < 6; i++) text[i] = t >> i & 1 ? 'b' : 'a';
      EXPECT(match(ASCII_GLOB, pattern, text) == glob_by_definition(pattern, text));
      EXPECT(match(ASCII_GLOB, pattern + 2, text) == glob_by_definition(pattern + 2, text));
    }
  }
}

static void parts(void) {
  title("[QL-20] [QL-21] [QL-29] parts of strings: ASCII letters alike, other characters exactly, * literal");
  EXPECT(match(ASCII_CONTAINS, "NEEDLE", "a long haystack with a needle in it"));
  EXPECT(!match(ASCII_CONTAINS, "needles", "a long haystack with a needle in it"));
  EXPECT(match(ASCII_CONTAINS, "", "") && match(ASCII_STARTS, "", "x") && match(ASCII_ENDS, "", "x"));
  EXPECT(!match(ASCII_CONTAINS, "a*b", "axb") && match(ASCII_CONTAINS, "a*b", "xA*Bx"));
  EXPECT(!match(ASCII_CONTAINS, "\xc3\xbc", "\xc3\x9c"));
  EXPECT(!match(ASCII_CONTAINS, "[", "{") && !match(ASCII_CONTAINS, "@", "`"));
  EXPECT(match(ASCII_CONTAINS, "abcdefghijklmnopqrstuvwxyz", "0ABCDEFGHIJKLMNOPQRSTUVWXYZ9"));
  EXPECT(match(ASCII_STARTS, "lo", "LOgin") && !match(ASCII_STARTS, "lo", "xlo") && !match(ASCII_STARTS, "login", "lo"));
  EXPECT(match(ASCII_ENDS, "IN", "login") && !match(ASCII_ENDS, "in", "inx") && !match(ASCII_ENDS, "login", "in"));
}

static void hostile(void) {
  title("[QL-60] a pattern of many stars takes time linear in the text");
  size_t n = 1000000;
  char *text = malloc(n + 1);
  memset(text, 'a', n);
  text[n] = 0;
  char pattern[401];
  for (int i = 0; i < 400; i++) pattern[i] = i % 2 == 0 ? '*' : 'a';
  memcpy(pattern + 390, "*b*a*a*a*a", 10);
  pattern[400] = 0;
  clock_t start = clock();
  EXPECT(!match(ASCII_GLOB, pattern, text));
  EXPECT((double)(clock() - start) / CLOCKS_PER_SEC < 2);
  free(text);
}

int main(void) {
  numbers();
  globs();
  parts();
  hostile();
  return expect_result();
}

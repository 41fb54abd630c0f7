/* The little a C test needs: titled cases, checks that name their line, an exit status. */
#ifndef EVENTD_TEST_EXPECT_H
#define EVENTD_TEST_EXPECT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int expect_failures, expect_failures_before;
static const char *expect_title;

/* Says how the checks since the last title went. */
static inline void expect_close(void) {
  if (expect_title == NULL) return;
  printf("%s %s\n", expect_failures == expect_failures_before ? "ok" : "not ok", expect_title);
  /* A later crash must not swallow it. */
  fflush(stdout);
  expect_title = NULL;
}

/* Begins a case: what the following checks prove, with the requirement IDs first. */
static inline void title(const char *text) {
  expect_close();
  expect_title = text;
  expect_failures_before = expect_failures;
}

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
      expect_failures++;                                                         \
    }                                                                            \
  } while (0)

/* A copy of exact size on the heap, so that a sanitizer sees every read beyond it. */
static inline unsigned char *exact_copy(const void *bytes, size_t n) {
  unsigned char *copy = malloc(n == 0 ? 1 : n);
  if (copy == NULL) abort();
  if (n > 0) memcpy(copy, bytes, n);
  return copy;
}

static inline int expect_result(void) {
  expect_close();
  if (expect_failures > 0) fprintf(stderr, "%d checks failed\n", expect_failures);
  return expect_failures > 0;
}

#endif

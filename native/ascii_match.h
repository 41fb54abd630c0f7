/*
 * Text matching that ignores the case of ASCII letters and compares all other bytes exactly
 * (QL-20, QL-21, QL-60). Time grows linearly with the text, whatever the pattern.
 */
#ifndef EVENTD_ASCII_MATCH_H
#define EVENTD_ASCII_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ascii_form {
  /* `*` stands for any bytes, also none; everything else for itself. The whole text must match. */
  ASCII_GLOB,
  /* The pattern as it stands occurs anywhere, at the start, at the end. */
  ASCII_CONTAINS,
  ASCII_STARTS,
  ASCII_ENDS,
};

/* A prepared pattern with its working memory: one thread at a time. */
struct ascii_pattern;

/* NULL when memory is short. Freed with ascii_pattern_free. */
struct ascii_pattern *ascii_pattern_new(enum ascii_form form, const uint8_t *text, size_t length);
void ascii_pattern_free(void *pattern);

/* 1 match, 0 none, -1 memory is short. */
int ascii_match(struct ascii_pattern *pattern, const uint8_t *text, size_t length);

#endif

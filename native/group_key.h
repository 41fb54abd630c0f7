/*
 * Keys: values of the query language as bytes whose memcmp order is the order of the language, NULL <
 * numbers < strings < bytes (QL-71), and whose equality is that of groups (QL-66): numbers by exact
 * mathematical value, so that 1, 1.0 and true are one, strings and bytes by their bytes.
 *
 *   00                        NULL
 *   01 eeeeeeeeeeeeeeee rrrr  a number: the largest float64 not above it, order-preserving, and what
 *                             is missing to it (0 but for integers beyond 2^53)
 *   02 ...                    a string
 *   03 ...                    bytes
 *
 * A full key of a number has one byte more: 0 for an integer, 1 for a float.
 */
#ifndef EVENTD_GROUP_KEY_H
#define EVENTD_GROUP_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "number.h"

enum group_key_kind { GROUP_KEY_NULL, GROUP_KEY_NUMBER, GROUP_KEY_TEXT, GROUP_KEY_BYTES };

/* Length of a number's key without and with the byte that tells its type. */
#define GROUP_KEY_NUMBER_BASE 11
#define GROUP_KEY_NUMBER_FULL 12

struct group_key {
  enum group_key_kind kind;
  /* Without a type byte: an integer if it can be one. */
  struct number number;
  /* Of text and bytes: part of the key. */
  const uint8_t *bytes;
  size_t length;
};

/* The full key of a number. */
void group_key_of_number(uint8_t key[GROUP_KEY_NUMBER_FULL], const struct number *number);

/* Reads a base or full key; false when it is none. */
bool group_key_read(const uint8_t *key, size_t length, struct group_key *out);

#endif

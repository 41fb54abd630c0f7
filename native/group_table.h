/*
 * A hash table of groups with what has been counted of each (QX-24). It is bounded: when it is full, its
 * owner moves all groups on and empties it, so that memory depends on neither rows nor groups.
 */
#ifndef EVENTD_GROUP_TABLE_H
#define EVENTD_GROUP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "group_key.h"
#include "sum_state.h"

enum group_function { GROUP_DISTINCT, GROUP_COUNT, GROUP_TOTAL, GROUP_SUM, GROUP_MIN, GROUP_MAX };

struct group_value {
  uint64_t count;
  struct sum_state sum;
  /* Of GROUP_MIN and GROUP_MAX: the full key of a number, once there is one. */
  uint8_t extreme[GROUP_KEY_NUMBER_FULL];
  bool has_extreme;
};

struct group {
  uint64_t hash;
  /* Of the key in the table's memory; behind it stand `types` bytes. */
  uint32_t offset;
  uint32_t length;
  struct group_value value;
};

struct group_table;

/* `types`: bytes kept beside each key, of which a group keeps the smallest. NULL when memory is short. */
struct group_table *group_table_new(size_t types, size_t max_bytes);
void group_table_free(struct group_table *table);

enum group_found { GROUP_FOUND, GROUP_FULL, GROUP_NO_MEMORY };

/*
 * The group of a key, made if it is new; `types` joins those of the group. GROUP_FULL when a new group
 * would take the table past `max_bytes`; an empty table takes any one group. The pointer is valid until
 * the next call.
 */
enum group_found group_table_find(struct group_table *table, const uint8_t *key, size_t length,
                                  const uint8_t *types, struct group **group);

size_t group_table_count(const struct group_table *table);
const struct group *group_table_at(const struct group_table *table, size_t index);
const uint8_t *group_table_key(const struct group_table *table, const struct group *group);
const uint8_t *group_table_types(const struct group_table *table, const struct group *group);
void group_table_clear(struct group_table *table);

/* Takes a number into a group's sum or extreme. */
void group_value_add(struct group_value *value, enum group_function function, const struct number *number);

#endif

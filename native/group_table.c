#include "group_table.h"

#include <stdlib.h>
#include <string.h>

#include "siphash.h"

#define FIRST_GROUPS 64
#define FIRST_MEMORY 4096

struct group_table {
  size_t types;
  size_t max_bytes;
  struct siphash_key seed;
  /* Open addressing over twice as many places as groups: index + 1, 0 = free. */
  uint32_t *places;
  struct group *groups;
  size_t room;
  size_t count;
  /* The group found last: rows of one group often follow each other. */
  size_t last;
  uint8_t *memory;
  size_t memory_used;
  size_t memory_room;
};

struct group_table *group_table_new(size_t types, size_t max_bytes) {
  struct group_table *table = calloc(1, sizeof *table);
  if (table == NULL) return NULL;
  table->types = types;
  table->max_bytes = max_bytes;
  table->seed = siphash_random_key();
  return table;
}

void group_table_free(struct group_table *table) {
  if (table == NULL) return;
  free(table->places);
  free(table->groups);
  free(table->memory);
  free(table);
}

size_t group_table_count(const struct group_table *table) {
  return table->count;
}

const struct group *group_table_at(const struct group_table *table, size_t index) {
  return &table->groups[index];
}

const uint8_t *group_table_key(const struct group_table *table, const struct group *group) {
  return table->memory + group->offset;
}

const uint8_t *group_table_types(const struct group_table *table, const struct group *group) {
  return table->memory + group->offset + group->length;
}

void group_table_clear(struct group_table *table) {
  table->count = 0;
  table->memory_used = 0;
  if (table->places != NULL) memset(table->places, 0, table->room * 2 * sizeof *table->places);
}

static size_t cost_of(size_t room, size_t memory_room) {
  return room * (sizeof(struct group) + 2 * sizeof(uint32_t)) + memory_room;
}

static bool has_key(const struct group_table *table, const struct group *group, const uint8_t *key, size_t length) {
  return group->length == length && memcmp(table->memory + group->offset, key, length) == 0;
}

/* The group at an index, which gets the types of one more row. */
static struct group *known(struct group_table *table, size_t index, const uint8_t *types) {
  struct group *group = &table->groups[index];
  uint8_t *kept = table->memory + group->offset + group->length;
  for (size_t i = 0; i < table->types; i++) {
    if (types[i] < kept[i]) kept[i] = types[i];
  }
  table->last = index;
  return group;
}

static uint32_t *place_of(struct group_table *table, uint64_t hash, const uint8_t *key, size_t length) {
  size_t mask = table->room * 2 - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    uint32_t *place = &table->places[at];
    if (*place == 0) return place;
    const struct group *group = &table->groups[*place - 1];
    if (group->hash == hash && has_key(table, group, key, length)) return place;
  }
}

static enum group_found grow_groups(struct group_table *table, bool forced) {
  size_t room = table->room == 0 ? FIRST_GROUPS : table->room * 2;
  if (!forced && cost_of(room, table->memory_room) > table->max_bytes) return GROUP_FULL;
  uint32_t *places = calloc(room * 2, sizeof *places);
  struct group *groups = realloc(table->groups, room * sizeof *groups);
  if (groups != NULL) table->groups = groups;
  if (places == NULL || groups == NULL) {
    free(places);
    return GROUP_NO_MEMORY;
  }
  for (size_t i = 0; i < table->count; i++) {
    size_t at = groups[i].hash & (room * 2 - 1);
    while (places[at] != 0) at = (at + 1) & (room * 2 - 1);
    places[at] = (uint32_t)i + 1;
  }
  free(table->places);
  table->places = places;
  table->room = room;
  return GROUP_FOUND;
}

static enum group_found grow_memory(struct group_table *table, size_t bytes, bool forced) {
  size_t needed = table->memory_used + bytes;
  if (needed <= table->memory_room) return GROUP_FOUND;
  size_t room = table->memory_room == 0 ? FIRST_MEMORY : table->memory_room * 2;
  if (room < needed) room = needed;
  if (!forced && cost_of(table->room, room) > table->max_bytes) return GROUP_FULL;
  uint8_t *memory = room > UINT32_MAX ? NULL : realloc(table->memory, room);
  if (memory == NULL) return GROUP_NO_MEMORY;
  table->memory = memory;
  table->memory_room = room;
  return GROUP_FOUND;
}

enum group_found group_table_find(struct group_table *table, const uint8_t *key, size_t length,
                                  const uint8_t *types, struct group **group) {
  if (table->last < table->count && has_key(table, &table->groups[table->last], key, length)) {
    *group = known(table, table->last, types);
    return GROUP_FOUND;
  }
  uint64_t hash = siphash13(&table->seed, key, length);
  uint32_t *place = table->room == 0 ? NULL : place_of(table, hash, key, length);
  if (place != NULL && *place != 0) {
    *group = known(table, *place - 1, types);
    return GROUP_FOUND;
  }
  bool first = table->count == 0;
  enum group_found made = table->count < table->room ? GROUP_FOUND : grow_groups(table, first);
  if (made == GROUP_FOUND) made = grow_memory(table, length + table->types, first);
  if (made != GROUP_FOUND) return made;
  place = place_of(table, hash, key, length);
  struct group *added = &table->groups[table->count];
  *added = (struct group){.hash = hash, .offset = (uint32_t)table->memory_used, .length = (uint32_t)length};
  table->last = table->count;
  *place = (uint32_t)++table->count;
  uint8_t *memory = table->memory + table->memory_used;
  if (length > 0) memcpy(memory, key, length);
  if (table->types > 0) memcpy(memory + length, types, table->types);
  table->memory_used += length + table->types;
  *group = added;
  return GROUP_FOUND;
}

void group_value_add(struct group_value *value, enum group_function function, const struct number *number) {
  if (function == GROUP_SUM) {
    sum_state_add(&value->sum, number);
    return;
  }
  uint8_t key[GROUP_KEY_NUMBER_FULL];
  group_key_of_number(key, number);
  int order = value->has_extreme ? memcmp(key, value->extreme, sizeof key) : 0;
  if (value->has_extreme && (function == GROUP_MIN ? order >= 0 : order <= 0)) return;
  memcpy(value->extreme, key, sizeof key);
  value->has_extreme = true;
}

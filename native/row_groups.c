#include "row_groups.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>
#include <string.h>

struct row_groups {
  struct group_table *table;
  enum group_function function;
  size_t keys;
  bool *encoded;
  /* Of the current row. */
  uint8_t *types;
  uint8_t *key;
  size_t key_length;
  size_t key_room;
  /* The next group to come out. */
  size_t next;
};

struct row_groups *row_groups_new(const bool *encoded, size_t keys, enum group_function function, size_t max_bytes) {
  struct row_groups *groups = calloc(1, sizeof *groups);
  if (groups == NULL) return NULL;
  groups->table = group_table_new(keys, max_bytes);
  groups->function = function;
  groups->keys = keys;
  groups->encoded = calloc(keys + 1, sizeof *groups->encoded);
  groups->types = calloc(keys + 1, sizeof *groups->types);
  if (groups->table == NULL || groups->encoded == NULL || groups->types == NULL) {
    row_groups_free(groups);
    return NULL;
  }
  if (keys > 0) memcpy(groups->encoded, encoded, keys * sizeof *encoded);
  return groups;
}

void row_groups_free(struct row_groups *groups) {
  if (groups == NULL) return;
  group_table_free(groups->table);
  free(groups->encoded);
  free(groups->types);
  free(groups->key);
  free(groups);
}

static bool has_argument(const struct row_groups *groups) {
  return groups->function != GROUP_DISTINCT && groups->function != GROUP_COUNT;
}

int row_groups_columns(const struct row_groups *groups) {
  return (int)groups->keys + has_argument(groups);
}

int row_groups_parameters(const struct row_groups *groups) {
  return (int)groups->keys * 2 + (groups->function != GROUP_DISTINCT);
}

/* Room for `n` more bytes of the key; NULL when memory is short. */
static uint8_t *reserve(struct row_groups *groups, size_t n) {
  size_t needed = groups->key_length + n;
  if (needed > groups->key_room) {
    size_t room = needed < 256 ? 256 : needed * 2;
    uint8_t *key = realloc(groups->key, room);
    if (key == NULL) return NULL;
    groups->key = key;
    groups->key_room = room;
  }
  return groups->key + groups->key_length;
}

/* Appends the length and the bytes of one key, kind and contents apart; false when memory is short. */
static bool append(struct row_groups *groups, const uint8_t *kind, const uint8_t *bytes, size_t length) {
  uint32_t whole = (uint32_t)(length + (kind != NULL));
  uint8_t *at = reserve(groups, sizeof whole + whole);
  if (at == NULL) return false;
  memcpy(at, &whole, sizeof whole);
  at += sizeof whole;
  if (kind != NULL) *at++ = *kind;
  if (length > 0) memcpy(at, bytes, length);
  groups->key_length += sizeof whole + whole;
  return true;
}

static bool append_number(struct row_groups *groups, size_t index, const struct number *number) {
  uint8_t key[GROUP_KEY_NUMBER_FULL];
  group_key_of_number(key, number);
  groups->types[index] = key[GROUP_KEY_NUMBER_BASE];
  return append(groups, NULL, key, GROUP_KEY_NUMBER_BASE);
}

/*
 * Values are taken from the row once: each call for a column by itself would lock and look for it. SQLite calls
 * them unprotected, which forbids reading them where another thread may use the connection meanwhile. Here a
 * connection belongs to one thread, the one that steps the statement and reads its row; what others do to it is
 * sqlite3_interrupt, which touches no value.
 */
static bool append_value(struct row_groups *groups, size_t index, sqlite3_value *value) {
  static const uint8_t kinds[] = {GROUP_KEY_NULL, GROUP_KEY_TEXT, GROUP_KEY_BYTES};
  struct number number;
  int type = sqlite3_value_type(value);
  groups->types[index] = 0;
  switch (type) {
    case SQLITE_INTEGER: number = number_of_int(sqlite3_value_int64(value)); break;
    case SQLITE_FLOAT:
      number = (struct number){.kind = NUMBER_REAL, .real = sqlite3_value_double(value)};
      break;
    case SQLITE_TEXT:
    case SQLITE_BLOB: {
      /* Text, too: as such it would be copied for the sake of a NUL behind it. */
      size_t length = (size_t)sqlite3_value_bytes(value);
      return append(groups, &kinds[type == SQLITE_TEXT ? 1 : 2], sqlite3_value_blob(value), length);
    }
    default: return append(groups, &kinds[0], NULL, 0);
  }
  return append_number(groups, index, &number);
}

static bool append_encoded(struct row_groups *groups, size_t index, sqlite3_value *value) {
  const uint8_t *key = sqlite3_value_blob(value);
  size_t length = (size_t)sqlite3_value_bytes(value);
  bool is_full = key != NULL && length == GROUP_KEY_NUMBER_FULL && key[0] == GROUP_KEY_NUMBER;
  groups->types[index] = is_full ? key[GROUP_KEY_NUMBER_BASE] : 0;
  return append(groups, NULL, key, is_full ? GROUP_KEY_NUMBER_BASE : length);
}

/* The argument of the function, a number or the key of one; false: it is none (QL-64). */
static bool read_argument(const struct row_groups *groups, sqlite3_stmt *row, struct number *number) {
  int column = (int)groups->keys;
  struct group_key key;
  switch (sqlite3_column_type(row, column)) {
    case SQLITE_INTEGER: *number = number_of_int(sqlite3_column_int64(row, column)); return true;
    case SQLITE_FLOAT:
      *number = (struct number){.kind = NUMBER_REAL, .real = sqlite3_column_double(row, column)};
      return true;
    case SQLITE_BLOB: {
      const uint8_t *bytes = sqlite3_column_blob(row, column);
      if (!group_key_read(bytes, (size_t)sqlite3_column_bytes(row, column), &key)) return false;
      *number = key.number;
      return key.kind == GROUP_KEY_NUMBER;
    }
    default: return false;
  }
}

enum group_found row_groups_add(struct row_groups *groups, sqlite3_stmt *row) {
  groups->key_length = 0;
  for (size_t i = 0; i < groups->keys; i++) {
    sqlite3_value *value = sqlite3_column_value(row, (int)i);
    bool appended = groups->encoded[i] ? append_encoded(groups, i, value) : append_value(groups, i, value);
    if (!appended) return GROUP_NO_MEMORY;
  }
  struct group *group;
  enum group_found found = group_table_find(groups->table, groups->key, groups->key_length, groups->types, &group);
  if (found != GROUP_FOUND) return found;
  struct number number;
  if (groups->function == GROUP_TOTAL) {
    /* Below zero too: what is taken away may come before what it is taken from. */
    group->value.count += (uint64_t)sqlite3_column_int64(row, (int)groups->keys);
    return GROUP_FOUND;
  }
  group->value.count++;
  if (has_argument(groups) && read_argument(groups, row, &number)) {
    group_value_add(&group->value, groups->function, &number);
  }
  return GROUP_FOUND;
}

bool row_groups_next(struct row_groups *groups, uint64_t value_overhead, uint64_t *size) {
  if (groups->next == group_table_count(groups->table)) {
    group_table_clear(groups->table);
    groups->next = 0;
    return false;
  }
  const struct group *group = group_table_at(groups->table, groups->next);
  *size = group->length + value_overhead * (uint64_t)row_groups_parameters(groups);
  if (groups->function == GROUP_SUM) *size += sizeof(struct sum_state);
  return true;
}

static int bind_value(const struct row_groups *groups, const struct group_value *value, sqlite3_stmt *insert, int at) {
  switch (groups->function) {
    case GROUP_DISTINCT: return SQLITE_OK;
    case GROUP_COUNT:
    case GROUP_TOTAL: return sqlite3_bind_int64(insert, at, (sqlite3_int64)value->count);
    case GROUP_SUM:
      if (value->sum.integers + value->sum.reals == 0) return sqlite3_bind_null(insert, at);
      return sqlite3_bind_blob(insert, at, &value->sum, sizeof value->sum, SQLITE_STATIC);
    default:
      if (!value->has_extreme) return sqlite3_bind_null(insert, at);
      return sqlite3_bind_blob(insert, at, value->extreme, sizeof value->extreme, SQLITE_STATIC);
  }
}

int row_groups_bind(struct row_groups *groups, sqlite3_stmt *insert) {
  const struct group *group = group_table_at(groups->table, groups->next++);
  const uint8_t *key = group_table_key(groups->table, group);
  const uint8_t *types = group_table_types(groups->table, group);
  int rc = SQLITE_OK;
  for (size_t i = 0; i < groups->keys && rc == SQLITE_OK; i++) {
    uint32_t length;
    memcpy(&length, key, sizeof length);
    key += sizeof length;
    rc = sqlite3_bind_blob64(insert, (int)i * 2 + 1, key, length, SQLITE_STATIC);
    if (rc == SQLITE_OK) rc = sqlite3_bind_int(insert, (int)i * 2 + 2, types[i]);
    key += length;
  }
  if (rc != SQLITE_OK) return rc;
  return bind_value(groups, &group->value, insert, (int)groups->keys * 2 + 1);
}

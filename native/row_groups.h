/*
 * Groups the rows of a SELECT as they come (QX-24). A row holds its keys, then, for functions with an
 * argument, a number. The groups come out one by one, as values for an INSERT: for every key its base and
 * its type, then what has been counted:
 *
 *   COUNT     an integer
 *   TOTAL     the same, of rows that count by their argument, an integer
 *   SUM       a BLOB of struct sum_state, NULL of no number
 *   MIN, MAX  the full key of a number, NULL of none
 *   DISTINCT  nothing
 */
#ifndef EVENTD_ROW_GROUPS_H
#define EVENTD_ROW_GROUPS_H

#include "group_table.h"
#include "sqlite3.h"

struct row_groups;

/*
 * `encoded`: one per key, whether its column holds a key already (group_key.h) or the value of one;
 * copied. NULL when memory is short.
 */
struct row_groups *row_groups_new(const bool *encoded, size_t keys, enum group_function function, size_t max_bytes);
void row_groups_free(struct row_groups *groups);

/* Columns of a row, and parameters of the INSERT. */
int row_groups_columns(const struct row_groups *groups);
int row_groups_parameters(const struct row_groups *groups);

/* Takes a row in; GROUP_FULL when the groups must come out first. */
enum group_found row_groups_add(struct row_groups *groups, sqlite3_stmt *row);

/* Whether a group is left to come out; its size in bytes, as a copy counts them. When none is, all are gone. */
bool row_groups_next(struct row_groups *groups, uint64_t value_overhead, uint64_t *size);
/* Binds that group, valid until the next row is added. An SQLite result code. */
int row_groups_bind(struct row_groups *groups, sqlite3_stmt *insert);

#endif

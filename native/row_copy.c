#include "row_copy.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sliced_call.h"

/* What a value costs in a table beside its bytes: header, rowid, its share of the b-tree. */
#define VALUE_OVERHEAD 16

struct row_copy {
  pthread_t owner;
  sqlite3_stmt *select;
  sqlite3_stmt *insert;
  int columns;
  /* NULL: rows are copied as they are. */
  struct row_groups *groups;
  /* The current row of `select` is still to be taken. */
  bool waits;
  bool exhausted;
  /* The groups are coming out. */
  bool emptying;
  int error;
  char message[256];
  /* A read or a step, which may take several slices of time. */
  struct sliced_call *working;
  bool is_reading;
  uint64_t max_rows;
  uint64_t max_bytes;
  struct row_copy_slice slice;
};

static const char *misfit(sqlite3_stmt *select, sqlite3_stmt *insert, const struct row_groups *groups) {
  int columns = sqlite3_column_count(select);
  int parameters = groups == NULL ? columns : row_groups_parameters(groups);
  if (columns == 0 || !sqlite3_stmt_readonly(select)) return "a copy reads by a SELECT statement";
  if (groups != NULL && columns != row_groups_columns(groups)) return "the SELECT yields the keys and the argument";
  if (sqlite3_column_count(insert) == 0 && sqlite3_bind_parameter_count(insert) == parameters) return NULL;
  return "the INSERT takes as many parameters as there are values, and returns nothing";
}

struct row_copy *row_copy_new(sqlite3_stmt *select, sqlite3_stmt *insert, struct row_groups *groups,
                              const char **error) {
  *error = misfit(select, insert, groups);
  struct row_copy *copy = *error == NULL ? calloc(1, sizeof *copy) : NULL;
  struct sliced_call *working = copy == NULL ? NULL : sliced_call_new();
  if (working == NULL) {
    free(copy);
    sqlite3_finalize(select);
    sqlite3_finalize(insert);
    row_groups_free(groups);
    return NULL;
  }
  copy->owner = pthread_self();
  copy->select = select;
  copy->insert = insert;
  copy->columns = sqlite3_column_count(select);
  copy->groups = groups;
  copy->working = working;
  return copy;
}

/* Ends what is under way: its statement cannot be finalised in the middle of it. */
static void abandon(struct row_copy *copy) {
  if (!sliced_call_is_under_way(copy->working)) return;
  copy->error = SQLITE_INTERRUPT;
  sqlite3_interrupt(sqlite3_db_handle(copy->select));
  sliced_call_run(copy->working, UINT64_MAX);
}

void row_copy_end(struct row_copy *copy) {
  abandon(copy);
  sqlite3_finalize(copy->select);
  sqlite3_finalize(copy->insert);
  copy->select = NULL;
  copy->insert = NULL;
  row_groups_free(copy->groups);
  copy->groups = NULL;
  if (copy->error == SQLITE_OK) copy->error = SQLITE_MISUSE;
}

void row_copy_free(struct row_copy *copy) {
  if (copy == NULL) return;
  row_copy_end(copy);
  sliced_call_free(copy->working);
  free(copy);
}

bool row_copy_is_own(const struct row_copy *copy) {
  return pthread_equal(copy->owner, pthread_self());
}

const char *row_copy_message(const struct row_copy *copy) {
  return copy->message;
}

/* From now on this is the copy's answer. */
static int note(struct row_copy *copy, int rc, sqlite3_stmt *statement) {
  snprintf(copy->message, sizeof copy->message, "%s", sqlite3_errmsg(sqlite3_db_handle(statement)));
  copy->error = rc;
  return rc;
}

static uint64_t row_size(sqlite3_stmt *select, int columns) {
  uint64_t size = 0;
  for (int i = 0; i < columns; i++) {
    int type = sqlite3_column_type(select, i);
    size += VALUE_OVERHEAD;
    /* The size of a number would be that of its text, and would make it one. */
    if (type == SQLITE_TEXT || type == SQLITE_BLOB) size += (uint64_t)sqlite3_column_bytes(select, i);
  }
  return size;
}

static int bind_row(struct row_copy *copy) {
  int rc = SQLITE_OK;
  for (int i = 0; i < copy->columns && rc == SQLITE_OK; i++) {
    rc = sqlite3_bind_value(copy->insert, i + 1, sqlite3_column_value(copy->select, i));
  }
  return rc;
}

/* Inserts what is bound. */
static int insert(struct row_copy *copy) {
  int rc = sqlite3_step(copy->insert);
  int reset = sqlite3_reset(copy->insert);
  return rc == SQLITE_DONE ? SQLITE_OK : reset;
}

/* Moves to the next row, unless one waits: SQLITE_ROW, SQLITE_DONE or an error. */
static int next_row(struct row_copy *copy) {
  if (copy->error != SQLITE_OK) return copy->error;
  if (copy->exhausted) return SQLITE_DONE;
  if (copy->waits) return SQLITE_ROW;
  int rc = sqlite3_step(copy->select);
  copy->exhausted = rc == SQLITE_DONE;
  /* Its read transaction must not keep the WAL from being checkpointed. */
  if (copy->exhausted) sqlite3_reset(copy->select);
  return rc;
}

/*
 * Reads until there is something to insert, SQLITE_ROW; else SQLITE_OK when the rows are used up, SQLITE_DONE
 * or an error. Rows may go into groups, which come out when their table is full and at the end.
 */
static int read_on(struct row_copy *copy, uint64_t *rows, uint64_t max_rows) {
  for (;;) {
    if (copy->emptying) return SQLITE_ROW;
    if (*rows >= max_rows) return SQLITE_OK;
    int rc = next_row(copy);
    if (rc == SQLITE_DONE) {
      if (copy->groups == NULL) return rc;
      copy->emptying = true;
      continue;
    }
    if (rc != SQLITE_ROW) return note(copy, rc, copy->select);
    if (copy->groups == NULL) {
      copy->waits = true;
      return rc;
    }
    enum group_found found = row_groups_add(copy->groups, copy->select);
    if (found == GROUP_NO_MEMORY) return note(copy, SQLITE_NOMEM, copy->select);
    copy->waits = copy->emptying = found == GROUP_FULL;
    if (found == GROUP_FOUND) ++*rows;
  }
}

static void read_rows(void *argument) {
  struct row_copy *copy = argument;
  uint64_t rows = 0;
  copy->is_reading = read_on(copy, &rows, copy->max_rows) == SQLITE_OK;
}

enum row_copy_read row_copy_read(struct row_copy *copy, uint64_t max_rows, uint64_t ns) {
  if (copy->error != SQLITE_OK) return ROW_COPY_WAITS;
  if (!sliced_call_is_under_way(copy->working)) {
    copy->max_rows = max_rows;
    copy->is_reading = true;
    sliced_call_begin(copy->working, read_rows, copy);
  }
  if (!copy->is_reading) return ROW_COPY_WAITS;
  if (!sliced_call_run(copy->working, ns)) return ROW_COPY_SEARCHES;
  return copy->is_reading ? ROW_COPY_READS : ROW_COPY_WAITS;
}

/* The size of what comes next into the table, once it is known. */
static int next_insert(struct row_copy *copy, uint64_t *rows, uint64_t max_rows, uint64_t *size) {
  for (;;) {
    int rc = read_on(copy, rows, max_rows);
    if (rc != SQLITE_ROW) return rc;
    if (copy->groups == NULL) {
      *size = row_size(copy->select, copy->columns);
      return SQLITE_ROW;
    }
    if (row_groups_next(copy->groups, VALUE_OVERHEAD, size)) return SQLITE_ROW;
    copy->emptying = false;
    if (copy->exhausted) return SQLITE_DONE;
  }
}

static int copy_slice(struct row_copy *copy) {
  struct row_copy_slice *slice = &copy->slice;
  *slice = (struct row_copy_slice){0};
  uint64_t bytes = 0;
  while (slice->rows < copy->max_rows) {
    uint64_t size;
    int rc = next_insert(copy, &slice->rows, copy->max_rows, &size);
    slice->done = rc == SQLITE_DONE;
    if (rc != SQLITE_ROW) return slice->done ? SQLITE_OK : rc;
    bool waits = bytes + size > copy->max_bytes;
    if (copy->groups == NULL) copy->waits = waits;
    if (waits) {
      slice->waiting = size;
      return SQLITE_OK;
    }
    bytes += size;
    rc = copy->groups == NULL ? bind_row(copy) : row_groups_bind(copy->groups, copy->insert);
    if (rc == SQLITE_OK) rc = insert(copy);
    if (rc != SQLITE_OK) return note(copy, rc, copy->insert);
    slice->rows++;
  }
  return SQLITE_OK;
}

static void step(void *argument) {
  copy_slice(argument);
}

int row_copy_step(struct row_copy *copy, uint64_t max_rows, uint64_t max_bytes, uint64_t ns,
                  struct row_copy_slice *slice) {
  *slice = (struct row_copy_slice){0};
  if (copy->error == SQLITE_OK) {
    /* A read that is under way comes first, and then the step takes its time. */
    bool reads = sliced_call_is_under_way(copy->working) && copy->is_reading;
    if (reads && !sliced_call_run(copy->working, ns)) return SQLITE_OK;
    if (!sliced_call_is_under_way(copy->working) && copy->error == SQLITE_OK) {
      copy->max_rows = max_rows;
      copy->max_bytes = max_bytes;
      copy->is_reading = false;
      sliced_call_begin(copy->working, step, copy);
    }
    if (sliced_call_run(copy->working, ns)) *slice = copy->slice;
  }
  /* Its statements go, so that no read transaction outlives the failure. */
  if (copy->error != SQLITE_OK) row_copy_end(copy);
  return copy->error;
}

#include "addon_statement.h"

#include <stdint.h>
#include <stdlib.h>

#include "addon_util.h"
#include "slot.h"
#include "sqlite3ext.h"
#include "sqlite_names.h"
SQLITE_EXTENSION_INIT3

char *addon_text(napi_env env, napi_value value, const char *name, size_t *length) {
  if (napi_get_value_string_utf8(env, value, NULL, 0, length) != napi_ok) {
    util_throw(env, "ERR_INVALID_ARG", "%s must be a string", name);
    return NULL;
  }
  char *text = malloc(*length + 1);
  if (text == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return NULL;
  }
  napi_get_value_string_utf8(env, value, text, *length + 1, length);
  return text;
}

sqlite3 *addon_connection(napi_env env, napi_value object) {
  napi_value value;
  int64_t slot;
  if (!util_get(env, object, "slot", &value) || !util_int(env, value, "slot", 1, SLOT_MAX, &slot)) return NULL;
  bool own;
  sqlite3 *db = slot_connection(slot, &own);
  if (db != NULL && own) return db;
  const char *problem = db == NULL ? "names no open connection" : "belongs to a connection of another thread";
  util_throw(env, "ERR_HANDLE", "slot %lld %s", (long long)slot, problem);
  return NULL;
}

/* Binds one SqlValue. False after throwing. */
static bool bind(napi_env env, sqlite3_stmt *statement, int position, napi_value value) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  int rc;
  if (type == napi_null) {
    rc = sqlite3_bind_null(statement, position);
  } else if (type == napi_bigint) {
    int64_t integer;
    bool lossless;
    napi_get_value_bigint_int64(env, value, &integer, &lossless);
    if (!lossless) {
      util_throw(env, "ERR_OUT_OF_RANGE", "parameter %d does not fit an SQLite integer", position);
      return false;
    }
    rc = sqlite3_bind_int64(statement, position, integer);
  } else if (type == napi_number) {
    double number;
    napi_get_value_double(env, value, &number);
    rc = sqlite3_bind_double(statement, position, number);
  } else if (type == napi_string) {
    size_t length;
    char *text = addon_text(env, value, "parameter", &length);
    if (text == NULL) return false;
    rc = sqlite3_bind_text64(statement, position, text, length, free, SQLITE_UTF8);
  } else {
    const uint8_t *bytes;
    size_t length;
    if (!util_bytes(env, value, "parameter", &bytes, &length)) return false;
    rc = sqlite3_bind_blob64(statement, position, length == 0 ? (const void *)"" : bytes, length, SQLITE_TRANSIENT);
  }
  if (rc == SQLITE_OK) return true;
  util_throw(env, sqlite_code_name(rc), "parameter %d: %s", position, sqlite3_errstr(rc));
  return false;
}

bool addon_bind_params(napi_env env, sqlite3_stmt *statement, napi_value object) {
  napi_value params;
  uint32_t count;
  if (!util_get(env, object, "params", &params) || !util_array(env, params, "params", &count)) return false;
  if (sqlite3_bind_parameter_count(statement) != (int)count) {
    util_throw(env, "SQLITE_RANGE", "the statement takes %d parameters, %u are given",
               sqlite3_bind_parameter_count(statement), count);
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value value;
    if (napi_get_element(env, params, i, &value) != napi_ok) return false;
    if (!bind(env, statement, (int)i + 1, value)) return false;
  }
  return true;
}

sqlite3_stmt *addon_prepare_select(napi_env env, napi_value object, int columns) {
  napi_value value;
  sqlite3 *db = addon_connection(env, object);
  if (db == NULL || !util_get(env, object, "sql", &value)) return NULL;
  size_t length;
  char *sql = addon_text(env, value, "sql", &length);
  if (sql == NULL) return NULL;
  sqlite3_stmt *statement = NULL;
  const char *tail = NULL;
  int rc = length > INT32_MAX ? SQLITE_TOOBIG : sqlite3_prepare_v2(db, sql, (int)length, &statement, &tail);
  bool single = rc == SQLITE_OK && statement != NULL && tail == sql + length && sqlite3_stmt_readonly(statement) &&
                sqlite3_column_count(statement) == columns;
  free(sql);
  if (rc != SQLITE_OK) {
    util_throw(env, sqlite_code_name(rc), "%s", rc == SQLITE_TOOBIG ? "statement too long" : sqlite3_errmsg(db));
  } else if (!single) {
    util_throw(env, "SQLITE_MISUSE", "expected one SELECT statement of %d columns", columns);
  } else {
    return statement;
  }
  sqlite3_finalize(statement);
  return NULL;
}

#include "row_value.h"

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

void row_value(sqlite3_stmt *statement, int column, struct record_value *value) {
  int type = sqlite3_column_type(statement, column);
  switch (type) {
    case SQLITE_INTEGER:
      *value = (struct record_value){.kind = RECORD_INTEGER, .integer = sqlite3_column_int64(statement, column)};
      break;
    case SQLITE_FLOAT:
      *value = (struct record_value){.kind = RECORD_REAL, .real = sqlite3_column_double(statement, column)};
      break;
    case SQLITE_TEXT:
    case SQLITE_BLOB: {
      /* No terminating NUL is wanted; asking for the size first settles the encoding. */
      uint32_t length = (uint32_t)sqlite3_column_bytes(statement, column);
      const uint8_t *bytes = sqlite3_column_blob(statement, column);
      *value = (struct record_value){.kind = type == SQLITE_TEXT ? RECORD_TEXT : RECORD_BLOB,
                                     .bytes = bytes == NULL ? (const uint8_t *)"" : bytes,
                                     .length = bytes == NULL ? 0 : length};
      break;
    }
    default: *value = (struct record_value){.kind = RECORD_NULL}; break;
  }
}

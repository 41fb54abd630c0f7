/* Values of a statement's current row as records take them. */
#ifndef EVENTD_ROW_VALUE_H
#define EVENTD_ROW_VALUE_H

#include "record.h"
#include "sqlite3.h"

/* The bytes of text and blobs are SQLite's, valid until the statement steps on; never NULL. */
void row_value(sqlite3_stmt *statement, int column, struct record_value *value);

#endif

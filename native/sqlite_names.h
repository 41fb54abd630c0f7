/* Names of SQLite result codes, as better-sqlite3 shows them in `error.code`. */
#ifndef EVENTD_SQLITE_NAMES_H
#define EVENTD_SQLITE_NAMES_H

/* The extended code's name where it tells an operator more, else the primary code's. */
const char *sqlite_code_name(int code);

#endif

#include "sqlite_names.h"

#include <stddef.h>

#include "sqlite3.h"

#define NAME(code) {code, #code}

static const struct {
  int code;
  const char *name;
} names[] = {
    NAME(SQLITE_ERROR),          NAME(SQLITE_INTERNAL),      NAME(SQLITE_PERM),
    NAME(SQLITE_ABORT),          NAME(SQLITE_BUSY),          NAME(SQLITE_LOCKED),
    NAME(SQLITE_NOMEM),          NAME(SQLITE_READONLY),      NAME(SQLITE_INTERRUPT),
    NAME(SQLITE_IOERR),          NAME(SQLITE_CORRUPT),       NAME(SQLITE_NOTFOUND),
    NAME(SQLITE_FULL),           NAME(SQLITE_CANTOPEN),      NAME(SQLITE_PROTOCOL),
    NAME(SQLITE_SCHEMA),         NAME(SQLITE_TOOBIG),        NAME(SQLITE_CONSTRAINT),
    NAME(SQLITE_MISMATCH),       NAME(SQLITE_MISUSE),        NAME(SQLITE_NOLFS),
    NAME(SQLITE_AUTH),           NAME(SQLITE_RANGE),         NAME(SQLITE_NOTADB),
    NAME(SQLITE_BUSY_RECOVERY),  NAME(SQLITE_BUSY_SNAPSHOT), NAME(SQLITE_CORRUPT_VTAB),
    NAME(SQLITE_CORRUPT_INDEX),  NAME(SQLITE_IOERR_READ),    NAME(SQLITE_IOERR_SHORT_READ),
    NAME(SQLITE_IOERR_WRITE),    NAME(SQLITE_IOERR_FSYNC),   NAME(SQLITE_IOERR_LOCK),
    NAME(SQLITE_IOERR_SHMOPEN),  NAME(SQLITE_IOERR_SHMSIZE), NAME(SQLITE_IOERR_SHMMAP),
    NAME(SQLITE_IOERR_NOMEM),    NAME(SQLITE_IOERR_CORRUPTFS), NAME(SQLITE_READONLY_CANTINIT),
};

static const char *lookup(int code) {
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (names[i].code == code) return names[i].name;
  }
  return NULL;
}

const char *sqlite_code_name(int code) {
  const char *name = lookup(code);
  if (name == NULL) name = lookup(code & 0xff);
  return name == NULL ? "SQLITE_ERROR" : name;
}

/* What SQL functions on event payloads share (sqlite_payload.c says what their arguments are). */
#ifndef EVENTD_SQLITE_PAYLOAD_H
#define EVENTD_SQLITE_PAYLOAD_H

#include <stdbool.h>

#include "msgpack.h"
#include "sqlite3.h"

/* Looks argument 1 up in argument 0. False: nothing there. A constant path is parsed once per statement. */
bool payload_find(sqlite3_context *context, sqlite3_value **argv, struct msgpack_item *item);

#endif

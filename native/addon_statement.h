/* Statements that JavaScript describes as `{slot, sql, params}`, read for the parts of the addon that run them. */
#ifndef EVENTD_ADDON_STATEMENT_H
#define EVENTD_ADDON_STATEMENT_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>

#include "sqlite3.h"

/* UTF-8 of a string that may hold NUL; malloc'ed with a NUL behind it. NULL after throwing. */
char *addon_text(napi_env env, napi_value value, const char *name, size_t *length);

/* The connection that `object.slot` names, if the calling thread opened it. NULL after throwing. */
sqlite3 *addon_connection(napi_env env, napi_value object);

/* Binds `object.params`, which must be as many as the statement takes. False after throwing. */
bool addon_bind_params(napi_env env, sqlite3_stmt *statement, napi_value object);

/*
 * Prepares `object.sql`, one read-only statement with `columns` columns, on the connection of
 * `object.slot`. NULL after throwing.
 */
sqlite3_stmt *addon_prepare_select(napi_env env, napi_value object, int columns);

#endif

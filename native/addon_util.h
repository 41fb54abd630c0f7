/*
 * Shared N-API helpers: argument reading, object building, errors with a `code`.
 *
 * Every reader returns false (or NULL) after throwing; the caller then returns NULL at once.
 */
#ifndef EVENTD_ADDON_UTIL_H
#define EVENTD_ADDON_UTIL_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "handle.h"

/* Throws an Error with this `code`; returns NULL so that callers can `return util_throw(...)`. */
napi_value util_throw(napi_env env, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Throws an Error whose `code` is the name of `error` and whose message is "<name>: <what>". */
napi_value util_throw_errno(napi_env env, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads exactly `count` arguments (missing ones are undefined); optionally the callback's data. */
bool util_args(napi_env env, napi_callback_info info, size_t count, napi_value *argv, void **data);

/* An integral JavaScript number in [min, max]. */
bool util_int(napi_env env, napi_value value, const char *name, int64_t min, int64_t max,
              int64_t *out);
/* A finite number. */
bool util_double(napi_env env, napi_value value, const char *name, double *out);
bool util_bool(napi_env env, napi_value value, const char *name, bool *out);
/* A bigint in the range of u64. */
bool util_u64(napi_env env, napi_value value, const char *name, uint64_t *out);
/* A Uint8Array (or Buffer), viewed in place: valid until control returns to JavaScript. */
bool util_bytes(napi_env env, napi_value value, const char *name, const uint8_t **data,
                size_t *length);
/* A string without NUL as malloc'ed UTF-8; the caller frees it. NULL after throwing. */
char *util_string(napi_env env, napi_value value, const char *name);

bool util_is_null(napi_env env, napi_value value);
/* A property; throws when it is undefined. */
bool util_get(napi_env env, napi_value object, const char *key, napi_value *out);
/* Length of an array; throws when it is none. */
bool util_array(napi_env env, napi_value value, const char *name, uint32_t *length);

napi_value util_object(napi_env env);
napi_value util_new_u64(napi_env env, uint64_t value);
napi_value util_new_double(napi_env env, double value);
napi_value util_new_string(napi_env env, const char *value);
napi_value util_null(napi_env env);
napi_value util_undefined(napi_env env);
void util_set(napi_env env, napi_value object, const char *key, napi_value value);
void util_set_u64(napi_env env, napi_value object, const char *key, uint64_t value);
void util_set_double(napi_env env, napi_value object, const char *key, double value);
void util_set_bool(napi_env env, napi_value object, const char *key, bool value);
void util_set_string(napi_env env, napi_value object, const char *key, const char *value);

/*
 * Acquires the object behind a handle argument; throws ERR_HANDLE when it is stale or foreign.
 * The caller ends with handle_release(*handle).
 */
void *util_handle(napi_env env, enum handle_kind kind, napi_value value, int64_t *handle);
napi_value util_new_handle(napi_env env, int64_t handle);

/* Defines an exported function. */
void util_export(napi_env env, napi_value exports, const char *name, napi_callback callback);

#endif

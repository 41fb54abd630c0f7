#include "addon_util.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 512 };

static napi_value throw_message(napi_env env, const char *code, const char *message) {
  bool pending = false;
  /* A value reader may have thrown already; that error tells more. */
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return NULL;
  napi_throw_error(env, code, message);
  return NULL;
}

napi_value util_throw(napi_env env, const char *code, const char *format, ...) {
  char message[MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return throw_message(env, code, message);
}

napi_value util_throw_errno(napi_env env, int error, const char *format, ...) {
  char message[MESSAGE_BYTES];
  const char *known = strerrorname_np(error);
  char number[24];
  snprintf(number, sizeof number, "E%d", error);
  const char *code = known != NULL ? known : number;
  int at = snprintf(message, sizeof message, "%s: ", code);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message + at, sizeof message - (size_t)at, format, arguments);
  va_end(arguments);
  return throw_message(env, code, message);
}

static bool wrong_type(napi_env env, const char *name, const char *expected) {
  util_throw(env, "ERR_INVALID_ARG_TYPE", "%s must be %s", name, expected);
  return false;
}

bool util_args(napi_env env, napi_callback_info info, size_t count, napi_value *argv, void **data) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, argv, NULL, data) == napi_ok) return true;
  util_throw(env, "ERR_INTERNAL", "no callback info");
  return false;
}

bool util_double(napi_env env, napi_value value, const char *name, double *out) {
  if (napi_get_value_double(env, value, out) != napi_ok || !isfinite(*out)) {
    return wrong_type(env, name, "a finite number");
  }
  return true;
}

bool util_int(napi_env env, napi_value value, const char *name, int64_t min, int64_t max,
              int64_t *out) {
  double number;
  if (!util_double(env, value, name, &number)) return false;
  if (number != trunc(number)) return wrong_type(env, name, "an integer");
  if (number < (double)min || number > (double)max) {
    util_throw(env, "ERR_OUT_OF_RANGE", "%s must be from %lld to %lld", name, (long long)min,
               (long long)max);
    return false;
  }
  *out = (int64_t)number;
  return true;
}

bool util_bool(napi_env env, napi_value value, const char *name, bool *out) {
  if (napi_get_value_bool(env, value, out) == napi_ok) return true;
  return wrong_type(env, name, "a boolean");
}

bool util_u64(napi_env env, napi_value value, const char *name, uint64_t *out) {
  bool lossless = false;
  if (napi_get_value_bigint_uint64(env, value, out, &lossless) != napi_ok) {
    return wrong_type(env, name, "a bigint");
  }
  if (lossless) return true;
  util_throw(env, "ERR_OUT_OF_RANGE", "%s must be from 0n to 2n ** 64n - 1n", name);
  return false;
}

bool util_bytes(napi_env env, napi_value value, const char *name, const uint8_t **data,
                size_t *length) {
  bool typed = false;
  napi_typedarray_type type;
  void *bytes = NULL;
  if (napi_is_typedarray(env, value, &typed) != napi_ok || !typed ||
      napi_get_typedarray_info(env, value, &type, length, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array) {
    return wrong_type(env, name, "a Uint8Array");
  }
  /* An empty view may have no memory; a valid address keeps memcpy happy. */
  *data = bytes != NULL ? bytes : (const uint8_t *)"";
  return true;
}

char *util_string(napi_env env, napi_value value, const char *name) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    wrong_type(env, name, "a string");
    return NULL;
  }
  char *text = malloc(length + 1);
  if (text == NULL) {
    util_throw(env, "ENOMEM", "no memory for %s", name);
    return NULL;
  }
  napi_get_value_string_utf8(env, value, text, length + 1, &length);
  if (strlen(text) != length) {
    free(text);
    wrong_type(env, name, "a string without NUL");
    return NULL;
  }
  return text;
}

bool util_is_null(napi_env env, napi_value value) {
  napi_valuetype type;
  return napi_typeof(env, value, &type) == napi_ok && type == napi_null;
}

bool util_get(napi_env env, napi_value object, const char *key, napi_value *out) {
  napi_valuetype type;
  if (napi_typeof(env, object, &type) != napi_ok || type != napi_object) {
    return wrong_type(env, key, "a property of an object");
  }
  if (napi_get_named_property(env, object, key, out) != napi_ok) return false;
  if (napi_typeof(env, *out, &type) == napi_ok && type != napi_undefined) return true;
  util_throw(env, "ERR_INVALID_ARG_TYPE", "%s is missing", key);
  return false;
}

bool util_array(napi_env env, napi_value value, const char *name, uint32_t *length) {
  bool array = false;
  if (napi_is_array(env, value, &array) != napi_ok || !array) {
    return wrong_type(env, name, "an array");
  }
  return napi_get_array_length(env, value, length) == napi_ok;
}

napi_value util_object(napi_env env) {
  napi_value object = NULL;
  napi_create_object(env, &object);
  return object;
}

napi_value util_new_u64(napi_env env, uint64_t value) {
  napi_value result = NULL;
  napi_create_bigint_uint64(env, value, &result);
  return result;
}

napi_value util_new_double(napi_env env, double value) {
  napi_value result = NULL;
  napi_create_double(env, value, &result);
  return result;
}

napi_value util_new_string(napi_env env, const char *value) {
  napi_value result = NULL;
  napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &result);
  return result;
}

napi_value util_null(napi_env env) {
  napi_value result = NULL;
  napi_get_null(env, &result);
  return result;
}

napi_value util_undefined(napi_env env) {
  napi_value result = NULL;
  napi_get_undefined(env, &result);
  return result;
}

void util_set(napi_env env, napi_value object, const char *key, napi_value value) {
  napi_set_named_property(env, object, key, value);
}

void util_set_u64(napi_env env, napi_value object, const char *key, uint64_t value) {
  util_set(env, object, key, util_new_u64(env, value));
}

void util_set_double(napi_env env, napi_value object, const char *key, double value) {
  util_set(env, object, key, util_new_double(env, value));
}

void util_set_bool(napi_env env, napi_value object, const char *key, bool value) {
  napi_value boolean = NULL;
  napi_get_boolean(env, value, &boolean);
  util_set(env, object, key, boolean);
}

void util_set_string(napi_env env, napi_value object, const char *key, const char *value) {
  util_set(env, object, key, util_new_string(env, value));
}

void *util_handle(napi_env env, enum handle_kind kind, napi_value value, int64_t *handle) {
  static const char *const names[] = {
      [HANDLE_RING] = "ring",       [HANDLE_PRODUCER] = "producer", [HANDLE_CHANNEL] = "channel",
      [HANDLE_SEGMENT] = "segment", [HANDLE_DRAIN] = "drain",       [HANDLE_CURSOR] = "cursor",
      [HANDLE_RECEIVER] = "receiver", [HANDLE_DATAGRAMS] = "datagram batch",
      [HANDLE_SERIES_CACHE] = "series cache",
  };
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= 1 &&
      number <= 9007199254740991.0) {
    *handle = (int64_t)number;
    void *object = handle_acquire(kind, *handle);
    if (object != NULL) return object;
  }
  util_throw(env, "ERR_HANDLE", "no such %s", names[kind]);
  return NULL;
}

napi_value util_new_handle(napi_env env, int64_t handle) {
  napi_value result = NULL;
  napi_create_int64(env, handle, &result);
  return result;
}

void util_export(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function) == napi_ok) {
    napi_set_named_property(env, exports, name, function);
  }
}

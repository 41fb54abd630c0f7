/* KACS: kacsOpenPeerToken, kacsAccessCheck. Checks run on a worker thread: the kernel takes locks and
 * writes audit records meanwhile (ACL-60). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "kacs.h"

struct job {
  napi_async_work work;
  napi_deferred deferred;
  struct kacs_check check;
  int error; /* 0 or an errno */
  struct kacs_access_result *results;
  uint8_t *sd, *claims, *context;
  struct kacs_object_entry *nodes;
};

static void job_free(struct job *job) {
  free(job->results);
  free(job->sd);
  free(job->claims);
  free(job->context);
  free(job->nodes);
  free(job);
}

static napi_value open_peer_token(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t socket;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (!util_int(env, argv[0], "fd", 0, INT32_MAX, &socket)) return NULL;
  int token = kacs_open_peer_token((int)socket);
  if (token < 0) return util_throw_errno(env, -token, "kacs_open_peer_token");
  return util_new_double(env, token);
}

static void execute(napi_env env, void *data) {
  (void)env;
  struct job *job = data;
  job->error = -kacs_check(&job->check, job->results);
}

static napi_value verdicts_of(napi_env env, const struct job *job) {
  uint32_t count = job->check.count > 0 ? job->check.count : 1;
  napi_value list = NULL, verdict = NULL;
  napi_create_array_with_length(env, count, &list);
  for (uint32_t i = 0; i < count; i++) {
    napi_get_boolean(env, job->results[i].status == 0, &verdict);
    napi_set_element(env, list, i, verdict);
  }
  return list;
}

static void complete(napi_env env, napi_status status, void *data) {
  struct job *job = data;
  if (status != napi_ok) job->error = ECANCELED;
  if (job->error == 0) {
    napi_resolve_deferred(env, job->deferred, verdicts_of(env, job));
  } else {
    napi_value error = NULL;
    util_throw_errno(env, job->error, "kacs_access_check");
    napi_get_and_clear_last_exception(env, &error);
    napi_reject_deferred(env, job->deferred, error);
  }
  napi_delete_async_work(env, job->work);
  job_free(job);
}

/* A copy that no garbage collector moves and no caller changes; NULL and 0 for no bytes. */
static bool copy_bytes(napi_env env, napi_value value, const char *name, uint8_t **copy,
                       uint32_t *length) {
  const uint8_t *data;
  size_t size;
  if (!util_bytes(env, value, name, &data, &size)) return false;
  *length = (uint32_t)(size > UINT32_MAX ? UINT32_MAX : size);
  if (size == 0) return true;
  *copy = malloc(size);
  if (*copy == NULL) {
    util_throw_errno(env, ENOMEM, "no memory for an access check");
    return false;
  }
  memcpy(*copy, data, size);
  return true;
}

static bool read_u32(napi_env env, napi_value object, const char *name, uint32_t *out) {
  napi_value value;
  int64_t number;
  if (!util_get(env, object, name, &value)) return false;
  if (!util_int(env, value, name, 0, UINT32_MAX, &number)) return false;
  *out = (uint32_t)number;
  return true;
}

static bool read_mapping(napi_env env, napi_value options, uint32_t mapping[4]) {
  static const char *const names[] = {"read", "write", "execute", "all"};
  napi_value object;
  if (!util_get(env, options, "mapping", &object)) return false;
  for (int i = 0; i < 4; i++) {
    if (!read_u32(env, object, names[i], &mapping[i])) return false;
  }
  return true;
}

static bool read_job(napi_env env, napi_value options, struct job *job) {
  struct kacs_check *check = &job->check;
  napi_value token, sd, nodes, claims, context;
  int64_t fd;
  uint32_t bytes = 0;
  if (!util_get(env, options, "token", &token) || !util_get(env, options, "descriptor", &sd) ||
      !util_get(env, options, "nodes", &nodes) || !util_get(env, options, "claims", &claims) ||
      !util_get(env, options, "context", &context)) {
    return false;
  }
  if (!util_int(env, token, "token", 0, INT32_MAX, &fd)) return false;
  if (!read_u32(env, options, "desired", &check->desired)) return false;
  if (!read_mapping(env, options, check->mapping)) return false;
  if (!copy_bytes(env, sd, "descriptor", &job->sd, &check->sd_len) ||
      !copy_bytes(env, claims, "claims", &job->claims, &check->claims_len) ||
      !copy_bytes(env, context, "context", &job->context, &check->context_len) ||
      !copy_bytes(env, nodes, "nodes", (uint8_t **)&job->nodes, &bytes)) {
    return false;
  }
  if (bytes % sizeof *job->nodes != 0) {
    util_throw(env, "ERR_INVALID_ARG_VALUE", "nodes must be entries of %zu bytes", sizeof *job->nodes);
    return false;
  }
  check->token_fd = (int)fd;
  check->count = bytes / sizeof *job->nodes;
  check->sd = job->sd;
  check->nodes = job->nodes;
  check->claims = job->claims;
  check->context = job->context;
  job->results = calloc(check->count > 0 ? check->count : 1, sizeof *job->results);
  if (job->results == NULL) util_throw_errno(env, ENOMEM, "no memory for an access check");
  return job->results != NULL;
}

static napi_value access_check(napi_env env, napi_callback_info call) {
  napi_value argv[1], promise = NULL;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct job *job = calloc(1, sizeof *job);
  if (job == NULL) return util_throw_errno(env, ENOMEM, "no memory for an access check");
  if (!read_job(env, argv[0], job)) {
    job_free(job);
    return NULL;
  }
  napi_value name = util_new_string(env, "eventd.kacsAccessCheck");
  if (napi_create_async_work(env, NULL, name, execute, complete, job, &job->work) != napi_ok) {
    job_free(job);
    return util_throw(env, "ERR_INTERNAL", "no worker for an access check");
  }
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok ||
      napi_queue_async_work(env, job->work) != napi_ok) {
    napi_delete_async_work(env, job->work);
    job_free(job);
    return util_throw(env, "ERR_INTERNAL", "no worker for an access check");
  }
  return promise;
}

napi_value addon_kacs_init(napi_env env, napi_value exports) {
  util_export(env, exports, "kacsOpenPeerToken", open_peer_token);
  util_export(env, exports, "kacsAccessCheck", access_check);
  return exports;
}

/*
 * LCS: lcsReadValues, lcsReadValue, lcsListSubkeys, lcsSetValue, lcsDeleteValue, lcsCreateKey, lcsWatch,
 * lcsReadWatch. All but the last run on a thread of their own: a registry that hangs holds a call for
 * half a minute, in which neither libuv's few threads may be used up nor a stop be kept waiting, as
 * Node waits for libuv's.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "lcs.h"

struct job;
/* Runs on the job's thread; returns 0 or a negative errno, and leaves the name of the call that failed. */
typedef int (*job_work)(struct job *job);
/* What the promise resolves to. */
typedef napi_value (*job_result)(napi_env env, const struct job *job);

/*
 * Shared by its thread and its threadsafe function, which Node ends with the environment while the
 * call may still hang.
 */
struct job {
  pthread_mutex_t lock;
  int references;                /* under the lock */
  napi_threadsafe_function done; /* under the lock; NULL once it must not be used */
  napi_deferred deferred;
  job_work work;
  job_result result;
  char *path, *name;
  uint8_t *data;
  uint32_t data_len, type;
  const char *step; /* the call that failed */
  int error;
  int fd; /* of a watch, until JavaScript has it */
  bool created;
  struct lcs_answer answer;
};

static void job_free(struct job *job) {
  if (job->fd >= 0) close(job->fd);
  free(job->path);
  free(job->name);
  free(job->data);
  free(job->answer.bytes);
  pthread_mutex_destroy(&job->lock);
  free(job);
}

/* Gives up one share; what held it must not touch the job any more. */
static void job_unref(struct job *job) {
  pthread_mutex_lock(&job->lock);
  bool last = --job->references == 0;
  pthread_mutex_unlock(&job->lock);
  if (last) job_free(job);
}

static struct lcs_text name_of(const struct job *job) {
  return (struct lcs_text){(const uint8_t *)job->name, (uint32_t)strlen(job->name)};
}

static struct lcs_text data_of(const struct job *job) {
  return (struct lcs_text){job->data, job->data_len};
}

/* ---- Calls, on the job's thread ---- */

static int open_for(struct job *job, uint32_t access) {
  job->step = "reg_open_key";
  return lcs_open_key(job->path, access);
}

static int end(int key, int error) {
  close(key);
  return error;
}

static int read_values(struct job *job) {
  int key = open_for(job, LCS_KEY_READ);
  if (key < 0) return key;
  job->step = "REG_QUERY_VALUES_BATCH";
  return end(key, lcs_query_values(key, &job->answer));
}

static int read_value(struct job *job) {
  int key = open_for(job, LCS_KEY_READ);
  if (key < 0) return key;
  job->step = "REG_QUERY_VALUE";
  return end(key, lcs_query_value(key, name_of(job), &job->answer));
}

static int list_subkeys(struct job *job) {
  int key = open_for(job, LCS_KEY_READ);
  if (key < 0) return key;
  job->step = "REG_ENUM_SUBKEYS";
  return end(key, lcs_list_subkeys(key, &job->answer));
}

/* Writes go over a descriptor of their own that does not outlive them (HOST-34). */
static int set_value(struct job *job) {
  int key = open_for(job, LCS_KEY_SET_VALUE | LCS_KEY_CREATE_SUB_KEY);
  if (key < 0) return key;
  job->step = "REG_SET_VALUE";
  return end(key, lcs_set_value(key, name_of(job), job->type, data_of(job)));
}

static int delete_value(struct job *job) {
  int key = open_for(job, LCS_KEY_SET_VALUE | LCS_KEY_CREATE_SUB_KEY);
  if (key < 0) return key;
  job->step = "REG_DELETE_VALUE";
  return end(key, lcs_delete_value(key, name_of(job)));
}

static int create_key(struct job *job) {
  job->step = "reg_create_key";
  return lcs_create_key(job->path, &job->created);
}

static int watch(struct job *job) {
  job->step = "watch";
  job->fd = lcs_watch(job->path);
  return job->fd < 0 ? job->fd : 0;
}

static void *run(void *data) {
  struct job *job = data;
  job->error = -job->work(job);
  pthread_mutex_lock(&job->lock);
  /* A function that is closing has taken this thread off its list by itself. */
  if (job->done != NULL && napi_call_threadsafe_function(job->done, NULL, napi_tsfn_nonblocking) == napi_ok) {
    napi_release_threadsafe_function(job->done, napi_tsfn_release);
  }
  job->done = NULL;
  pthread_mutex_unlock(&job->lock);
  job_unref(job);
  return NULL;
}

/* ---- Results, on the JavaScript thread ---- */

static napi_value new_text(napi_env env, struct lcs_text text) {
  napi_value result = NULL;
  napi_create_string_utf8(env, text.length > 0 ? (const char *)text.bytes : "", text.length, &result);
  return result;
}

static napi_value new_bytes(napi_env env, const uint8_t *bytes, uint32_t length) {
  void *copy = NULL;
  napi_value buffer = NULL, result = NULL;
  if (napi_create_arraybuffer(env, length, &copy, &buffer) != napi_ok) return NULL;
  if (length > 0) memcpy(copy, bytes, length);
  napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &result);
  return result;
}

static napi_value new_value(napi_env env, napi_value name, uint32_t type, struct lcs_text data) {
  napi_value object = util_object(env);
  util_set(env, object, "name", name);
  util_set_double(env, object, "type", type);
  util_set(env, object, "data", new_bytes(env, data.bytes, data.length));
  return object;
}

static napi_value values_result(napi_env env, const struct job *job) {
  napi_value list = NULL;
  struct lcs_value value;
  uint32_t at = 0;
  napi_create_array(env, &list);
  for (uint32_t i = 0; i < job->answer.count && lcs_next_value(&job->answer, &at, &value); i++) {
    napi_set_element(env, list, i, new_value(env, new_text(env, value.name), value.type, value.data));
  }
  return list;
}

static napi_value value_result(napi_env env, const struct job *job) {
  struct lcs_text data = {job->answer.bytes, job->answer.length};
  return new_value(env, new_text(env, name_of(job)), job->answer.type, data);
}

static napi_value names_result(napi_env env, const struct job *job) {
  struct lcs_text names = {job->answer.bytes, job->answer.length}, name;
  napi_value list = NULL;
  uint32_t at = 0, i = 0;
  napi_create_array(env, &list);
  while (lcs_next_component(names, &at, &name)) napi_set_element(env, list, i++, new_text(env, name));
  return list;
}

static napi_value created_result(napi_env env, const struct job *job) {
  napi_value created = NULL;
  napi_get_boolean(env, job->created, &created);
  return created;
}

static napi_value watch_result(napi_env env, const struct job *job) {
  return util_new_double(env, job->fd);
}

static napi_value no_result(napi_env env, const struct job *job) {
  (void)job;
  return util_undefined(env);
}

static void throw_failure(napi_env env, int error, const char *step, const char *path) {
  const char *why = error == EPROTO ? ": the answer contradicts itself"
                    : error == E2BIG ? ": the answer is larger than any should be"
                                     : "";
  util_throw_errno(env, error, "%s %s%s", step, path, why);
}

static void complete(napi_env env, napi_value callback, void *context, void *data) {
  (void)callback;
  (void)data;
  /* Node makes such calls even after the finaliser: the context may be gone. */
  if (env == NULL) return;
  struct job *job = context;
  if (job->error == 0) {
    napi_resolve_deferred(env, job->deferred, job->result(env, job));
    job->fd = -1;
  } else {
    napi_value error = NULL;
    throw_failure(env, job->error, job->step, job->path);
    napi_get_and_clear_last_exception(env, &error);
    napi_reject_deferred(env, job->deferred, error);
  }
}

/* The function ends: after the result, or with the environment. */
static void gone(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct job *job = data;
  pthread_mutex_lock(&job->lock);
  job->done = NULL;
  pthread_mutex_unlock(&job->lock);
  job_unref(job);
}

/* ---- Starting ---- */

static int start_thread(struct job *job) {
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  /* Signals are the main thread's; here one would only interrupt a call. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread, &attributes, run, job);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}

static napi_value start(napi_env env, struct job *job, job_work work, job_result result) {
  napi_value promise = NULL, name = util_new_string(env, "eventd.lcs");
  job->work = work;
  job->result = result;
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, job, gone, job, complete,
                                      &job->done) != napi_ok) {
    job_free(job);
    return util_throw(env, "ERR_INTERNAL", "no thread for a registry call");
  }
  job->references = 2;
  /* The thread may be through with both of them before this one goes on. */
  napi_threadsafe_function done = job->done;
  int error = start_thread(job);
  if (error == 0) return promise;
  job_unref(job);
  napi_release_threadsafe_function(done, napi_tsfn_abort);
  return util_throw_errno(env, error, "no thread for a registry call");
}

/* A job about the key (and the value) that the first arguments name. NULL after throwing. */
static struct job *new_job(napi_env env, const napi_value *argv, bool with_name) {
  struct job *job = calloc(1, sizeof *job);
  if (job == NULL) {
    util_throw_errno(env, ENOMEM, "no memory for a registry call");
    return NULL;
  }
  pthread_mutex_init(&job->lock, NULL);
  job->fd = -1;
  job->path = util_string(env, argv[0], "key");
  if (job->path != NULL && with_name) job->name = util_string(env, argv[1], "name");
  if (job->path != NULL && (!with_name || job->name != NULL)) return job;
  job_free(job);
  return NULL;
}

#define CALL(function, count, with_name, work, result)                    \
  static napi_value function(napi_env env, napi_callback_info call) {     \
    napi_value argv[count];                                               \
    if (!util_args(env, call, count, argv, NULL)) return NULL;            \
    struct job *job = new_job(env, argv, with_name);                      \
    return job == NULL ? NULL : start(env, job, work, result);            \
  }

CALL(lcs_read_values_js, 1, false, read_values, values_result)
CALL(lcs_read_value_js, 2, true, read_value, value_result)
CALL(lcs_list_subkeys_js, 1, false, list_subkeys, names_result)
CALL(lcs_delete_value_js, 2, true, delete_value, no_result)
CALL(lcs_create_key_js, 1, false, create_key, created_result)
CALL(lcs_watch_js, 1, false, watch, watch_result)

static bool read_data(napi_env env, const napi_value *argv, struct job *job) {
  const uint8_t *bytes;
  size_t size;
  int64_t type;
  if (!util_int(env, argv[2], "type", 0, UINT32_MAX, &type)) return false;
  if (!util_bytes(env, argv[3], "data", &bytes, &size)) return false;
  if (size > LCS_MAX_ANSWER) {
    util_throw_errno(env, ENOSPC, "a value of %zu bytes", size);
    return false;
  }
  job->type = (uint32_t)type;
  job->data_len = (uint32_t)size;
  if (size == 0) return true;
  job->data = malloc(size);
  if (job->data == NULL) {
    util_throw_errno(env, ENOMEM, "no memory for a registry call");
    return false;
  }
  memcpy(job->data, bytes, size);
  return true;
}

static napi_value lcs_set_value_js(napi_env env, napi_callback_info call) {
  napi_value argv[4];
  if (!util_args(env, call, 4, argv, NULL)) return NULL;
  struct job *job = new_job(env, argv, true);
  if (job == NULL) return NULL;
  if (read_data(env, argv, job)) return start(env, job, set_value, no_result);
  job_free(job);
  return NULL;
}

static napi_value new_record(napi_env env, const struct lcs_record *record) {
  napi_value object = util_object(env), path = NULL;
  struct lcs_text component;
  uint32_t at = 0, i = 0;
  napi_create_array(env, &path);
  while (lcs_next_component(record->path, &at, &component)) {
    napi_set_element(env, path, i++, new_text(env, component));
  }
  util_set_double(env, object, "type", record->type);
  util_set(env, object, "path", path);
  util_set(env, object, "name", new_text(env, record->name));
  return object;
}

static napi_value lcs_read_watch_js(napi_env env, napi_callback_info call) {
  napi_value argv[1], list = NULL;
  int64_t fd;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (!util_int(env, argv[0], "fd", 0, INT32_MAX, &fd)) return NULL;
  struct lcs_answer records = {0};
  struct lcs_record record;
  int error = -lcs_read_watch((int)fd, &records);
  if (error != 0 && error != EAGAIN) {
    free(records.bytes);
    throw_failure(env, error, "read of", "a registry watch");
    return NULL;
  }
  uint32_t at = 0, i = 0;
  napi_create_array(env, &list);
  while (lcs_next_record(&records, &at, &record)) {
    napi_set_element(env, list, i++, new_record(env, &record));
  }
  /* What the rest would have told is lost, which is what an overflow says (HOST-43). */
  if (at != records.length) {
    record = (struct lcs_record){.type = LCS_OVERFLOW};
    napi_set_element(env, list, i, new_record(env, &record));
  }
  free(records.bytes);
  return list;
}

napi_value addon_lcs_init(napi_env env, napi_value exports) {
  util_export(env, exports, "lcsReadValues", lcs_read_values_js);
  util_export(env, exports, "lcsReadValue", lcs_read_value_js);
  util_export(env, exports, "lcsListSubkeys", lcs_list_subkeys_js);
  util_export(env, exports, "lcsSetValue", lcs_set_value_js);
  util_export(env, exports, "lcsDeleteValue", lcs_delete_value_js);
  util_export(env, exports, "lcsCreateKey", lcs_create_key_js);
  util_export(env, exports, "lcsWatch", lcs_watch_js);
  util_export(env, exports, "lcsReadWatch", lcs_read_watch_js);
  return exports;
}

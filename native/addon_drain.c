/*
 * Drain threads: drainStart .. drainStatus.
 *
 * Reports cross to the JavaScript thread through a bounded mailbox and one wake-up of a
 * thread-safe function. States (available, throttled/resumed, idle, pressure) replace their
 * undelivered predecessor; counts (lapped, corrupt, gap) are dropped when the mailbox is full,
 * because drainStatus and the gap records hold them anyway.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_report.h"
#include "addon_util.h"
#include "drain.h"

enum { COUNT_REPORTS = 64, RARE_REPORTS = 8, MAX_CHANNELS = 65536 };

struct mailbox {
  pthread_mutex_t lock;
  struct drain_report *items;
  size_t count, capacity;
  size_t counts; /* of `count`: lapped, corrupt, gap; at most COUNT_REPORTS */
  bool signalled;
};

struct drainer {
  atomic_uint references; /* the handle, the thread-safe function */
  struct drain *drain;
  /* Set to NULL under the mailbox's lock by the one who releases it, or by its dying environment. */
  napi_threadsafe_function call;
  struct mailbox mailbox;
  atomic_bool stopped;
  int64_t handle;
  int64_t *channels; /* acquired for the life of the drain */
  uint32_t channel_count;
};

static void drainer_unref(struct drainer *drainer) {
  if (atomic_fetch_sub(&drainer->references, 1) != 1) return;
  if (drainer->drain != NULL) drain_free(drainer->drain);
  pthread_mutex_destroy(&drainer->mailbox.lock);
  free(drainer->mailbox.items);
  free(drainer->channels);
  free(drainer);
}

/* ---- Reports ---- */

/* Reports of one state share a slot; -1 for reports that stand for themselves. */
static int state_of(enum drain_report_kind kind) {
  switch (kind) {
    case DRAIN_AVAILABLE:
    case DRAIN_IDLE:
    case DRAIN_PRESSURE:
    case DRAIN_THROTTLED:
      return (int)kind;
    case DRAIN_RESUMED:
      return DRAIN_THROTTLED;
    default:
      return -1;
  }
}

static bool is_count(enum drain_report_kind kind) {
  return kind == DRAIN_LAPPED || kind == DRAIN_CORRUPT || kind == DRAIN_GAP;
}

static void post(void *context, const struct drain_report *report) {
  struct drainer *drainer = context;
  struct mailbox *mailbox = &drainer->mailbox;
  int state = state_of(report->kind);
  pthread_mutex_lock(&mailbox->lock);
  /* It takes the place of its predecessor, but at its own time: the last word must come last. */
  for (size_t i = 0; state >= 0 && i < mailbox->count; i++) {
    struct drain_report *item = &mailbox->items[i];
    if (state_of(item->kind) != state || item->index != report->index) continue;
    mailbox->count--;
    memmove(item, item + 1, (mailbox->count - i) * sizeof *item);
    break;
  }
  bool count = is_count(report->kind);
  bool room = mailbox->count < mailbox->capacity && (!count || mailbox->counts < COUNT_REPORTS);
  if (room) {
    mailbox->items[mailbox->count++] = *report;
    mailbox->counts += count;
  }
  bool signal = !mailbox->signalled && mailbox->count > 0;
  if (signal) mailbox->signalled = true;
  pthread_mutex_unlock(&mailbox->lock);
  if (signal) napi_call_threadsafe_function(drainer->call, NULL, napi_tsfn_nonblocking);
}

/* Takes the thread-safe function away from everybody; the first caller also gives it up. */
static void disconnect(struct drainer *drainer, bool release) {
  pthread_mutex_lock(&drainer->mailbox.lock);
  if (release && drainer->call != NULL) {
    napi_release_threadsafe_function(drainer->call, napi_tsfn_release);
  }
  drainer->call = NULL;
  pthread_mutex_unlock(&drainer->mailbox.lock);
}

/* Asks for another delivery, unless any thread has stopped the drain meanwhile. */
static void deliver_again(struct drainer *drainer) {
  pthread_mutex_lock(&drainer->mailbox.lock);
  if (drainer->call != NULL) {
    napi_call_threadsafe_function(drainer->call, NULL, napi_tsfn_nonblocking);
  }
  pthread_mutex_unlock(&drainer->mailbox.lock);
}

/* Takes the oldest report; false (and the next post signals again) when there is none. */
static bool next_report(struct mailbox *mailbox, struct drain_report *report) {
  pthread_mutex_lock(&mailbox->lock);
  bool any = mailbox->count > 0;
  if (any) {
    *report = mailbox->items[0];
    mailbox->count--;
    mailbox->counts -= is_count(report->kind);
    memmove(mailbox->items, mailbox->items + 1, mailbox->count * sizeof *mailbox->items);
  } else {
    mailbox->signalled = false;
  }
  pthread_mutex_unlock(&mailbox->lock);
  return any;
}

/* On the JavaScript thread. `env` is NULL while the environment goes down. */
static void deliver(napi_env env, napi_value callback, void *context, void *unused) {
  (void)unused;
  /* Node makes such calls even after the finaliser: the context may be gone. */
  if (env == NULL) return;
  struct drainer *drainer = context;
  struct drain_report report;
  /* One mailbox full per turn; the event loop must get its share. */
  for (size_t i = 0; i < drainer->mailbox.capacity; i++) {
    if (!next_report(&drainer->mailbox, &report)) return;
    if (atomic_load(&drainer->stopped)) continue;
    napi_handle_scope scope;
    napi_open_handle_scope(env, &scope);
    napi_value argument = drain_report_object(env, &report);
    napi_status status =
        napi_call_function(env, util_undefined(env), callback, 1, &argument, NULL);
    napi_close_handle_scope(env, scope);
    if (status != napi_ok) break; /* the exception surfaces when we return */
  }
  deliver_again(drainer);
}

static void finalize_call(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  drainer_unref(data);
}

/* ---- Stopping ---- */

static void close_ring(void *context, struct ring *ring) {
  (void)context;
  int64_t handle = ring->handle;
  handle_close(HANDLE_RING, handle);
  handle_release(handle);
}

/* Joins the thread and gives up ring and channels. */
static void stop(struct drainer *drainer) {
  bool first = !atomic_exchange(&drainer->stopped, true);
  drain_stop(drainer->drain);
  if (first) {
    for (uint32_t i = 0; i < drainer->channel_count; i++) handle_release(drainer->channels[i]);
  }
}

static void destroy_drainer(void *object) { drainer_unref(object); }

/*
 * The environment goes down (worker.terminate): the thread must be gone before its thread-safe
 * function is. Cleanup hooks run in reverse order, and this one was added after that function.
 */
static void on_env_cleanup(void *argument) {
  struct drainer *drainer = argument;
  stop(drainer);
  /* The environment ends the function by itself; a stop from another thread must not touch it. */
  disconnect(drainer, false);
  handle_close(HANDLE_DRAIN, drainer->handle);
}

/* ---- Starting ---- */

struct start_arguments {
  struct ring *ring;
  int64_t ring_handle;
  int64_t cpu, elevated, emergency;
  uint64_t last_sequence, last_ts;
  bool has_last_ts;
  struct sequence_range *covered; /* view of the typed array */
  size_t covered_count;
  struct channel **channels;
};

static bool read_covered(napi_env env, napi_value options, struct start_arguments *arguments) {
  napi_value value;
  if (!util_get(env, options, "covered", &value)) return false;
  bool typed = false;
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_is_typedarray(env, value, &typed) != napi_ok || !typed ||
      napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok ||
      type != napi_biguint64_array || length % 2 != 0) {
    util_throw(env, "ERR_INVALID_ARG_TYPE", "covered must be a BigUint64Array of pairs");
    return false;
  }
  arguments->covered = data;
  arguments->covered_count = length / 2;
  if (sequence_ranges_valid(arguments->last_sequence, arguments->covered, length / 2)) return true;
  util_throw_errno(env, EINVAL, "covered must be sorted, disjoint and above lastSequence");
  return false;
}

static bool read_channels(napi_env env, napi_value options, struct drainer *drainer,
                          struct start_arguments *arguments) {
  napi_value list;
  uint32_t count;
  if (!util_get(env, options, "channels", &list) || !util_array(env, list, "channels", &count)) {
    return false;
  }
  if (count == 0 || count > MAX_CHANNELS) {
    util_throw(env, "ERR_OUT_OF_RANGE", "channels must have from 1 to %d members", MAX_CHANNELS);
    return false;
  }
  drainer->mailbox.capacity = 2 * (size_t)count + 2 + COUNT_REPORTS + RARE_REPORTS;
  drainer->mailbox.items = calloc(drainer->mailbox.capacity, sizeof *drainer->mailbox.items);
  drainer->channels = calloc(count, sizeof *drainer->channels);
  arguments->channels = calloc(count, sizeof *arguments->channels);
  if (!drainer->channels || !arguments->channels || !drainer->mailbox.items) {
    util_throw_errno(env, ENOMEM, "no memory for a drain thread");
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value member;
    if (napi_get_element(env, list, i, &member) != napi_ok) return false;
    struct channel *channel = util_handle(env, HANDLE_CHANNEL, member, &drainer->channels[i]);
    if (channel == NULL) return false;
    arguments->channels[i] = channel;
    drainer->channel_count++;
  }
  return true;
}

static bool read_number(napi_env env, napi_value options, const char *key, int64_t max,
                        int64_t *out) {
  napi_value value;
  return util_get(env, options, key, &value) && util_int(env, value, key, 0, max, out);
}

static bool read_start(napi_env env, napi_value options, struct drainer *drainer,
                       struct start_arguments *arguments) {
  napi_value ring, sequence, timestamp;
  if (!util_get(env, options, "lastSequence", &sequence) ||
      !util_u64(env, sequence, "lastSequence", &arguments->last_sequence) ||
      !util_get(env, options, "lastTimestamp", &timestamp) ||
      !read_number(env, options, "cpu", UINT16_MAX, &arguments->cpu) ||
      !read_number(env, options, "elevatedPercent", 100, &arguments->elevated) ||
      !read_number(env, options, "emergencyPercent", 100, &arguments->emergency)) {
    return false;
  }
  if (arguments->last_sequence > INT64_MAX) {
    util_throw(env, "ERR_OUT_OF_RANGE", "lastSequence must be below 2n ** 63n");
    return false;
  }
  arguments->has_last_ts = !util_is_null(env, timestamp);
  if (arguments->has_last_ts &&
      !util_u64(env, timestamp, "lastTimestamp", &arguments->last_ts)) {
    return false;
  }
  if (!read_covered(env, options, arguments)) return false;
  if (!read_channels(env, options, drainer, arguments)) return false;
  if (!util_get(env, options, "ring", &ring)) return false;
  arguments->ring = util_handle(env, HANDLE_RING, ring, &arguments->ring_handle);
  if (arguments->ring == NULL) return false;
  if (arguments->ring->cpu != arguments->cpu) {
    util_throw_errno(env, EINVAL, "the ring belongs to CPU %u", arguments->ring->cpu);
    return false;
  }
  return true;
}

/* Takes the ring for a drain thread; throws EBUSY when it has an owner. */
static bool own_ring(napi_env env, struct ring *ring) {
  if (__atomic_exchange_n(&ring->owned, 1, __ATOMIC_ACQ_REL) == 0) return true;
  util_throw_errno(env, EBUSY, "a drain thread owns the ring");
  return false;
}

static void disown_ring(struct ring *ring) { __atomic_store_n(&ring->owned, 0, __ATOMIC_RELEASE); }

static bool create_call(napi_env env, napi_value callback, struct drainer *drainer) {
  napi_value name = util_new_string(env, "eventd.drain");
  atomic_fetch_add(&drainer->references, 1);
  if (napi_create_threadsafe_function(env, callback, NULL, name, 0, 1, drainer, finalize_call,
                                      drainer, deliver, &drainer->call) == napi_ok) {
    return true;
  }
  atomic_fetch_sub(&drainer->references, 1);
  util_throw(env, "ERR_INVALID_ARG_TYPE", "report must be a function");
  return false;
}

/* Everything that can fail; false after throwing, with nothing left running. */
static bool start_thread(napi_env env, napi_value *argv, struct drainer *drainer,
                         struct start_arguments *arguments) {
  if (!read_start(env, argv[0], drainer, arguments)) return false;
  if (!own_ring(env, arguments->ring)) return false;
  if (!create_call(env, argv[1], drainer)) {
    disown_ring(arguments->ring);
    return false;
  }
  const struct drain_options options = {
      .ring = arguments->ring,
      .close_ring = close_ring,
      .cpu = (uint16_t)arguments->cpu,
      .channels = arguments->channels,
      .channel_count = drainer->channel_count,
      .last_sequence = arguments->last_sequence,
      .last_ts = arguments->has_last_ts ? &arguments->last_ts : NULL,
      .covered = arguments->covered,
      .covered_count = arguments->covered_count,
      .elevated_percent = (uint32_t)arguments->elevated,
      .emergency_percent = (uint32_t)arguments->emergency,
      .notify = post,
      .context = drainer,
  };
  drainer->handle = handle_open(HANDLE_DRAIN, drainer, destroy_drainer);
  int error = drainer->handle == 0 ? ENOMEM : drain_start(&options, &drainer->drain);
  if (error == 0) return true;
  disown_ring(arguments->ring);
  atomic_store(&drainer->stopped, true);
  napi_release_threadsafe_function(drainer->call, napi_tsfn_release);
  util_throw_errno(env, error, "cannot start a drain thread");
  return false;
}

static napi_value start(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  struct drainer *drainer = calloc(1, sizeof *drainer);
  if (drainer == NULL) return util_throw_errno(env, ENOMEM, "no memory for a drain thread");
  atomic_init(&drainer->references, 1);
  pthread_mutex_init(&drainer->mailbox.lock, NULL);
  struct start_arguments arguments = {0};
  bool started = start_thread(env, argv, drainer, &arguments);
  free(arguments.channels);
  if (started) {
    napi_add_env_cleanup_hook(env, on_env_cleanup, drainer);
    return util_new_handle(env, drainer->handle);
  }
  if (arguments.ring != NULL) handle_release(arguments.ring_handle);
  for (uint32_t i = 0; i < drainer->channel_count; i++) handle_release(drainer->channels[i]);
  if (drainer->handle != 0) {
    handle_close(HANDLE_DRAIN, drainer->handle);
  } else {
    drainer_unref(drainer);
  }
  return NULL;
}

/* ---- The rest ---- */

static napi_value reattach(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t handle, ring_handle;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  struct ring *ring = util_handle(env, HANDLE_RING, argv[1], &ring_handle);
  if (ring == NULL) return NULL;
  struct drainer *drainer = util_handle(env, HANDLE_DRAIN, argv[0], &handle);
  if (drainer == NULL || !own_ring(env, ring)) {
    if (drainer != NULL) handle_release(handle);
    handle_release(ring_handle);
    return NULL;
  }
  int error = drain_reattach(drainer->drain, ring);
  handle_release(handle);
  if (error == 0) return util_undefined(env); /* the acquired ring is the thread's now */
  disown_ring(ring);
  handle_release(ring_handle);
  return util_throw_errno(env, error, "%s",
                          error == EBUSY ? "the drain thread awaits no ring" : "ring of another CPU");
}

static napi_value limits(napi_env env, napi_callback_info call) {
  napi_value argv[3];
  int64_t handle, elevated, emergency;
  if (!util_args(env, call, 3, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "elevatedPercent", 0, 100, &elevated)) return NULL;
  if (!util_int(env, argv[2], "emergencyPercent", 0, 100, &emergency)) return NULL;
  struct drainer *drainer = util_handle(env, HANDLE_DRAIN, argv[0], &handle);
  if (drainer == NULL) return NULL;
  drain_limits(drainer->drain, (uint32_t)elevated, (uint32_t)emergency);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value finish(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct drainer *drainer = util_handle(env, HANDLE_DRAIN, argv[0], &handle);
  if (drainer == NULL) return NULL;
  drain_finish(drainer->drain);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value stop_drain(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct drainer *drainer = util_handle(env, HANDLE_DRAIN, argv[0], &handle);
  if (drainer == NULL) return NULL;
  /* The handle stays valid, so that a second stop and a last status are no errors. */
  stop(drainer);
  disconnect(drainer, true);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value status(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct drainer *drainer = util_handle(env, HANDLE_DRAIN, argv[0], &handle);
  if (drainer == NULL) return NULL;
  struct drain_status now;
  drain_status(drainer->drain, &now);
  handle_release(handle);
  napi_value result = util_object(env);
  util_set_u64(env, result, "lastSequence", now.last_sequence);
  util_set_u64(env, result, "readPos", now.read_pos);
  util_set_u64(env, result, "events", now.events);
  util_set_u64(env, result, "gaps", now.gaps);
  util_set_u64(env, result, "lost", now.lost);
  util_set_double(env, result, "peakFill", now.peak_fill);
  return result;
}

napi_value addon_drain_init(napi_env env, napi_value exports) {
  util_export(env, exports, "drainStart", start);
  util_export(env, exports, "drainReattach", reattach);
  util_export(env, exports, "drainLimits", limits);
  util_export(env, exports, "drainFinish", finish);
  util_export(env, exports, "drainStop", stop_drain);
  util_export(env, exports, "drainStatus", status);
  return exports;
}

/* Reports of drain threads as JavaScript objects. */
#include "addon_report.h"

#include "addon_util.h"

napi_value drain_report_object(napi_env env, const struct drain_report *report) {
  static const char *const names[] = {
      [DRAIN_AVAILABLE] = "available",   [DRAIN_IDLE] = "idle",
      [DRAIN_THROTTLED] = "throttled",   [DRAIN_RESUMED] = "resumed",
      [DRAIN_LAPPED] = "lapped",         [DRAIN_CORRUPT] = "corrupt",
      [DRAIN_GAP] = "gap",               [DRAIN_PRESSURE] = "pressure",
      [DRAIN_GENERATION] = "generation", [DRAIN_REATTACHED] = "reattached",
      [DRAIN_FINISHED] = "finished",     [DRAIN_REGRESSED] = "regressed",
  };
  napi_value object = util_object(env);
  util_set_string(env, object, "type", names[report->kind]);
  switch (report->kind) {
    case DRAIN_AVAILABLE:
      util_set_double(env, object, "index", report->index);
      util_set_bool(env, object, "halfFull", report->half_full);
      break;
    case DRAIN_THROTTLED:
    case DRAIN_RESUMED:
      util_set_double(env, object, "index", report->index);
      break;
    case DRAIN_LAPPED:
    case DRAIN_CORRUPT:
      util_set_u64(env, object, "from", report->first);
      util_set_u64(env, object, "to", report->second);
      break;
    case DRAIN_GAP:
      util_set_u64(env, object, "first", report->first);
      util_set_u64(env, object, "last", report->second);
      break;
    case DRAIN_REGRESSED:
      util_set_u64(env, object, "newest", report->first);
      util_set_u64(env, object, "known", report->second);
      break;
    case DRAIN_PRESSURE:
      util_set_double(env, object, "level", report->level);
      util_set_double(env, object, "fill", report->fill);
      break;
    case DRAIN_GENERATION:
    case DRAIN_FINISHED:
      util_set_u64(env, object, "lastSequence", report->first);
      break;
    case DRAIN_REATTACHED:
      util_set_u64(env, object, "generation", report->first);
      util_set_double(env, object, "capacity", (double)report->second);
      break;
    case DRAIN_IDLE:
      break;
  }
  return object;
}

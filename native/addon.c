/* Entry point of the addon: one shared object for every thread's environment of the process. */
#include "addon_parts.h"

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  static napi_value (*const parts[])(napi_env, napi_value) = {
      addon_ring_init,   addon_producer_init, addon_channel_init, addon_drain_init,
      addon_system_init, addon_sqlite_init,   addon_copy_init,   addon_ranges_init,   addon_notify_init,  addon_proc_connector_init,
      addon_receiver_init, addon_metric_init,  addon_metric_eval_init, addon_tail_init, addon_kacs_init, addon_lcs_init,
  };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) parts[i](env, exports);
  return exports;
}

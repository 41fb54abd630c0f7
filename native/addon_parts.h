/* The addon's parts; each adds its functions to the exports. */
#ifndef EVENTD_ADDON_PARTS_H
#define EVENTD_ADDON_PARTS_H

#include <node_api.h>

napi_value addon_ring_init(napi_env env, napi_value exports);
napi_value addon_producer_init(napi_env env, napi_value exports);
napi_value addon_channel_init(napi_env env, napi_value exports);
napi_value addon_drain_init(napi_env env, napi_value exports);
napi_value addon_receiver_init(napi_env env, napi_value exports);
napi_value addon_metric_init(napi_env env, napi_value exports);
napi_value addon_metric_eval_init(napi_env env, napi_value exports);
napi_value addon_system_init(napi_env env, napi_value exports);
napi_value addon_sqlite_init(napi_env env, napi_value exports);
napi_value addon_copy_init(napi_env env, napi_value exports);
napi_value addon_ranges_init(napi_env env, napi_value exports);
napi_value addon_tail_init(napi_env env, napi_value exports);
napi_value addon_kacs_init(napi_env env, napi_value exports);
napi_value addon_lcs_init(napi_env env, napi_value exports);
napi_value addon_notify_init(napi_env env, napi_value exports);
napi_value addon_proc_connector_init(napi_env env, napi_value exports);

#endif

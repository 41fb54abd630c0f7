/* A drain thread's report as the object JavaScript gets: DrainEvent in src/native/addon.ts. */
#ifndef EVENTD_ADDON_REPORT_H
#define EVENTD_ADDON_REPORT_H

#include <node_api.h>

#include "drain.h"

napi_value drain_report_object(napi_env env, const struct drain_report *report);

#endif

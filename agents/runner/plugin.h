/* Loading a plugin into a runner. A host never does this (invariant I7). */
#ifndef AGENTS_RUNNER_PLUGIN_H
#define AGENTS_RUNNER_PLUGIN_H

#include "agents/sdk/engine.h"

/* Load a private copy of the shared object, so that building it again in place hurts nobody, and
 * add its types to the engine. The plugin stays loaded for the life of the process, also on
 * failure: its code may have started threads. Errors name the file: GW_EPLUGIN it cannot be read or
 * linked, or is not a Godwit plugin; GW_EABI, GW_ESIGNATURE, GW_EEXISTS as engine_add_plugin. */
gw_err plugin_load(const char *path, struct engine *engine, struct gw_error *why) GW_MUST_USE;

#endif

/* The types that run in the host itself. Written against the public headers like any author's, with
 * these rules besides: a handler is short and never blocks (the whole host waits for it), and
 * nothing protects the host from one that is wrong. host/main.c has the table. */
#ifndef AGENTS_BUILTIN_BUILTIN_H
#define AGENTS_BUILTIN_BUILTIN_H

#ifndef GW_NO_PLUGIN_INFO /* the program is no plugin */
#define GW_NO_PLUGIN_INFO
#endif
#include <godwit/agent.h>

extern const struct gw_type builtin_server_info; /* what the machine is and does */

#endif

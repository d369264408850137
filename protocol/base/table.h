/* Hash tables inside of objects (uthash). An entry that cannot be added for want of memory ends the
 * process with a line in its log: tables hold what is known of others, and nothing can go on that
 * does not find it again. */
#ifndef PROTOCOL_BASE_TABLE_H
#define PROTOCOL_BASE_TABLE_H

#include "protocol/base/log.h"

#define uthash_fatal(text) log_die("memory", "out of memory for a table; stopping")
#include <uthash.h>

#endif

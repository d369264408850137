/* Copies of one folder under way: whether the destination was its new name, or a folder that it
 * went into. When the first try has made the destination, a look at it cannot tell any more; so the
 * answer is kept at the source, in one small file for each, until the copy is whole. Nothing breaks
 * when one is lost: the next try then goes into the folder, as `cp` would.
 *
 * One folder of the host; any thread. */
#ifndef HOST_FILE_TRIES_H
#define HOST_FILE_TRIES_H

#include "host/files/sink.h"
#include "protocol/base/id.h"

#define TRY_KEY_TEXT 65

struct tries;

/* `dir` is made when the first one is kept. */
struct tries *tries_open(const char *dir);
void tries_close(struct tries *t); /* NULL allowed */
/* The copy is known by where it goes and what it sends. */
void tries_key(const struct host_id *to, const gw_strs *sources, const char *dst,
               char ret[TRY_KEY_TEXT]);
/* What an earlier try found; SINK_GUESS: there was none. */
sink_placing tries_find(const struct tries *t, const char *key);
void tries_keep(struct tries *t, const char *key, sink_placing placing);
void tries_forget(struct tries *t, const char *key);
/* Remove those that are older than so many seconds. */
void tries_sweep(struct tries *t, int64_t kept_s);

#endif

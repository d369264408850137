/* Getting an artifact, or single chunks, from the hosts that have them.
 *
 *   LOOK    it is here already?                                     thread
 *   ASK     which hosts have it (operation artifacts.have)          loop
 *   RECIPE  its list of chunks, from one of them                    thread, service "chunks"
 *   SAMPLE  which others have a part of what is missing here        loop
 *   CHUNKS  from LIMIT_FETCH_SOURCES hosts at once (fetch_plan.h)   threads, service "chunks"
 *   ADOPT   the chunks become an artifact, if the whole is right    thread
 *
 * A source that fails, or sends what it should not, is left, told of in the log, and its chunks are
 * asked of another one. What came is stored at once, and a later fetch asks only for the rest; so
 * there is nothing to resume. A recipe that does not lead to the hash that was asked for is that of
 * a wrong host: the next one is asked for it.
 *
 * All functions are for the loop thread; callbacks come in later turns. */
#ifndef HOST_FETCH_H
#define HOST_FETCH_H

#include "host/core/node.h"
#include "host/fetch_wire.h"

struct host;
struct fetch;

/* How an artifact is named: by the hash of its content, or by its id; and where it is, if that is
 * known. Text: HASH, ID, HASH@HOST, ID@HOST (type `artifact` of signatures). */
struct fetch_name {
    bool by_hash;
    struct chunk_hash hash;
    gw_id id;
    char host[LIMIT_NAME_BYTES + 1]; /* selector of one host; "": not known */
};
/* GW_EARG. */
gw_err fetch_name_parse(const char *text, struct fetch_name *ret, struct gw_error *why) GW_MUST_USE;

struct fetch_from {
    struct host_id host;
    const char *name; /* borrowed */
    uint64_t chunks, bytes;
};
struct fetch_result {
    struct artifact_info info; /* of an artifact: the one that is here now */
    bool was_here;
    uint64_t chunks, bytes;           /* that came, and those of them that were asked for */
    uint64_t missing;                 /* repair: chunks that nobody had */
    const struct fetch_from *sources; /* those that sent something; borrowed */
    size_t source_count;
};
/* Once. `result` is NULL on failure. */
typedef void (*fetch_done)(void *arg, gw_err err, const struct fetch_result *result,
                           const struct gw_error *why);

struct fetch_want {
    struct fetch_name name;
    gw_id owner; /* of the artifact that is made here; nil: none */
    bool find;   /* only what it is, and who has it: `sources`, of which nothing came */
};
/* Never NULL. GW_ENOT_FOUND: no host that can be reached has it; GW_EBUSY; GW_EUNREACHABLE: not all
 * of it could be got; GW_ETOO_BIG, GW_EQUOTA, GW_EDISK_FULL: no room here. */
struct fetch *fetch_start(struct host *h, const struct fetch_want *want, fetch_done done,
                          void *arg);
/* Chunks that are missing or damaged here, from one host alone (selector). */
struct fetch *fetch_chunks(struct host *h, const struct chunk_ref *chunks, size_t n,
                           const char *from, fetch_done done, void *arg);
/* done() comes with GW_ECANCELLED, or what else ends it; what it has got stays. */
void fetch_cancel(struct fetch *f);
/* So much of it has come, of so much: for progress. */
void fetch_progress(struct fetch *f, uint64_t *ret_bytes, uint64_t *ret_of);

/* The host stops: call off all of them. */
void fetch_stop(struct host *h);
void fetch_close(struct host *h); /* the data plane is closed, the node gone */

#endif

/* What fetch.c (steps) and fetch_hosts.c (who has what) share. */
#ifndef HOST_FETCH_INNER_H
#define HOST_FETCH_INNER_H

#include <sys/queue.h>

#include "host/bulk.h"
#include "host/fetch.h"
#include "host/host.h"

struct candidate {
    struct fetch *fetch;
    struct host_id id;
    char name[LIMIT_NAME_BYTES + 1];
    char url[257];
    bool asked, silent; /* it did not answer */
    bool whole;         /* it has all of it, as it says */
    bool no_recipe;     /* its recipe could not be had, or was wrong */
    bool spent;         /* it was a source, and is not asked again */
    unsigned part;      /* how many chunks of the sample it has */
    struct bulk_job *job;
    struct fetch_source source; /* while it is one, or was */
    struct gw_error why;        /* of its thread */
    uint64_t chunks, bytes;     /* of all its turns as a source */
};

typedef enum fetch_step {
    STEP_LOOK,
    STEP_ASK,
    STEP_RECIPE,
    STEP_SAMPLE,
    STEP_CHUNKS,
    STEP_ADOPT,
    STEP_OVER, /* done() was called; it waits for threads and answers */
} fetch_step;

struct fetch {
    LIST_ENTRY(fetch) link;
    struct host *host;
    fetch_step step;
    fetch_done done;
    void *arg;
    struct fetch_want want;
    bool only_chunks;       /* no artifact is made */
    struct chunk_hash hash; /* by which it is got */
    bool has_hash, was_here;
    struct artifact_info info;
    struct fetch_recipe recipe;
    struct candidate *recipe_of;
    struct fetch_work work;
    uint64_t of_bytes;            /* of the first plan */
    struct candidate *candidates; /* not moved while threads run */
    size_t candidate_count;
    unsigned open;        /* threads and answers that will still come */
    struct bulk_job *job; /* of a thread without a source */
    unsigned rounds;
    bool cancelled;
    struct gw_error why; /* last failure of a source */
};

/* ---- fetch_hosts.c ---- */
/* The hosts that may be asked; a host that is named comes first. GW_EHOST_NOT_FOUND, ... */
gw_err fetch_hosts_find(struct fetch *f, const char *named, bool only, struct gw_error *why);
/* Ask those that were not asked yet (whole), or those that do not have all of it (a part of what is
 * missing here). fetch_answered() when all have answered; false: there was nobody to ask. */
bool fetch_hosts_ask(struct fetch *f, bool part);
/* The best that is no source yet; NULL: none is left. */
struct candidate *fetch_hosts_spare(struct fetch *f);
void fetch_hosts_count(struct fetch *f, const struct candidate *c, uint64_t chunks, uint64_t bytes);

/* ---- fetch.c ---- */
void fetch_answered(struct fetch *f);

#endif

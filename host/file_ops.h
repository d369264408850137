/* Files of this host and what is done with them: copies from here to other hosts (the data plane,
 * host/files/send.h), copies that others send here, listings, and the sweeping of what interrupted
 * copies left. One per host.
 *
 * Files: file_ops.c (life, listings, figures), file_copy.c (copies from here), file_serve.c (copies
 * to here), file_tries.c (what a copy that is taken up again has to know). The loop thread, but
 * what says that it is a thread's. */
#ifndef HOST_FILE_OPS_H
#define HOST_FILE_OPS_H

#include <pthread.h>
#include <sys/queue.h>

#include "host/bulk.h"
#include "host/file_tries.h"
#include "host/files/parts.h"
#include "host/files/progress.h"
#include "host/files/roots.h"
#include "host/host.h"

/* One transfer with another host that is under way, either direction. */
struct flow {
    LIST_ENTRY(flow) link;
    bool received; /* else sent */
    struct progress progress;
};

/* What has passed since the host started. */
struct flow_sums {
    uint64_t transfers; /* that have ended */
    uint64_t files;
    uint64_t bytes; /* that crossed the wire */
};

struct copy;
struct file_ops {
    struct host *h;
    struct roots *roots;
    struct parts *parts;
    struct tries *tries;
    LIST_HEAD(, copy) copies;
    struct bulk_job *sweep; /* NULL: none runs */
    struct event *sweep_timer;
    /* under the lock */
    pthread_mutex_t lock;
    LIST_HEAD(, flow) flows;
    struct flow_sums sums[2]; /* sent, received */
};

/* Any thread. */
void flow_begin(struct file_ops *f, struct flow *flow, bool received);
void flow_end(struct file_ops *f, struct flow *flow);

/* Run files.copy from here; answers the call. */
void file_copy_run(struct file_ops *f, struct op_call *call, const struct env_host *to);
void file_copy_cancel_all(struct file_ops *f);

/* Service "files" of the data plane. Thread. */
gw_err file_serve(struct bulk_request *request, struct bulk_io *io);

#endif

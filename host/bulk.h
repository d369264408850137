/* The data plane: what moves or hashes many bytes does so on a thread of its own, over a connection
 * of its own. The loop dials or accepts (mutual TLS, the port of everything else), decides who may,
 * and hands the connection to the thread; what the thread did is told on the loop. So no byte of a
 * file passes the loop, and no message waits behind one. Threads run at a lower priority (nice 5).
 *
 * A thread shares nothing with the host but what it is given and what says that it is for any
 * thread; bulk_on_loop asks the rest. All calls are of the loop thread unless they say otherwise.
 *
 * Jobs are of three classes, each with LIMIT_BULK_RUNNING threads and a queue behind them: dialled
 * by this host, served to others, and local; so two hosts cannot wait for each other's places. Of
 * the served, one host has LIMIT_BULK_ORIGIN at most at once, and all clients together
 * LIMIT_BULK_CLIENTS: whoever is slow, or means ill, leaves places to others. What moves fewer than
 * LIMIT_BULK_SLOW_BYTES within LIMIT_BULK_SLOW_MS ends.
 *
 *   GET /v1/bulk, Upgrade: godwit-bulk/1, Godwit-Bulk: SERVICE     PROTOCOL.md 1.3 */
#ifndef HOST_BULK_H
#define HOST_BULK_H

#include <event2/event.h>

#include "host/files/io.h"
#include "host/net/server.h"
#include "host/trust/trust.h"

struct bulk;
struct bulk_job;

/* On the thread. `io` of a local job has no bytes, only its wait: a sleep that can be called off.
 */
typedef gw_err (*bulk_work)(struct bulk_io *io, void *arg, struct gw_error *why);
/* On the loop, once, when the thread has ended; also when it never began (dialling failed,
 * GW_EBUSY, GW_ECANCELLED, GW_ESTOPPING). `why` is valid for the call; it says something whenever
 * err is one. */
typedef void (*bulk_done)(void *arg, gw_err err, const struct gw_error *why);

/* What a served connection asks. */
struct bulk_request {
    void *ctx;                    /* of bulk_config */
    struct bulk *bulk;            /* for bulk_on_loop */
    const struct http_head *head; /* of the request */
    gw_value args;                /* parts of the path and parameters of the query, as texts */
    struct host_id peer;          /* nil: a client */
    api_role role;
    struct gw_error *why; /* filled when serve fails: it is logged */
};

/* A service behind /v1/bulk: 101 is written before serve runs (thread). Hosts of the mesh only. */
struct bulk_service {
    const char *name;
    gw_err (*serve)(struct bulk_request *request, struct bulk_io *io);
};
/* A request whose body or answer is long: serve (thread) reads the one and writes the other. */
struct bulk_route {
    const char *method; /* "PUT" */
    const char *path;   /* template as of an operation: "/v1/artifacts/{id}/content" */
    api_role role;      /* the least that may */
    gw_err (*serve)(struct bulk_request *request, struct bulk_io *io);
};

struct bulk_config {
    struct event_base *base;
    struct trust *trust;
    const struct bulk_service *services; /* borrowed, ended by a row without name */
    const struct bulk_route *routes;     /* borrowed, ended by a row without method */
    void *ctx;                           /* for those who serve */
};
gw_err bulk_open(const struct bulk_config *config, struct bulk **ret,
                 struct gw_error *why) GW_MUST_USE;
/* Calls off what runs, waits for the threads, tells each done. NULL allowed. */
void bulk_close(struct bulk *b);

/* Dial a host and run `work` with the connection to its service. `url` as of a link. Both are
 * copied. Never NULL; done always comes, in a later turn. */
struct bulk_job *bulk_call(struct bulk *b, const struct host_id *to, const char *url,
                           const char *service, bulk_work work, bulk_done done, void *arg);
/* Run `work` on a thread, without a connection. */
struct bulk_job *bulk_run(struct bulk *b, bulk_work work, bulk_done done, void *arg);
/* Its io fails with GW_ECANCELLED from now on. done still comes. */
void bulk_cancel(struct bulk_job *job);

/* Any thread of a job: run `run` on the loop and wait until it has. GW_ESTOPPING: it did not run.
 */
gw_err bulk_on_loop(struct bulk *b, void (*run)(void *arg), void *arg) GW_MUST_USE;

/* For server_ops. */
gw_err bulk_wants(struct bulk *b, const struct http_head *head, api_role role, bool *ret,
                  struct gw_error *why) GW_MUST_USE;
void bulk_take(struct bulk *b, struct handover *h); /* taken */

struct bulk_stats {
    unsigned running[3], waiting[3]; /* dialled, served, local */
};
struct bulk_stats bulk_stats(const struct bulk *b);
/* Whether a connection of that host waits here for its turn to be served. */
bool bulk_host_waits(const struct bulk *b, const struct host_id *host);

/* --- for those who serve a request (thread) --- */
/* All of it, or why not: GW_ETIMEOUT after 30 s in which nothing could be written. */
gw_err bulk_write(struct bulk_io *io, const void *data, size_t n) GW_MUST_USE;
/* At least one byte; GW_ENOT_FOUND: orderly end; GW_ETIMEOUT after 30 s without one. */
gw_err bulk_read(struct bulk_io *io, void *to, size_t room, size_t *ret_n) GW_MUST_USE;
/* The head of an answer: `extra` are further header lines ("A: b\r\n") or "". The connection closes
 * after it. */
gw_err bulk_answer_head(struct bulk_io *io, int status, const char *type, uint64_t length,
                        const char *extra) GW_MUST_USE;
/* A whole answer. */
gw_err bulk_answer(struct bulk_io *io, int status, const char *type, struct span body) GW_MUST_USE;
/* The error as JSON, as of every operation. Returns why->code, or that of the connection. */
gw_err bulk_answer_error(struct bulk_io *io, const struct gw_error *why);
/* The same with request->why; to a HEAD without the JSON. */
gw_err bulk_refuse(struct bulk_request *request, struct bulk_io *io);

#endif

/* The node: everything a host knows and decides, as a machine without I/O.
 *
 * Inputs are the functions below, outputs go through struct gw_env. One thread. The node owns
 * agents, their queues, moves in and out, members, types and runners' states. Its files:
 * - node.c: life, boot from the store
 * - agents.c: registry, rows, the state of an agent
 * - work.c: an agent does one thing at a time; outcome.c: how a run ended; pipeline.c: its
 * transactions on their way to the disk
 * - commit.c: a handler's result as one transaction; unsaved.c: what is in memory only
 * - save.c: transactions in the middle of `run`
 * - create.c: create, clone; sleep.c: deactivate, activate, dispose
 * - sleepers.c: what is kept of agents that sleep
 * - idle.c: agents without work fall asleep; starts.c: those that begin by themselves
 * - intents.c: what agents ask about themselves; itinerary.c, journey.c: journeys over several
 * hosts
 * - send.c: messages from clients; tells.c, inbox.c, streams.c: messages between agents
 * - watches.c, downs.c, patrol.c: monitors of agents and hosts; lineage.c: parents and children
 * - pressure.c: calls before full mailboxes
 * - topics.c: subscriptions; publish.c: publications of people and tools; mailbox.c: order of what
 * waits; carry.c: what messages carry
 * - timers.c, timer_actions.c: timers of agents; dead.c: messages that were given up;
 * crashes.c: agents that crash again and again
 * - ticket_out.c, ticket_in.c: handoff at the source, at the destination; move_out.c, move_in.c:
 * one agent under its ticket; handoff.c: what both ends share; leftovers.c: rows that nobody needs
 * - files.c, files_out.c, files_in.c: files that travel with agents
 * - travel.c: dispatch, retract; drain.c: all agents leave; resolve.c: moves in doubt
 * - runners.c: processes that run handlers; builtins.c: types that run in the host itself
 * - stuck.c: handlers that do not end
 * - peers.c: hello, members, requests to peers; select.c: which hosts a selector names
 * - standing.c, held.c: old copies of the store; rivals.c: copies that run; restored.c: what
 * becomes of the agents in one
 * - locations.c: where agents are, two copies; route.c: calls about agents elsewhere; relay.c:
 * streams from another host
 * - file_calls.c: operations on files, which hosts they are about
 * - asks.c: calls that the environment makes to other hosts
 * - list.c: answers of listing operations; events.c: event log and agents' log lines
 * - metrics.c: counts and latencies */
#ifndef HOST_CORE_NODE_H
#define HOST_CORE_NODE_H

#include "host/core/env.h"
#include "host/core/op.h"
#include "protocol/frame.h"
#include "protocol/limits.h"
#include "protocol/ticket.h"

struct node;

#define NODE_LOST_MS 30000 /* of node_limits.lost_ms */

/* What only the environment knows of a host's metrics. */
struct node_fetched { /* from one other host */
    char host[LIMIT_NAME_BYTES + 1];
    uint64_t chunks, bytes;
};
struct node_artifacts {
    bool broken; /* the host runs without them */
    uint64_t artifacts, uploads, chunks;
    uint64_t bytes, stored_bytes, quota_bytes; /* of contents; of chunks, as the quota counts */
    uint64_t received_bytes, sent_bytes;       /* over HTTP */
};
struct node_sample {
    struct node_artifacts artifacts;
    const struct node_fetched *fetched; /* borrowed */
    size_t fetched_count;
    uint64_t store_groups, store_waiting; /* storage_stats */
    uint64_t client_links;
    /* Files copied to [0] and from [1] other hosts: sessions that have ended and that run, files
     * that are whole, bytes that crossed the wire for them. */
    uint64_t file_transfers[2], file_transfers_open[2], files[2], file_bytes[2];
    uint64_t rss_bytes;
};

/* A type that runs in the process of the host. Its agents do not leave it. */
struct node_builtin {
    const char *type;
    const char *alias; /* there is one agent of it, under this alias, made at start when it is
                          missing; NULL: people make them */
};

struct node_config {
    const char *name;
    struct host_key key;
    const char *mesh_id; /* text */
    const char *url;     /* of this host, as peers reach it */
    const gw_strs *tags;
    const gw_strs *properties;
    const char *const *plugins; /* paths, for `types`; index = runner */
    size_t plugin_count;
    const struct node_builtin *builtins; /* run by one more runner, of index plugin_count */
    size_t builtin_count;
    struct node_limits {      /* settings; 0 = as in protocol/limits.h */
        size_t mailbox;       /* waiting messages of one agent */
        size_t mailbox_bytes; /* of them together */
        size_t agents;        /* that live here or arrive */
        size_t staged;        /* arriving agents of one peer */
        size_t hosts_named;   /* hosts that are known by their id alone */
        uint64_t events;      /* rows of the event log that are kept */
        int64_t lost_ms;      /* a host that cannot be reached for so long is lost to monitors */
        int64_t stuck_ms;     /* a handler that runs longer is told of */
    } limits;
    const char *agents_dir; /* absolute: below it each agent has its work folder, by its id; NULL:
                               none has. Borrowed for life */
    const uint8_t *machine; /* 16 bytes that stand for this machine; NULL: not known */
    bool moved_machine;     /* another machine than that of the last start is right */
    bool restored;          /* the store is an old copy, and that is right */
    /* called once: boot is done (all agents known, runners answered or failed), or failed */
    void (*on_ready)(void *ctx, gw_err err, const struct gw_error *why);
    /* called once after node_stop: everything is durable, nothing is in flight */
    void (*on_stopped)(void *ctx);
    void (*on_stop_asked)(void *ctx); /* operation `stop` */
    /* another process is this host: end at once, with the exit code of the error */
    void (*on_fatal)(void *ctx, const struct gw_error *why);
    gw_err (*add_status)(void *ctx,
                         gw_value *status); /* the environment's part of `status`; NULL = none */
    void (*sample)(void *ctx, struct node_sample *ret); /* for `metrics`; NULL: all is 0 */
};

/* `config` is copied, `env` borrowed for life. */
gw_err node_new(const struct node_config *config, const struct gw_env *env,
                struct node **ret) GW_MUST_USE;
void node_start(struct node *node); /* reads the store; on_ready follows */
void node_stop(struct node *node);  /* finish what runs, refuse new work; on_stopped follows */
void node_free(
    struct node *node); /* at any time; pending callbacks of env must not come afterwards */

/* A link to `peer` is up (authenticated as this host_id). The node sends HELLO first; frames
 * follow. */
void node_peer_up(struct node *node, const struct host_id *peer);
void node_peer_down(struct node *node, const struct host_id *peer);
void node_peer_frame(struct node *node, const struct host_id *peer, const struct frame *frame);

/* A second link of `peer` is up beside the first: its frames, until env->peer_rival says which of
 * them stays, or its end. */
void node_peer_rival(struct node *node, const struct host_id *peer);
void node_rival_frame(struct node *node, const struct host_id *peer, const struct frame *frame);
void node_rival_down(struct node *node, const struct host_id *peer);

void node_runner_frame(struct node *node, size_t index, const struct frame *frame);
void node_runner_down(struct node *node, size_t index, int pid, const char *reason);

/* Run an operation whose arguments are checked (host/api.c). Answers through call->answer. */
void node_call(struct node *node, struct op_call *call);

/* A transfer of files has ended at this host: for the event log. */
struct node_transfer {
    bool received;               /* else sent */
    const struct host_id *other; /* the host at the other end */
    uint64_t files, bytes;       /* that are whole there now: how many, their contents */
    gw_err err;                  /* it was called off, or broke */
    const char *reason;          /* of that */
};
void node_transfer_ended(struct node *node, const struct node_transfer *t);

/* For operations that the environment serves (trust, stop, files). */
const struct gw_env *node_env(const struct node *node);
/* Type of an agent that lives here; NULL: none of that id does. */
const char *node_agent_type(struct node *node, const gw_id *agent);
/* Whether it lives here, arrives, or has departed and may yet be taken back. */
bool node_holds_agent(struct node *node, const gw_id *agent);
/* A folder of agents was found larger than its quota: an event. `agent` NULL: the storage of
 * `type`; else `type` NULL. */
void node_tell_over_quota(struct node *node, const gw_id *agent, const char *type,
                          const char *text);

/* Other hosts, for the environment. Borrowed for the call. */
struct node_host {
    struct host_id id;
    const char *name, *url;
    bool self, up;
};
/* The one host that a selector names. */
gw_err node_pick_host(struct node *node, const char *selector, struct node_host *ret,
                      struct gw_error *why) GW_MUST_USE;
/* All that are known, this one included; the callback returns false to stop. */
void node_each_host(struct node *node, bool (*visit)(void *arg, const struct node_host *host),
                    void *arg);
/* Once, in a later turn; when the node ends with GW_ECANCELLED. `value` is the result, and may be
 * taken. */
typedef void (*node_asked)(void *arg, gw_err err, gw_value *value, const struct gw_error *why);
/* Call an operation of another host, which is asked as by a peer. `args` (map or nil) is taken. */
void node_ask(struct node *node, const struct host_id *to, const char *op, gw_value args,
              int64_t timeout_ms, node_asked done, void *arg);

/* What has happened to an artifact, for the event log; `owner` NULL: it belongs to no agent. */
typedef enum node_artifact_news {
    ARTIFACT_PUT,
    ARTIFACT_REMOVED,
    ARTIFACT_DAMAGED
} node_artifact_news;
void node_tell_artifact(struct node *node, node_artifact_news what, const gw_id *owner,
                        const char *text);

/* For tests and invariant checks. */
struct node_agent_view {
    gw_id agent;
    uint64_t epoch;
    const char *status; /* "active", "inactive", "moving", "staged", "departed", "quarantined" */
    bool runnable;      /* I1 counts these */
};
/* Visit agents and moves; the callback returns false to stop. */
void node_each_agent(struct node *node,
                     bool (*visit)(void *arg, const struct node_agent_view *view), void *arg);
size_t node_moves_count(const struct node *node);

#endif

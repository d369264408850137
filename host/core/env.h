/* The world as the host core sees it: one table of calls. main.c fills it with the real clock,
 * network, store and processes; the virtual mesh with a seeded, simulated one. Nothing in
 * host/core/ reaches the world in another way. All calls are made and all callbacks come on one
 * thread (the loop); no callback runs inside the call that asked for it. */
#ifndef HOST_CORE_ENV_H
#define HOST_CORE_ENV_H

#include "persistence/storage.h"
#include "protocol/base/id.h"
#include "protocol/inline.h"

struct env_timer; /* of the environment */
struct op_call;

/* Another host, or this one; borrowed for the call. */
struct env_host {
    struct host_id id;
    const char *name, *url;
    bool self;
};

struct gw_env {
    void *ctx; /* first argument of every call */

    int64_t (*wall_ms)(void *ctx); /* since 1970; may jump; for people, ids and expiry only */
    int64_t (*mono_us)(void *ctx); /* never goes back */
    int64_t (*turn_us)(void *ctx); /* mono_us of about the begin of this turn of the loop: cheap, to
                                      measure with */
    void (*random)(void *ctx, void *ret, size_t n);

    /* One-shot timers. Starting again replaces; stop of a timer that is not running is nothing. */
    struct env_timer *(*timer_new)(void *ctx, void (*fire)(void *arg), void *arg);
    void (*timer_start)(void *ctx, struct env_timer *t, int64_t delay_ms);
    void (*timer_stop)(void *ctx, struct env_timer *t);
    void (*timer_free)(void *ctx, struct env_timer *t);          /* NULL allowed */
    void (*defer)(void *ctx, void (*run)(void *arg), void *arg); /* in a later turn */

    /* The store; batch is taken, callbacks in the order of submission (storage.h). */
    void (*commit)(void *ctx, struct store_batch *batch, storage_done done, void *arg);
    void (*read)(void *ctx, const struct store_range *ranges, size_t n, storage_read_done done,
                 void *arg);

    /* Peers. The environment dials, authenticates, and then tells node_peer_up. The frame is taken;
     * without a link it is dropped (requests learn of it by node_peer_down or their time-out). */
    void (*peer_send)(void *ctx, const struct host_id *to, struct buf *frame);
    /* Keep a link to this member up (dial now, and again with back-off). `id` nil: not known yet.
     */
    void (*peer_want)(void *ctx, const struct host_id *id, const char *url);
    /* End the link (same name as another host, another mesh version); it is not dialled again soon.
     */
    void (*peer_drop)(void *ctx, const struct host_id *id, const char *reason);
    /* Of two links of one host (node_peer_rival): take the second in the place of the first
     * (node_peer_down, node_peer_up follow in a later turn); or end the second, after `last_word`
     * (NULL: none; not taken). */
    void (*peer_rival)(void *ctx, const struct host_id *id, bool take, struct buf *last_word,
                       const char *reason);

    /* Runners, by index of node_config.plugins; the one behind them runs the built-in types, in
     * this process. Start answers by node_runner_frame(HELLO) or node_runner_down; kill by
     * node_runner_down (the built-in one cannot be killed). */
    void (*runner_start)(void *ctx, size_t index);
    void (*runner_send)(void *ctx, size_t index, struct buf *frame);
    void (*runner_kill)(void *ctx, size_t index);
    /* Run a method of a built-in type now; returns when it has. The one call during which
     * node_runner_frame (LOG) may come. */
    void (*inline_run)(void *ctx, struct inline_run *in, struct inline_done *done);

    /* An agent has ended here, durably: what is kept for it outside of the store may go. Not told
     * of one that has moved away. NULL: there is nothing. */
    void (*agent_gone)(void *ctx, const gw_id *agent);
    /* Run an operation on the files of this host, in its own time: it answers the call and is told
     * when the caller goes away (op.h). `to`: the destination of files.copy, NULL with others. */
    void (*file_op)(void *ctx, struct op_call *call, const struct env_host *to);
};

#endif

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

/* ---- files that travel with agents ----
 * Each agent may have a folder on its host, which is its work folder; what comes with an arrival
 * lies in a folder of its ticket before that. A path is absolute, or counts from the work folder of
 * `owner`. What is asked about one agent is done in the order of the questions (agent_gone, too;
 * not files_send), and done() comes once, in a later turn, for as long as the node lives. Given
 * lists are copied. */
struct env_file {
    const char *name; /* filename_is_valid; the only one of its list */
    const char *path;
};
#define ENV_FILE_HASH_BYTES 32
/* A file as it is, or as it was sent. Two that differ in one of dev .. ctime are not the same. */
struct env_fact {
    gw_err err; /* of this file: GW_ENOT_FOUND, GW_EDENIED (outside of what may be read) ...; the
                   rest is then 0 */
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
    uint32_t perm;                     /* lower 12 bits of its mode */
    uint8_t hash[ENV_FILE_HASH_BYTES]; /* SHA-256 of its content; of files_send only */
};
/* One of what has to be there: as the manifest of a ticket says. */
struct env_staged {
    const char *name;
    uint64_t size;
    const uint8_t *hash;
};
struct env_folder { /* of what has come for a ticket */
    gw_id ticket, agent;
};
/* facts: one for each file that was given, in that order; NULL when err, which is then about all of
 * them (why says it). */
typedef void (*env_files_done)(void *arg, gw_err err, const struct gw_error *why,
                               const struct env_fact *facts, size_t n);
typedef void (*env_folders_done)(void *arg, gw_err err, const struct env_folder *folders, size_t n);

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

    /* An agent has ended here, durably, or is active elsewhere: what is kept for it outside of the
     * store, its work folder, may go. NULL: there is nothing. */
    void (*agent_gone)(void *ctx, const gw_id *agent);
    /* Run an operation on the files of this host, in its own time: it answers the call and is told
     * when the caller goes away (op.h). `to`: the destination of files.copy, NULL with others. */
    void (*file_op)(void *ctx, struct op_call *call, const struct env_host *to);

    /* Files. Whether an agent may have this file travel: below its folder or the roots of the host,
     * as far as its name tells; what opens it looks again. GW_EDENIED. */
    gw_err (*files_may)(void *ctx, const gw_id *owner, const char *path, struct gw_error *why);
    /* How they are now. */
    void (*files_check)(void *ctx, const gw_id *owner, const struct env_file *files, size_t n,
                        env_files_done done, void *arg);
    /* Send them into the folder (ticket, agent) of host `to`, which may be this one; they replace
     * what is there under their names. Facts are of what was sent. */
    void (*files_send)(void *ctx, const struct host_id *to, const gw_id *ticket, const gw_id *agent,
                       const gw_id *owner, const struct env_file *files, size_t n,
                       env_files_done done, void *arg);
    /* What is being sent under this ticket ends soon: done() with GW_ECANCELLED. */
    void (*files_cancel)(void *ctx, const gw_id *ticket);
    /* Let `from` send into the folder (ticket, agent), which it makes. GW_EDISK_FULL. */
    gw_err (*files_expect)(void *ctx, const struct host_id *from, const gw_id *ticket,
                           const gw_id *agent, uint64_t bytes, struct gw_error *why);
    /* Something comes into it at this moment, or its host waits for its turn to send. */
    bool (*files_come)(void *ctx, const gw_id *ticket, const gw_id *agent);
    /* Let nothing more come into it; whether exactly these have come, whole and on the disk:
     * GW_EPROTO. What else lies there is removed. */
    void (*files_staged)(void *ctx, const gw_id *ticket, const gw_id *agent,
                         const struct env_staged *files, size_t n, env_files_done done, void *arg);
    /* It becomes the work folder of `agent`, in the place of what was there. GW_OK also when that
     * has been done before. */
    void (*files_adopt)(void *ctx, const gw_id *ticket, const gw_id *agent, env_files_done done,
                        void *arg);
    /* Nobody needs the folder (ticket, agent): it goes, and nothing more comes into it. */
    void (*files_drop)(void *ctx, const gw_id *ticket, const gw_id *agent);
    /* Remove those that are still as `were` says. err of a fact: GW_OK it is not there any more,
     * GW_ECONFLICT it is another one now and stays; GW_EIO and the like: it could not be removed.
     */
    void (*files_remove)(void *ctx, const gw_id *owner, const struct env_file *files,
                         const struct env_fact *were, size_t n, env_files_done done, void *arg);
    void (*files_folders)(void *ctx, env_folders_done done, void *arg); /* all that are there */
};

#endif

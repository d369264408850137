/* The virtual mesh: N hosts (host/core/node.h) in one process, on one virtual clock, under one
 * seed.
 *
 * Each host is a real node over a simulated world: memory store, links with delay that can be cut,
 * frames that can be lost or doubled, runners that are the real engine called in-process, crashes
 * at any point. Everything that happens is an event in one queue ordered by (time, number); chance
 * comes from the seed alone, libsodium's included, so that a run repeats itself to the byte
 * (mesh_digest).
 *
 * After each event the invariants are checked over all hosts (virtual_check.c); a violation ends
 * the test with the seed and the last lines of the trace. Environment: MESH_TRACE=1 prints the
 * whole trace. One mesh at a time, one thread. */
#ifndef TESTS_MESH_VIRTUAL_H
#define TESTS_MESH_VIRTUAL_H

#include <godwit/agent.h>

#include "host/core/node.h"

#define MESH_HOSTS_MAX 12
#define MESH_TYPES_MAX 8

struct mesh;

/* --- life --- */
/* `hosts` [1 .. MESH_HOSTS_MAX], named h0, h1, …; none is started. All offer the types of tally.h.
 */
struct mesh *mesh_new(uint64_t seed, size_t hosts);
void mesh_free(struct mesh *m);
/* What the runner of a host offers from its next start on. Borrowed. */
void mesh_set_types(struct mesh *m, size_t host, const struct gw_type *const *types, size_t n);
/* The built-in types of a host from its next start on: rows and types in the same order. Borrowed.
 */
void mesh_set_builtins(struct mesh *m, size_t host, const struct node_builtin *rows,
                       const struct gw_type *const *types, size_t n);
/* The limits of a host from its next start on (node.h); 0 = the usual one. */
void mesh_set_limits(struct mesh *m, size_t host, struct node_limits limits);
void mesh_start(struct mesh *m, size_t host);
/* Start every host that is down; run until all are ready and linked. */
void mesh_start_all(struct mesh *m);
/* As by kill -9: what the store has applied stays, everything else is gone. Never from inside a
 * call of the node: from a test, or by a fate (below). */
void mesh_crash(struct mesh *m, size_t host);
/* Orderly: node_stop, run until on_stopped (60 s at most), free. */
void mesh_stop(struct mesh *m, size_t host);
/* Each read of the store takes so much longer from now on. */
void mesh_slow_reads(struct mesh *m, size_t host, int64_t us);
void mesh_crash_runner(struct mesh *m, size_t host); /* when it has come up */
void mesh_wipe(struct mesh *m,
               size_t host); /* its disk is replaced by an empty one; the host is down */
/* What the disk of a host holds at this moment; store_close it. And back to that: the host is down;
 * restored: its next start is with --restored. */
struct store *mesh_backup(struct mesh *m, size_t host);
void mesh_put_back(struct mesh *m, size_t host, struct store *backup, bool restored);
bool mesh_alive(const struct mesh *m, size_t host);
bool mesh_ready(const struct mesh *m, size_t host);
struct node *mesh_node(struct mesh *m, size_t host); /* NULL while down */
struct host_id mesh_host_id(const struct mesh *m, size_t host);
const struct host_key *mesh_host_key(const struct mesh *m, size_t host);
const char *mesh_host_name(const struct mesh *m, size_t host);

/* --- time --- */
int64_t mesh_now_us(const struct mesh *m);
bool mesh_step(struct mesh *m); /* one event; false when there is none */
void mesh_run(struct mesh *m, int64_t ms);
/* Until `want(arg)`, looked at after each event; false when `ms` have passed first. */
bool mesh_run_until(struct mesh *m, bool (*want)(void *arg), void *arg, int64_t ms);
/* An event of the test itself, not bound to a host. `drop` (NULL allowed) instead when the mesh
 * ends. */
void mesh_at(struct mesh *m, int64_t delay_us, void (*run)(void *arg), void (*drop)(void *arg),
             void *arg);
/* A host stands still for so long, then goes on: all that came meanwhile comes at once, its clock
 * has jumped on. asleep: its whole machine, so that its monotonic clock and timers stood, too. The
 * host is up. Its peers end their links when they have heard nothing for long enough; whom a test
 * asks is told GW_EUNREACHABLE meanwhile. */
void mesh_pause(struct mesh *m, size_t host, int64_t ms, bool asleep);
/* What a host has decided about second links of its peers (env->peer_rival): how many it took, and
 * ended, and its last word to one. */
size_t mesh_rivals_taken(const struct mesh *m, size_t host);
size_t mesh_rivals_ended(const struct mesh *m, size_t host);
const struct buf *mesh_rival_word(const struct mesh *m, size_t host);
gw_err mesh_fatal(const struct mesh *m, size_t host); /* why it has asked to be ended; GW_OK: not */
/* Set the wall clock of a host, so many ms from where it is; virtual time goes on as before. */
void mesh_set_clock(struct mesh *m, size_t host, int64_t by_ms);
/* Chance of the seed: [0 .. n-1], n > 0. */
uint64_t mesh_random(struct mesh *m, uint64_t n);

/* --- links --- */
/* Cut the link now, if it is up; it is dialled again unless the pair is apart. */
void mesh_cut(struct mesh *m, size_t a, size_t b);
void mesh_part(struct mesh *m, size_t a, size_t b, bool apart); /* also cuts */
bool mesh_linked(const struct mesh *m, size_t a, size_t b);     /* both ends know that it is up */
/* Nothing gets through from one host to the other for so long, while their link looks up. When that
 * is over it arrives late, in order, unless one end has given the link up for its silence (after 30
 * to 45 s). No link comes up meanwhile. Longest time counts. */
void mesh_mute(struct mesh *m, size_t from, size_t to, int64_t ms);
/* Half of the links that end from now on are closed in good order at one end: what is in flight
 * arrives as long as the other end has not learned of it. Else it is lost. */
void mesh_let_linger(struct mesh *m);
/* One-way delay of a pair, before jitter [1 us .. ]. */
void mesh_set_delay(struct mesh *m, size_t a, size_t b, int64_t us);
/* Hand a frame (with its length) to `to` as if `from` had sent it now over their link. */
void mesh_inject(struct mesh *m, size_t from, size_t to, const struct buf *frame);

/* Frames to the runner of the plugin are shown before it sees them; `take` returns true for those
 * that it shall not see: then the test answers in its place, by node_runner_frame. NULL: none. */
typedef bool (*mesh_runner_hook)(void *arg, size_t host, const struct frame *frame);
void mesh_on_runner(struct mesh *m, mesh_runner_hook take, void *arg);

/* --- faults: asked at the moment of delivery, of applying --- */
typedef enum mesh_fate {
    FATE_PASS,
    FATE_LOSE,       /* this frame only; the link lives */
    FATE_CUT,        /* the link ends; this frame and all in flight on it are lost */
    FATE_CUT_AFTER,  /* delivered, then the link ends */
    FATE_TWICE,      /* delivered, and again a little later */
    FATE_LATE,       /* delivered, and again much later (seconds), whatever link is there then */
    FATE_CRASH_FROM, /* delivered, the sender crashes */
    FATE_CRASH_TO,   /* the receiver crashes before it sees the frame */
    FATE_CRASH_TO_AFTER
} mesh_fate;
typedef mesh_fate (*mesh_frame_hook)(void *arg, size_t from, size_t to, const struct frame *frame);
typedef enum commit_fate {
    COMMIT_PASS,
    COMMIT_CRASH_BEFORE, /* not applied */
    COMMIT_CRASH_AFTER,  /* applied, nobody was told */
    COMMIT_FAIL,         /* a certain roll-back, told as GW_EDISK_FULL */
    COMMIT_SLOW,         /* the disk sleeps for 5 s; what is queued behind waits, too */
    COMMIT_IO_ERROR      /* nobody knows whether it is applied: the process ends itself */
} commit_fate;
typedef commit_fate (*mesh_commit_hook)(void *arg, size_t host);
/* NULL: all pass. */
void mesh_on_frame(struct mesh *m, mesh_frame_hook hook, void *arg);
void mesh_on_commit(struct mesh *m, mesh_commit_hook hook, void *arg);

/* Each commit of the host is a certain roll-back for so long; a host that starts meanwhile ends. */
void mesh_fill_disk(struct mesh *m, size_t host, int64_t ms);

/* --- files of a host: a path and a content (virtual_files.c) --- */
void mesh_file_put(struct mesh *m, size_t host, const char *path, uint64_t content);
bool mesh_file_get(struct mesh *m, size_t host, const char *path, uint64_t *ret_content);
void mesh_file_remove(struct mesh *m, size_t host, const char *path);
void mesh_files_each(struct mesh *m, size_t host,
                     void (*see)(void *arg, const char *path, uint64_t content), void *arg);
typedef enum file_fate {
    FILE_PASS,
    FILE_BREAK,  /* half of it has come, and the transfer ends */
    FILE_FULL,   /* no room at the destination */
    FILE_CHANGE, /* somebody writes to it behind the reader */
} file_fate;
/* Asked at the end of each file that is sent; and, with from == to, before a folder becomes a work
 * folder (path "incoming/..."), or files that moved are removed (the first of them): FILE_FULL, and
 * it fails. */
typedef file_fate (*mesh_file_hook)(void *arg, size_t from, size_t to, const char *path);
void mesh_on_file(struct mesh *m, mesh_file_hook hook, void *arg);

/* --- figures of all meshes of this process --- */
#define FIGURES(X)                                                                                 \
    X(EVENTS, "events")                                                                            \
    X(FRAMES, "frames")                                                                            \
    X(COMMITS, "commits")                                                                          \
    X(LOST, "frames lost")                                                                         \
    X(TWICE, "frames doubled")                                                                     \
    X(LATE, "frames late")                                                                         \
    X(CUT, "links cut")                                                                            \
    X(LINGERED, "frames of ended links")                                                           \
    X(PARTED, "pairs parted")                                                                      \
    X(MUTED, "one-way partitions")                                                                 \
    X(SILENT, "links given up for silence")                                                        \
    X(PAUSED, "hosts paused")                                                                      \
    X(CLOCK, "clocks set")                                                                         \
    X(CRASHED, "hosts crashed")                                                                    \
    X(UNSYNCED, "commits lost in crashes")                                                         \
    X(SLOW, "disks asleep")                                                                        \
    X(FULL, "commits refused by full disks")                                                       \
    X(IO_ERROR, "I/O errors")                                                                      \
    X(RUNNER, "runners killed")                                                                    \
    X(NOT_STARTED, "starts that failed")                                                           \
    X(MOVES, "agents arrived")
typedef enum figure {
#define FIGURE_ID(id, text) FIGURE_##id,
    FIGURES(FIGURE_ID)
#undef FIGURE_ID
        FIGURE_COUNT
} figure;
uint64_t mesh_figure(figure f);
const char *mesh_figure_name(figure f);

/* --- operations --- */
struct mesh_call {
    bool done;
    int64_t done_us; /* virtual time */
    gw_err
        err; /* GW_EUNREACHABLE when its host crashed first, GW_ETIMEOUT when mesh_wait gave up */
    gw_value value;
    gw_value items; /* of a stream: a list */
    struct gw_error why;
    /* private */
    struct mesh_open *open;
};
/* Calls of the test come as over HTTP from now on: they cannot be kept waiting (pressure.c). */
void mesh_be_impatient(struct mesh *m);
/* Begin an operation at a host; arguments as JSON in which ' stands for ":
 *     mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add', 'args': {'by': 2}}", id)
 * A host that is down answers GW_EUNREACHABLE. Free with mesh_call_free, answered or not. */
struct mesh_call *mesh_ask(struct mesh *m, size_t host, const char *op, const char *fmt, ...)
    GW_PRINTF(4, 5);
/* The same with arguments that are built already; takes them. */
struct mesh_call *mesh_ask_value(struct mesh *m, size_t host, const char *op, gw_value args);
gw_err mesh_wait(struct mesh *m, struct mesh_call *call, int64_t ms);
void mesh_call_free(struct mesh_call *call); /* NULL allowed */
/* The caller goes away: a stream ends, another call goes on unheard. */
void mesh_call_leave(struct mesh_call *call);
/* What is asked from now on carries this traceparent; NULL: none. Borrowed. */
void mesh_set_trace(struct mesh *m, const char *traceparent);
/* Ask and wait for up to 60 s; `ret` (NULL allowed) is the caller's on GW_OK. */
gw_err mesh_op(struct mesh *m, size_t host, gw_value *ret, const char *op, const char *fmt, ...)
    GW_PRINTF(5, 6);
/* The same; anything but GW_OK fails the test. */
void mesh_must(struct mesh *m, size_t host, gw_value *ret, const char *op, const char *fmt, ...)
    GW_PRINTF(5, 6);

/* How many files.copy have begun at a host, and how many are over. Each takes 2 s in 20 steps. */
size_t mesh_file_copies(const struct mesh *m, size_t host, size_t *ret_ended);

/* --- shorthands about agents (tally.h) --- */
gw_id mesh_create(struct mesh *m, size_t host, const char *type); /* must succeed */
/* Dispatch and wait; the code. */
gw_err mesh_move(struct mesh *m, size_t via, const gw_id *agent, size_t to);
/* add(by = 1) under a request key; the code. */
gw_err mesh_add(struct mesh *m, size_t via, const gw_id *agent, const char *key);
int64_t mesh_count(struct mesh *m, size_t via, const gw_id *agent); /* get(); must succeed */

/* --- checks --- */
/* Where the one runnable copy is (test fails when there is none, or when it is not one). */
size_t mesh_where(struct mesh *m, const gw_id *agent, uint64_t *ret_epoch);
/* How many copies, of any status but quarantined, all live hosts show. */
size_t mesh_copies(struct mesh *m, const gw_id *agent);
/* Remove all faults, join what is apart, start what is down, run until every move has ended (5 min
 * at most, else the test fails), and 3 s more. */
void mesh_heal(struct mesh *m);
/* After mesh_heal: exactly one copy of each agent that mesh_expect named (mesh_create does), at
 * most one of any other, nothing staged or departed, node_moves_count 0 everywhere. */
void mesh_expect_whole(struct mesh *m);
void mesh_expect(struct mesh *m, const gw_id *agent);
/* This agent is meant to end: one copy or none. */
void mesh_expect_disposed(struct mesh *m, const gw_id *agent);
/* An operator ends a move of this agent by his word: a second copy may run until the two have met
 * (from now on I1 and I2 are looked at in mesh_expect_whole only; quarantined copies do not count
 * there). */
void mesh_excuse(struct mesh *m, const gw_id *agent);
/* Of everything that happened so far. */
uint64_t mesh_digest(const struct mesh *m);
uint64_t mesh_events(const struct mesh *m);
/* Add a line to the trace. */
void mesh_note(struct mesh *m, const char *fmt, ...) GW_PRINTF(2, 3);
/* The command that runs this mesh again, for mesh_fail to print. Copied. */
void mesh_set_again(struct mesh *m, const char *command);
/* Print seed and end of the trace, and fail the test. */
void mesh_fail(struct mesh *m, const char *fmt, ...) GW_PRINTF(2, 3) __attribute__((noreturn));
#define mesh_assert(m, cond)                                                                       \
    ((cond) ? (void)0 : mesh_fail((m), "%s:%d: %s", __FILE__, __LINE__, #cond))

#endif

/* Structures of the virtual mesh, shared by its files only. */
#ifndef TESTS_MESH_INTERNAL_H
#define TESTS_MESH_INTERNAL_H

#include <sys/queue.h>

#include "agents/sdk/engine.h"
#include "persistence/store.h"
#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

#define TRACE_LINES      400
#define TRACE_LINE_BYTES 160
#define VIEWS_MAX        512

/* An event: a closure with a time. Dropped unrun when its owner was restarted meanwhile. */
struct mesh_event {
    int64_t at_us;
    uint64_t number;    /* order among equals */
    struct vhost *host; /* NULL: of the mesh */
    uint64_t life;      /* of the host when it was made */
    void (*run)(void *arg);
    void (*drop)(void *arg); /* NULL allowed: arg needs no freeing */
    void *arg;
};

struct env_timer {
    struct vhost *host;
    void (*fire)(void *arg);
    void *arg;
    uint64_t armed; /* number of the start that counts; 0 = stopped */
    size_t queued;  /* events that point here */
    bool freed;
    LIST_ENTRY(env_timer) link;
};

struct view {
    gw_id agent;
    uint64_t epoch;
    char status[16];
    bool runnable;
};

struct vrunner {
    struct engine *engine; /* NULL: not running */
    uint64_t life;
    int pid;
    bool starting;
    struct { /* DONEs of one agent keep their order */
        gw_id agent;
        int64_t last_us;
    } lanes[16];
    size_t next_lane;
    LIST_HEAD(, fiber) fibers; /* virtual_save.c: handlers that wait for their save */
};

struct vhost {
    struct mesh *mesh;
    size_t index;
    char name[16];
    char url[64];
    struct host_key key;
    struct host_id id;
    struct gw_env env;
    uint64_t rng[4];
    struct node *node; /* NULL: down */
    uint64_t life;     /* +1 at each start and crash */
    bool ready, stopped, dying;
    bool start_spoilt;                 /* a fault hit a commit of its start: that may fail */
    size_t rivals_taken, rivals_ended; /* env->peer_rival */
    struct buf rival_word;
    gw_err fatal;  /* on_fatal was called */
    bool restored; /* its next start is by an operator who knows that its store is an old copy */
    int64_t clock_skew_ms;
    int64_t stands_until_us; /* paused: nothing of it runs before */
    int64_t slept_us;        /* of its monotonic clock: the machine was asleep */
    int64_t full_until_us;   /* its disk is full before */
    struct store *store;
    STAILQ_HEAD(, request) storage; /* virtual_env.c: not applied yet, in their order */
    int64_t storage_free_us;        /* when the storage thread has nothing left to do */
    int64_t storage_stall_us;       /* nothing is applied before */
    int64_t storage_told_us;        /* time of the last completion */
    int64_t read_slow_us;           /* more for each read */
    struct vrunner runners[2];      /* of the plugin, of the built-in types */
    const struct gw_type *const *types;
    size_t type_count;
    const struct node_builtin *builtins;
    const struct gw_type *const *builtin_types;
    size_t copies, copies_ended; /* virtual_env.c: files.copy that began here, and are over */
    size_t builtin_count;
    struct node_limits limits;
    LIST_HEAD(, vfile) files; /* virtual_files.c */
    uint64_t last_ino;
    int64_t file_clock; /* of times of change: no two are alike */
    LIST_HEAD(, vexpected) expected;
    LIST_HEAD(, vjob) file_sends;
    STAILQ_HEAD(, vjob) file_jobs;
    LIST_HEAD(, env_timer) timers;
    size_t timer_count;
    LIST_HEAD(, mesh_open) calls; /* open operations, of tests and of peers */
    struct view views[VIEWS_MAX];
    size_t view_count;
};

/* A pair of hosts; end 0 is the lower index. */
struct vlink {
    struct mesh *mesh;
    struct vhost *ends[2];
    bool apart, wanted, dialling;
    bool up;              /* frames pass */
    bool lingers;         /* not up, but those in flight still do */
    uint64_t incarnation; /* +1 at each dial that succeeds */
    bool told[2];         /* node_peer_up was called, node_peer_down not yet */
    int64_t delay_us;
    int64_t hold_until_us;    /* peer_drop: not dialled before */
    int64_t last_us[2];       /* delivery of the last frame towards that end */
    int64_t mute_until_us[2]; /* nothing gets through to that end before */
};

/* An operation in progress at a node: asked by a test (call) or by a CALL frame of a peer (from).
 */
struct mesh_open {
    struct op_call op; /* first: op_call.answer gets it back */
    struct vhost *host;
    struct mesh_call *call; /* of a test; NULL: of a peer, or forgotten by the test */
    struct vhost *from;
    uint64_t stream;
    bool cancelled;
    LIST_ENTRY(mesh_open) link;
};

struct known { /* what the checks remember of an agent */
    gw_id agent;
    uint64_t least; /* nothing below may be runnable any more */
    bool expected;
    bool excused; /* an operator's word may have made a second copy */
};

struct mesh {
    uint64_t seed;
    uint64_t rng[4];
    int64_t now_us;
    struct mesh_event *heap;
    size_t heap_count, heap_cap;
    uint64_t next_number, events;
    size_t host_count;
    struct vhost hosts[MESH_HOSTS_MAX];
    struct vlink links[MESH_HOSTS_MAX][MESH_HOSTS_MAX]; /* [low][high] */
    mesh_frame_hook on_frame;
    void *frame_arg;
    mesh_commit_hook on_commit;
    void *commit_arg;
    mesh_runner_hook on_runner;
    void *runner_arg;
    mesh_file_hook on_file;
    void *file_arg;
    uint64_t files_made; /* porter.c */
    uint64_t file_rng[4];
    struct known *known;
    size_t known_count, known_cap;
    uint64_t digest;
    bool print;
    bool ending;
    bool impatient;
    bool lingers;            /* what is in flight when a link ends may still arrive */
    char again[256];         /* the command that repeats it; may be empty */
    const char *traceparent; /* of what tests ask; NULL = none */
    char trace[TRACE_LINES][TRACE_LINE_BYTES];
    uint64_t trace_count;
};

/* ---- virtual.c ---- */
void rng_seed(uint64_t rng[4], uint64_t seed);
uint64_t rng_next(uint64_t rng[4]);
int64_t mesh_between(struct mesh *m, int64_t low, int64_t high); /* inclusive */
/* Queue an event at an absolute time (not before now). `host` NULL: not bound to one. */
void mesh_push(struct mesh *m, struct vhost *host, int64_t at_us, void (*run)(void *arg),
               void (*drop)(void *arg), void *arg);
/* What a crashed process would have taken with it (contexts of callbacks that never come): kept
 * reachable, so that the leak checker reports only real leaks. */
void mesh_bury(void *arg);
bool mesh_stands(const struct vhost *h); /* it is paused */
/* Count a fault, or what else a run wants told in the end. */
void mesh_figure_add(figure f);
/* ---- virtual_env.c ---- */
void venv_init(struct vhost *h);
bool venv_is_timer(void (*run)(void *arg)); /* what a timer of a host puts into the queue */
void venv_free_timers(struct vhost *h);
void venv_drop_storage(struct vhost *h);
/* ---- virtual_files.c ---- */
void vfiles_init(struct vhost *h);
void vfiles_host_down(struct vhost *h); /* the process is gone, the files stay */
void vfiles_sweep(struct vhost *h);
void vfiles_free(struct vhost *h);
/* ---- virtual_runner.c ---- */
void vrunner_start(void *ctx, size_t index);
void vrunner_send(void *ctx, size_t index, struct buf *frame);
void vrunner_kill(void *ctx, size_t index);
void vrunner_inline(void *ctx, struct inline_run *in, struct inline_done *done);
void vrunner_reset(struct vhost *h); /* the host is down */
/* ---- virtual_link.c ---- */
void vlink_init(struct mesh *m);
struct vlink *vlink_of(struct mesh *m, size_t a, size_t b);
void vlink_send(struct vhost *from, const struct host_id *to, struct buf *frame);
void vlink_host_up(struct vhost *h);
void vlink_host_down(struct vhost *h);
void vlink_cut(struct vlink *l);
void vlink_want(struct vlink *l);
void vlink_host_stands(struct vhost *h); /* until h->stands_until_us */
/* ---- virtual_call.c ---- */
/* A CALL frame of a peer. */
void vcall_frame(struct vhost *h, struct vhost *from, const struct frame *frame);
void vcall_host_down(struct vhost *h);
/* ---- virtual_check.c ---- */
void check_host(struct vhost *h); /* look at its agents again, check all */
void check_host_down(struct vhost *h);

/* virtual_save.c: a RUN of hook `run`, the SAVED for one that is suspended; what it answers (SAVE
 * or DONE) is in `out`. vsave_end: before the engine goes. */
gw_err vsave(void *ctx, const gw_id *agent, uint64_t stream, const struct buf *frame,
             struct buf *ret_answer, struct gw_error *why);
void vsave_run(struct vrunner *r, const struct frame *frame, struct buf *out);
void vsave_saved(struct vrunner *r, const struct frame *frame, gw_id *ret_agent, struct buf *out);
void vsave_end(struct vrunner *r);

#endif

/* Structures of the node, shared by the files of host/core/ only. */
#ifndef HOST_CORE_INTERNAL_H
#define HOST_CORE_INTERNAL_H

#include <sys/queue.h>

#include "host/core/metrics.h"
#include "host/core/node.h"
#include "host/core/op_handlers.h"
#include "protocol/base/log.h"
#include "protocol/base/table.h"
#include "protocol/limits.h"
#include "protocol/trace.h"
#include "protocol/value.h"

#define REQUEST_KEY_BYTES 16 /* hash of a client's request id */
#define ROW_KEY_BYTES     (GW_ID_BYTES + 8)
#define AGENT_ROW_FIELDS  13 /* and more, which rows of the first build do not have */
#define STREAM_KEY_BYTES  (GW_ID_BYTES + 1) /* other agent, then STREAM_IN or STREAM_OUT */
#define STREAM_IN         0
#define STREAM_OUT        1

/* ---- agents (agents.c) ---- */
typedef enum agent_status {
    AGENT_ACTIVE,      /* runnable */
    AGENT_INACTIVE,    /* asleep on disk */
    AGENT_MOVING,      /* a move out has begun: queue parked, see agent->move */
    AGENT_STAGED,      /* here, not yet ours (in `moves_in`, never in the registry) */
    AGENT_DEPARTED,    /* not ours any more (in `moves_out`, never in the registry) */
    AGENT_QUARANTINED, /* state does not decode or fences collide: kept, not run */
    AGENT_DISPOSED,
    AGENT_STATUS_COUNT
} agent_status;
extern const char *const agent_status_names[AGENT_STATUS_COUNT];

/* ---- types and runners (runners.c) ---- */
typedef enum runner_state {
    RUNNER_STARTING,
    RUNNER_UP,
    RUNNER_BACKOFF,
    RUNNER_BROKEN
} runner_state;
struct runner {
    struct node *node;
    size_t index;
    bool builtin; /* the built-in types, in this process */
    runner_state state;
    int pid;
    unsigned restarts;   /* since the host started */
    unsigned bad_starts; /* in a row that ended before a HELLO */
    unsigned crashes;    /* in a row; reset when it lived RUNNER_STABLE_MS */
    int64_t up_since_us;
    uint64_t incarnation; /* +1 each time it comes up: loaded objects of older ones are gone */
    struct env_timer *timer;
    struct work *in_flight; /* uthash by stream */
    size_t suspects; /* work that ended it twice, perhaps: while there is any, one thing runs at a
                        time */
    bool holds, resuming; /* something was held back for that; runner_resume is at work */
    bool ending;          /* an operator has killed what one of its agents does (stuck.c) */
    gw_value about;       /* types as it described them */
    char problem[320];    /* why it is BROKEN or in BACKOFF */
    char hint[200];       /* more of it: the place of a fault in a signature */
};

/* ---- what is said about a sleep (sleep.c) ---- */
typedef enum says { SAYS_NOTHING, SAYS_NO, SAYS_YES } says;
struct sleep_wish { /* by one side; what it leaves open the next one decides */
    says on_message, at_start;
    enum { WAKE_NEVER, WAKE_AFTER, WAKE_AT } when;
    int64_t ms; /* WAKE_AFTER: from now on; WAKE_AT: since 1970 */
};
struct sleeping; /* what a deactivation or activation has to remember */

typedef enum durability { /* when the state of agents of a type is written (unsaved.c) */
                          DURABLE_EVERY_MESSAGE,
                          DURABLE_TRANSITIONS,
                          DURABLE_VOLATILE
} durability;

struct type {
    UT_hash_handle hh;
    char name[LIMIT_NAME_BYTES + 1];
    uint32_t version;
    uint32_t oldest_reader; /* version that can read what this one writes */
    uint32_t hooks;         /* bit per frame_hook */
    durability durability;
    uint32_t quarantine_after;          /* crashes; as the type says, 0 = by default */
    int64_t quarantine_ms;              /* within */
    const struct node_builtin *builtin; /* NULL: of a plugin */
    struct runner *runner;              /* NULL: rows here name it, no runner offers it */
    const gw_value *about;              /* in runner->about, or NULL */
    size_t counts[AGENT_STATUS_COUNT];  /* of its agents in the registry */
    LIST_HEAD(live_list, live) lives;   /* of its agents that have one */
    TAILQ_HEAD(idle_list, agent) idle;  /* its active agents, by last use, oldest first (idle.c) */
    int64_t idle_ms;                    /* so long without work, and it sleeps; 0 = never */
    struct sleep_wish sleep;            /* where nobody else says */
    uint32_t sleepers;                  /* sleepers.c */
};

/* What stands in a row of TABLE_AGENTS besides its key. */
struct agent_row {
    agent_status status;
    char type[LIMIT_NAME_BYTES + 1];
    struct host_id home;
    char alias[LIMIT_ALIAS_BYTES + 1];
    gw_id of; /* cloned from */
    int64_t created_ms;
    uint32_t pending;    /* bit per frame_hook that still has to run (arrive, activate, run) */
    bool no_wake;        /* a message does not wake it: queued, or refused */
    bool wake_at_start;  /* it is woken when its host starts */
    gw_id ticket;        /* staged, departed */
    struct host_id peer; /* staged: source; departed: destination */
    uint8_t nonce[TICKET_NONCE_BYTES]; /* staged: ours; departed: the destination's */
    agent_status then;                 /* staged: becomes this at COMMIT (active or inactive) */
    struct trace trace;                /* staged: of the move */
    struct buf intent;    /* packed [verb, args] that the agent asked about itself and that is not
                             done; owned */
    struct buf itinerary; /* packed (itinerary.c); owned */
    char fault[LIMIT_ERROR_TEXT_BYTES]; /* of a quarantined one that activate may release */
};
void agent_row_clear(struct agent_row *row);

/* What a message carries with it besides its arguments (carry.c). */
#define PRIORITY_NORMAL 5
#define PRIORITY_MOST   9 /* the most urgent: runs first */
#define CARRY_FIELDS    5 /* members of a row */
struct carry {
    uint8_t priority;
    int64_t deadline_us; /* monotonic; not begun after it; 0 = none */
    struct trace trace;  /* its own span */
    char *state;         /* tracestate, owned; NULL = none */
    char *topic;         /* of a publication, owned; NULL = none */
};

struct live; /* what an agent needs in memory while it does something */
/* One that sleeps and that nothing hangs on loses this after a moment (sleepers.c): beyond a turn
 * of the loop it is remembered by its id. What has to stay beside the row belongs into
 * agent_is_bare. */
struct agent {
    UT_hash_handle hh; /* by id */
    gw_id id;
    uint64_t epoch;
    struct type *type;
    const struct host_id *home;  /* interned (peers.c) */
    char *alias;                 /* NULL = none */
    struct live *live;           /* NULL: nothing in memory */
    struct move_out *move;       /* AGENT_MOVING */
    struct buf *intent;          /* as in the row; NULL = none */
    struct agent_timers *timers; /* timers.c; NULL = none */
    struct unsaved *unsaved;     /* unsaved.c; NULL = none */
    struct itinerary *itinerary; /* itinerary.c; NULL = none */
    TAILQ_ENTRY(agent) idle; /* in type->idle while AGENT_ACTIVE, n->resting while AGENT_INACTIVE */
    int64_t used_us;         /* when it last ended a piece of work, or came to rest */
    struct agent_crashes *crashes; /* crashes.c; NULL = none */
    char *fault; /* why it is quarantined, when activate may release it; NULL = not so */
    struct agent_watches *watches; /* watches.c; NULL = none */
    struct agent_files *files;     /* files.c; NULL = none */
    struct move_out *sending;      /* its files flow ahead of a move; it runs on */
    gw_id of;
    int64_t created_ms;
    uint32_t pending; /* as in the row */
    agent_status status;
    bool no_wake, wake_at_start;             /* as in the row, while it sleeps */
    bool start_waits, wake_wanted, starting; /* starts.c */
    bool waking;                             /* an activation is queued or runs */
    bool intent_busy;                        /* one of intent is being carried out */
    bool unborn;        /* its create is not durable yet: nobody may know of it */
    uint8_t wish_tries; /* of the wish that is tried again */
    bool loading;       /* its timers and mail are being read: nothing runs before */
};

struct seen_request { /* one recorded answer */
    uint8_t key[REQUEST_KEY_BYTES];
    int64_t at_ms;
    uint32_t bytes; /* of the answer */
    bool owed;      /* there is none yet (later.c) */
    bool answering; /* it is on its way to the disk */
};
struct stream_mark { /* of tells, from or to another agent: the last number that was accepted, or
                        given */
    gw_id other;
    uint64_t mark;
    bool out;
    bool accepting; /* the acceptance of `mark` is not durable yet: nobody may be told (H6) */
};
struct live {
    struct agent *agent;
    LIST_ENTRY(live) of_type;
    TAILQ_HEAD(work_queue, work) queue;
    struct mail_order *order; /* mailbox.c; NULL: all of it has the normal priority */
    size_t queued;            /* length of queue */
    size_t arriving;          /* messages whose acceptance is not durable yet: queued then */
    size_t queued_bytes;
    struct work *current;     /* running, or waiting for a read */
    struct work *suspended;   /* save.c: `run` that waits for its save, and for messages between */
    size_t save_messages;     /* that may still come between */
    struct gw_error save_why; /* how its save has ended */
    bool parks;               /* some may be `parked` */
    struct work_queue committing; /* pipeline.c: their handlers have ended, oldest first */
    size_t committing_count, committing_bytes;
    struct store_chain *chain; /* of these transactions; NULL = none yet */
    gw_err broken;             /* one was rolled back: all of them are void */
    bool settling;             /* pipeline_settle is at work */
    bool closed;               /* nothing begins before they are durable */
    bool known;           /* requests, streams and numbers below are read (or the agent is new) */
    uint64_t incarnation; /* of the runner that has the object; 0 = none */
    struct buf parts;     /* packed map read from the store, until it is sent; empty = not read */
    bool held; /* a transaction was rolled back: its work runs again soon (work_release) */
    bool pumping, pump_again; /* work_pump */
    bool have_parts;
    struct seen_request *requests;
    size_t request_count, request_cap;
    struct stream_mark *streams; /* by other, out */
    size_t stream_count, stream_cap;
    struct asking { /* agents of this host that its handler has asked (send.c) */
        gw_id whom;
        uint64_t number;
    } * asks;
    uint32_t ask_count, ask_cap;
    uint64_t circle_seen; /* of the last walk that came by */
    uint64_t outbox_next; /* number of the next tell */
    uint64_t inbox_next;
};

/* One thing that an agent does: a message or a hook (work.c). */
struct work;
STAILQ_HEAD(held_calls, held_call); /* pipeline.c */
struct run_result {                 /* a DONE frame, decoded; spans are borrowed */
    gw_err err;
    struct gw_error why;
    struct span reply;
    struct span parts;   /* packed map or nil */
    struct span actions; /* packed list */
    uint32_t flags;
};
struct work {
    UT_hash_handle hh; /* in runner->in_flight, by stream */
    uint64_t stream;
    TAILQ_ENTRY(work) link;
    struct node *node;
    struct agent *agent;
    frame_hook hook;
    char *method; /* HOOK_METHOD; the name of the timer with HOOK_TIMER */
    struct buf args;
    gw_id sender;                    /* agent; nil = a client */
    char from[LIMIT_NAME_BYTES + 1]; /* previous host, of HOOK_ARRIVE */
    struct buf chain;                /* packed list of ids, or empty */
    uint64_t ask;                    /* its number in the sender's asks; 0 = none */
    uint8_t seed[REQUEST_KEY_BYTES]; /* of a call without a key: it may yet need one (later.c) */
    bool later;                      /* it ended, and its caller is to be answered later */
    uint32_t flags;                  /* RUN_* */
    bool has_key;
    uint8_t key[REQUEST_KEY_BYTES];
    bool lifecycle;  /* runs although the agent is moving or inactive */
    bool handoff;    /* the snapshot of a move: alone runs while the agent is moving */
    bool no_commit;  /* a snapshot: its result goes to done() at once, nothing is written */
    bool only_known; /* ends once requests and streams are known, nothing is run */
    bool direct;     /* has no handler: goes from the queue to its transaction, past the runner */
    bool blind;      /* direct, also when requests, streams and numbers cannot be read */
    uint64_t inbox;  /* number of the durable inbox row it stands for; 0 = none */
    struct carry carry;
    LIST_ENTRY(work) dated; /* node->dated, while somebody waits for it until its deadline */
    bool is_dated;
    bool expired;              /* its deadline passed before it began */
    bool in_front;             /* put before what waited: nothing overtakes it */
    bool parked;               /* a one-way message of a client that came while its agent moved */
    unsigned attempts;         /* that ended in a crash */
    struct runner *suspect_of; /* counted in its `suspects` */
    bool poison;               /* it has ended its runner CRASH_ATTEMPTS times, or was killed */
    bool stuck, killed;        /* stuck.c: it was told of; an operator has ended it */
    /* Add to the transaction (may replace the row's status through `row`); NULL = none. */
    struct op_call
        *call; /* to be run again from its start when the agent has left meanwhile; may be NULL */
    /* Only asks the runner whether the state decodes: this instead of everything below. */
    void (*probe)(struct work *w, gw_err err, const struct gw_error *why);
    void (*prepare)(struct work *w, const struct run_result *r, struct store_batch *batch);
    /* Ends it, once: after the commit, or with an error. `r` NULL when err. The work is freed
     * after. */
    void (*done)(struct work *w, gw_err err, const struct run_result *r,
                 const struct gw_error *why);
    void *arg;
    bool arg_heap; /* free(arg) when it is dropped without done() (node_free) */
    /* of work.c, commit.c */
    struct inline_asks thens; /* asks of a built-in agent, until then, too */
    struct buf kept;          /* copy of the DONE frame until the commit is durable */
    struct run_result result;
    bool written;   /* it has a transaction */
    bool submitted; /* which is with the storage thread */
    bool closes;    /* nothing begins before it is durable */
    bool asks_save; /* gw_save: its transaction has the state, whatever the type asks for */
    bool cancelled; /* `run` was told to return: it is still due */
    bool keeps;     /* the state that it leaves stays in memory (unsaved.c) */
    bool saves;     /* its transaction has all that was in memory */
    struct held_calls calls;     /* of the handler behind it */
    size_t tells;                /* that its transaction put into the outbox */
    uint32_t cleared;            /* hook bit that its commit wrote, for a roll-back */
    uint64_t wish_from, wish_to; /* numbers of the wishes that it added */
    uint64_t wish;          /* lifecycle work: number of the wish that it carries out, 0 = none */
    struct sleeping *sleep; /* of a deactivation, an activation; owned, one block */
    struct buf itinerary;   /* of the agent, packed, as it was before this changed it */
    bool steps;             /* it has changed it */
    uint64_t revokes;       /* number of a message that it takes back; 0 = none */
    bool rolled_back;       /* it failed by its transaction, not by its handler */
    bool reads_state;
    bool dead;                /* its transaction makes it a dead letter */
    commit_point point;       /* of its transaction; POINT_NONE: what its hook says */
    bool reloaded;            /* the runner did not know the object: parts were sent again */
    int64_t taken_us, run_us; /* turn_us of when it was made, was sent to the runner (metrics) */
    int64_t timers_us;        /* monotonic time at which its handler's timers were set */
};

/* ---- where a host stands (standing.c) ---- */
#define INSTANCE_BYTES 16
#define SEAL_BYTES     16
struct standing { /* a point in the life of a store, as others remember it */
    uint64_t boot;
    uint8_t instance[INSTANCE_BYTES]; /* random, of that start */
    uint64_t number;                  /* of its last transaction */
    uint8_t seal[SEAL_BYTES];         /* made by that host: nobody else can say such a thing */
};
struct boot_point { /* a start, and the number of the last transaction before it */
    uint64_t boot;
    uint8_t instance[INSTANCE_BYTES];
    uint64_t first;
};
typedef enum held_state { /* why a host lets nothing run */
                          HELD_NOT,
                          HELD_STALE, /* its store is an old copy: until a start with --restored */
                          HELD_RESTORED /* restored.c: it asks the mesh about its agents */
} held_state;

/* ---- members and requests to them (peers.c) ---- */
struct peer {
    UT_hash_handle hh; /* by id */
    struct host_id id;
    char name[LIMIT_NAME_BYTES + 1];
    char url[257];
    uint8_t key[32];
    bool has_key;
    bool up;               /* a link is there, HELLO came, and neither store is an old copy */
    struct buf early;      /* the fields of a HELLO that came before this host was ready */
    bool hello;            /* a HELLO came over this link */
    held_state held;       /* as it says, or as is remembered here */
    struct standing heard; /* of its store; boot 0 = nothing */
    bool heard_dirty;      /* no row says so yet: in standing.unwritten */
    bool talked;           /* frames were exchanged of late: in standing.talkers */
    LIST_ENTRY(peer) unwritten, talker;
    uint64_t told; /* number that it was told */
    bool asked;    /* restored.c: a question to it is open */
    bool answered; /* ... it has said what it knows */
    bool unasked;  /* ... it could not be reached then: it is asked when it can */
    struct {       /* rivals.c: a second link in its name */
        bool there, probed, taken;
        struct node *node;
        struct env_timer *timer;
        struct buf hello; /* the fields of its HELLO */
        uint8_t instance[INSTANCE_BYTES];
    } rival;
    int64_t
        full_until_us; /* it refused an agent for want of room: not chosen before (0 = did not) */
    bool linked;       /* a link is there */
    bool self;
    bool kept;             /* a row stands for it */
    int64_t linked_us;     /* since when */
    int64_t down_since_us; /* while it is not up: since when, or since the start of this host */
    gw_strs tags, properties;
    struct peer_type {
        char name[LIMIT_NAME_BYTES + 1];
        uint32_t version;
    } * types;
    size_t type_count;
    uint32_t sleepers; /* sleepers.c */
};
struct request {
    UT_hash_handle hh; /* by stream */
    uint64_t stream;
    struct node *node;
    struct peer *peer;
    struct env_timer *timer;
    bool unsent; /* there was no link: answered in the next turn */
    void (*on_item)(void *arg, const struct frame *frame); /* of a stream, each ITEM; or NULL */
    /* Once. frame NULL when err (GW_EUNREACHABLE, GW_ETIMEOUT, GW_ECANCELLED). */
    void (*on_answer)(void *arg, gw_err err, const struct frame *frame);
    void *arg;
};

/* Highest epoch known of an agent that is not here: fence, forwarding pointer, home directory. */
struct location {
    UT_hash_handle hh; /* by agent id */
    gw_id agent;
    uint64_t epoch;
    struct peer *host;
    bool disposed;
    bool durable;               /* a row stands for it; others are hints */
    uint64_t fence;             /* epoch of that row: I2 */
    TAILQ_ENTRY(location) hint; /* while not durable, oldest first; in n->endings when `ended` */
    bool ended;                 /* disposed, and its row says since when */
    int64_t ended_ms;
    bool unwritten; /* that row was rolled back: it is written again */
    bool doubted; /* that host did not know it: another word on the same epoch may take its place */
};

struct node {
    const struct gw_env *env;
    struct node_config cfg;
    char name[LIMIT_NAME_BYTES + 1];
    char url[257];
    char mesh_id[GW_ID_TEXT];
    struct peer *self;
    int64_t started_us;
    uint64_t boot; /* number of this start, durable */
    struct {
        uint64_t number, durable; /* of the last transaction that was submitted, that is on disk */
        uint8_t key[32];          /* of seals */
        uint8_t instance[INSTANCE_BYTES];
        struct boot_point boots[LIMIT_BOOTS_TOLD]; /* the newest, oldest first; the last: this */
        size_t boot_count;
        uint64_t restored; /* boot at which the operator said last that this is an old copy; 0 */
        uint8_t here[INSTANCE_BYTES], machine[INSTANCE_BYTES]; /* this machine; that of the row */
        bool has_machine;
        bool rising, unrisen; /* a rise is not durable yet; was rolled back and is tried again */
        bool due;             /* talkers are told at the end of this turn */
        /* Few of the peers, which may be very many: this is looked at with each transaction. */
        LIST_HEAD(talkers_list, peer) talkers;
        LIST_HEAD(unwritten_list, peer) unwritten;
    } standing;
    held_state held;
    struct standing proof;              /* HELD_STALE: what shows it */
    char held_by[LIMIT_NAME_BYTES + 1]; /* the host that remembers it */
    struct restoring *restoring;        /* restored.c */
    bool ready, stopping, stopped;
    bool saved;        /* on its way to stopped: unsaved states are with the storage thread */
    bool ended;        /* node_free is at work */
    size_t boot_table; /* which of the long tables is being read */
    size_t boot_waits; /* agents of built-in types that are being made */
    bool residents_made;
    LIST_HEAD(making_list, making) makings; /* builtins.c */

    struct agent *agents;      /* all but the sleepers */
    struct sleepers *sleepers; /* sleepers.c */
    TAILQ_HEAD(resting_list, agent) resting;
    size_t active_count, inactive_count, builtin_count; /* of both; residents apart */
    struct alias {
        UT_hash_handle hh; /* by text */
        gw_id agent;
        char text[LIMIT_ALIAS_BYTES + 1];
    } * aliases;
    struct type *types;
    struct runner *runners;
    size_t runner_count;
    struct peer *peers; /* self included, and hosts that are known by their id alone */
    size_t members;     /* of them, those that a row stands for */
    struct request *requests;
    struct location *locations;
    TAILQ_HEAD(hint_list, location) hints;
    TAILQ_HEAD(ended_list, location) endings; /* locations.c: rows that are forgotten in time */
    size_t hint_count;
    bool locations_unwritten; /* some are */
    LIST_HEAD(again_list, again) agains;
    struct crowd *crowds; /* pressure.c: calls before full mailboxes, by agent */
    size_t waiting_count, waiting_bytes;
    struct ticket_out *tickets_out; /* handoff.h */
    struct ticket_in *tickets_in;
    struct move_in *moves_in;              /* those under tickets_in, by agent */
    struct files_expected *files_expected; /* files_in.c */
    LIST_HEAD(files_asked_list, files_asked) files_asked;
    LIST_HEAD(files_out_list, files_out) files_outs;
    struct leftover *leftovers; /* leftovers.c */
    struct leftovers *left;
    LIST_HEAD(yielding_list, yielding) yielding; /* copies.c */
    size_t cloning;                              /* local clones that are being written */
    struct created {                             /* keys of create and clone */
        UT_hash_handle hh;
        uint8_t key[REQUEST_KEY_BYTES];
        int64_t at_ms;
        gw_id agent;
        struct peer *host;
        char *type; /* owned */
        bool done;
        bool in_flight;   /* a call of this boot is making it: the record stays where it is */
        bool unsure;      /* an attempt ended without an answer, or in an earlier boot */
    } * created;          /* uthash keeps insertion order: oldest first */
    struct topic *topics; /* topics.c */
    struct topic_agent *topic_agents;
    size_t sub_count;
    uint64_t topics_clock;
    struct agent poster; /* sends the publications of people and tools */
    bool poster_damaged; /* its numbers cannot be read: it sends nothing */
    uint64_t next_stream;
    uint64_t asks_count;                       /* numbers given; of walks, too (send.c) */
    struct debtor *debtors;                    /* later.c: agents whose callers wait for answers */
    LIST_HEAD(waiting_list, waiting) orphaned; /* later.c: ... and of agents that have left */
    bool orphans_go;
    uint64_t event_seq;
    uint64_t dead_seq;
    struct dead_letter { /* what is on disk, oldest first (dead.c) */
        uint64_t number;
        size_t bytes;
    } * dead;
    size_t dead_count, dead_cap, dead_bytes;
    LIST_HEAD(dead_call_list, dead_call) dead_calls;
    size_t commits_in_flight;
    size_t calls_in_flight;
    bool any_held; /* some live->held is set */
    struct env_timer *housekeeping;
    LIST_HEAD(drain_list, drain) drains; /* drain.c */
    struct outbox *outboxes; /* tells.c: messages that wait to be delivered, by sender */
    LIST_HEAD(orphan_list, stream) orphans; /* tells.c: on the way while their sender left */
    LIST_HEAD(watching_list, agent_watches) watching; /* watches.c: of agents that have monitors */
    size_t asking_whereabouts;                        /* questions that are open (patrol.c) */
    uint32_t wishes;                                  /* numbers given (intents.c) */
    bool wishes_wait;                                 /* some wait for links */
    bool itineraries_wait;                            /* some wait for hosts */
    int64_t ready_us;
    bool loading;  /* timers and mail of all agents are being read, after boot */
    gw_id *starts; /* starts.c: a ring of those that wait to begin */
    size_t start_head, start_count, start_cap, starting;
    bool starts_deferred;
    struct timer **timers; /* timers.c: heap of those that wait for their time */
    size_t timer_count, timer_cap;
    struct env_timer *timers_alarm;
    int64_t clock_offset_ms;    /* wall clock less monotonic clock, when last compared */
    int64_t clock_set_us;       /* monotonic: when that was last seen to change, or the start */
    bool timers_unwritten;      /* a row does not know of that yet */
    struct follower *followers; /* events.c */
    struct log_line *log_lines; /* events.c: the last lines of agents */
    size_t log_head, log_count;
    struct trace trace; /* the span that is at work; none: nobody asked for what happens */
    LIST_HEAD(dated_list, work) dated; /* mailbox.c: works whose callers wait until a deadline */
    struct work *spare_works;          /* work.c: blocks for the next ones */
    size_t spare_works_count;
    struct env_timer *dated_alarm;
    int64_t dated_next_us; /* when it rings; 0 = not set */
    uint64_t messages_count, moves_out_count, moves_in_count, moves_aborted_count;
    struct metrics metrics;
    struct inline_asks inline_queue, inline_away; /* inline.c */
    LIST_HEAD(inline_call_list, inline_call) inline_calls;
    size_t inline_count;
    struct env_timer *inline_timer;
    bool inline_armed;
};

/* ---- node.c ---- */
int64_t node_now_ms(const struct node *n);
int64_t node_turn_us(const struct node *n); /* for measuring */
void node_random(const struct node *n, void *ret, size_t len);
gw_id node_new_id(const struct node *n);
/* Submit a batch, which is that of `point` (persistence/points.def: a new one needs a row of its
 * own); `done` may be NULL. */
void node_commit(struct node *n, struct store_batch *batch, commit_point point, storage_done done,
                 void *arg);
/* The same for what is no transaction of ours: rows about other hosts (standing.c). */
void node_commit_uncounted(struct node *n, struct store_batch *batch, commit_point point);
/* The agents begin: what boot does last, or the end of HELD_RESTORED. */
void node_begin_agents(struct node *n);
/* Nothing begins by itself: it stops, or it is held. */
static inline bool node_rests(const struct node *n)
{
    return n->stopping || n->held != HELD_NOT;
}
void node_check_stopped(struct node *n);
void node_boot_step(struct node *n); /* a runner has answered or failed */

/* ---- agents.c ---- */
/* 24 bytes: agent | epoch. */
struct span row_key(uint8_t ret[ROW_KEY_BYTES], const gw_id *agent, uint64_t epoch);
/* 32 bytes: agent | epoch | number. */
struct span row_number_key(uint8_t raw[ROW_KEY_BYTES + 8], const gw_id *id, uint64_t epoch,
                           uint64_t number);
void agent_row_pack(const struct agent_row *row, struct buf *out);
gw_err agent_row_unpack(struct span raw, struct agent_row *ret) GW_MUST_USE;
/* Write the row of a registered agent, with this status, these pending hooks and this intent (NULL
 * = none). */
void agent_put_row(struct store_batch *batch, const struct agent *a, agent_status status,
                   uint32_t pending, const struct buf *intent);
/* One that lives here, or NULL; good for this turn of the loop. */
struct agent *agent_find(struct node *n, const gw_id *id);
/* For sleepers.c: the struct alone, without counts and alias; its row; whether it has nothing but
 * what stands in its row. */
struct agent *agent_make(struct node *n, const gw_id *id, uint64_t epoch,
                         const struct agent_row *row);
void agent_unmake(struct node *n, struct agent *a);
void agent_count(struct node *n, struct type *t, agent_status status, bool in);
void agent_pack(const struct agent *a, struct buf *out);
bool agent_is_bare(const struct agent *a);
/* Register; the id must be free. */
struct agent *agent_add(struct node *n, const gw_id *id, uint64_t epoch,
                        const struct agent_row *row);
void agent_remove(struct node *n, struct agent *a); /* queue must be empty */
/* Whether one more has room here beside `coming` others that are on their way. GW_EBUSY: the host
 * is full. */
gw_err agents_room(struct node *n, size_t coming, struct gw_error *why) GW_MUST_USE;
void agent_set_status(struct node *n, struct agent *a, agent_status status);
/* Give every row of (agent, from), but that of TABLE_AGENTS, to (agent, to), and delete the old
 * ones.
 */
void agent_move_rows(struct store_batch *batch, const gw_id *id, uint64_t from, uint64_t to);
/* Delete every row of (agent, epoch). */
void agent_delete_rows(struct store_batch *batch, const gw_id *id, uint64_t epoch);
/* The same but for its outbox: it has ended, and what it told others is still delivered. */
void agent_end_rows(struct store_batch *batch, const gw_id *id, uint64_t epoch);
/* Highest epoch known here of an agent; 0 = none (H2, I2). */
uint64_t agent_fence(struct node *n, const gw_id *id);
/* By id, unique ending (4 or more characters) or alias, among those that live here. GW_EAMBIGUOUS
 * names some. `why` may be NULL. */
gw_err agent_lookup(struct node *n, const char *text, struct agent **ret,
                    struct gw_error *why) GW_MUST_USE;
struct live *agent_live(struct agent *a);
void agent_rest(struct agent *a); /* it sleeps and nothing waits: nothing of it stays in memory */
void live_free(struct live *live);

/* ---- carry.c ---- */
struct trace trace_new(struct node *n);
/* A span of its own under `of`; a new trace when that is none. */
struct trace trace_child(struct node *n, const struct trace *of);
/* Let `t` be what is at work; returns what was, to be entered again. */
struct trace trace_enter(struct node *n, const struct trace *t);
/* Before op->run: deadline and trace of the call. GW_ETIMEOUT when it comes too late. */
gw_err call_begin(struct node *n, struct op_call *call, struct gw_error *why) GW_MUST_USE;
/* Milliseconds until its deadline, at least 1; the fallback when it has none. */
int64_t call_left_ms(const struct node *n, const struct op_call *call, int64_t fallback_ms);
void carry_of_call(struct node *n, const struct op_call *call, struct carry *ret);
void carry_clear(struct carry *c);
void carry_set_left(const struct node *n, struct carry *c, int64_t left_ms); /* <= 0: none */
bool carry_is_late(const struct node *n, const struct carry *c);
/* Its members of the map that is a context (PROTOCOL.md 3.3, RUN; 3.1, CALL): how many, and they.
 */
size_t carry_members(const struct carry *c);
void carry_pack_members(const struct node *n, const struct carry *c, struct buf *out);
size_t call_members(const struct op_call *call);
void call_pack_members(const struct node *n, const struct op_call *call, struct buf *out);
gw_err carry_to_context(const struct node *n, const struct carry *c, gw_value *context) GW_MUST_USE;
/* The last CARRY_FIELDS members of a row. */
void carry_put(const struct node *n, const struct carry *c, struct buf *out);
gw_err carry_read(struct node *n, struct mp *m, struct carry *ret) GW_MUST_USE;
/* Append the row with its deadline moved: into a ticket by -now, out of it by +now. Nothing is
 * appended to a row that has none. */
gw_err carry_shift(struct span row, int64_t by_ms, struct buf *out) GW_MUST_USE;

/* ---- mailbox.c ---- */
/* Messages by priority, behind what was put in front; everything else in the order of its coming.
 */
void mailbox_add(struct live *live, struct work *w);
/* Before everything, or behind `after`, which stands in front. */
void mailbox_add_front(struct live *live, struct work *w, struct work *after);
void mailbox_remove(struct live *live, struct work *w);
/* Somebody waits for w until its deadline: told then, whatever becomes of w. */
void mailbox_date(struct work *w);
void mailbox_undate(struct work *w);
/* It is too late to begin w: it is ended. */
void mailbox_expire(struct work *w);
void mailbox_free(struct node *n);

/* ---- work.c ---- */
struct work *work_new(struct node *n, struct agent *a, frame_hook hook);
void work_free(struct work *w);
void work_drop(struct work *w);  /* without done(): what it was for goes, too */
void works_free(struct node *n); /* the blocks kept for reuse, at the end of the node */
/* A row of REQUESTS, STREAMS, OUTBOX or INBOX of its agent. */
void live_know_row(struct live *live, const struct storage_row *row);
void live_know_done(struct live *live);
/* Nothing of it runs, is being written or read, or begins before anything else: the store holds
 * all of it. */
bool work_is_quiet(const struct node *n, const struct agent *a);
/* Queue it (front: before everything that waits) and start when the agent is idle. */
void work_push(struct work *w, bool front);
/* In front, but behind hooks with which its life here begins (arrive, clone, activate). */
void work_push_snapshot(struct work *w);
void work_pump(struct node *n, struct agent *a);
/* Let nothing of this agent run for a moment; work_release tries again. */
void work_hold_agent(struct node *n, struct agent *a);
void work_release(struct node *n); /* housekeeping */
/* It has no caller to tell: it waits for its runner rather than failing, and is run again after a
 * crash. */
bool work_waits(const struct work *w);
void work_enqueue(struct work *w); /* at the end, without a start */
/* It was current, and is to be begun again. */
void work_requeue(struct work *w);
/* The current work has what it needs, or asks for it; then it goes to the runner. */
void work_go_on(struct work *w);
/* End with an error; unlinks it from wherever it is. */
void work_fail(struct work *w, const struct gw_error *why);
/* Queue the hooks of a->pending. */
void work_push_pending(struct node *n, struct agent *a);
/* Some of them; `from`: the host that it has just come from, or "". */
void work_push_hooks(struct node *n, struct agent *a, uint32_t hooks, const char *from);
/* Take it off its agent's queue and free it, without a word. */
void work_withdraw(struct work *w);
void work_withdraw_run(struct agent *a);      /* a `run` that waits its turn */
void work_withdraw_snapshot(struct agent *a); /* of a move that was called off */
/* End everything that waits, with this error. */
void work_refuse_queued(struct node *n, struct agent *a, const struct gw_error *why);
/* Only what has a caller to tell; what was accepted, and lifecycle work, stays. */
void work_refuse_callers(struct agent *a, const struct gw_error *why);
void work_drop_all(struct agent *a); /* free without answers (node_free) */
/* Read requests, streams and numbers of the agent, then run the call from its start again. */
void work_learn(struct node *n, struct agent *a, struct op_call *call);
/* Into memory only. Valid until the next one. */
struct seen_request *request_add(struct live *live, const uint8_t key[REQUEST_KEY_BYTES],
                                 int64_t at_ms, size_t bytes);
/* End the current work of its agent, then go on with what waits. */
void work_finish(struct work *w, gw_err err, const struct run_result *r,
                 const struct gw_error *why);

/* ---- outcome.c ---- */
/* The fields of SAVE; spans are borrowed. */
gw_err outcome_read_save(const struct frame *f, struct run_result *ret) GW_MUST_USE;
/* DONE came. */
void outcome_frame(struct runner *r, const struct frame *frame);
/* The runner is gone: everything in flight on it ends with GW_ECRASHED, or is run again. */
void outcome_lost(struct runner *r, const char *reason);

/* ---- pipeline.c ---- */
bool pipeline_busy(const struct live *live);  /* some are on their way */
bool pipeline_rests(const struct live *live); /* none are, nor does a handler run */
/* Whether w may begin now; true when nothing is on its way. */
bool pipeline_takes(const struct agent *a, const struct work *w);
/* The current work takes its place behind those on their way. */
void pipeline_add(struct work *w, bool written);
void pipeline_durable(void *arg, gw_err err); /* storage_done; arg = work */
/* After a roll-back: undo and go on, when the last of them and the current work have ended. */
void pipeline_settle(struct node *n, struct agent *a);
/* The batch is not applied when a transaction of the agent before it is rolled back. */
void pipeline_chain(struct agent *a, struct store_batch *batch);
/* A batch with pipeline_chain that is of no handler was rolled back. */
void pipeline_renew(struct live *live);
/* A call of a handler that has seen what is not durable yet: taken, begun when it is. */
bool pipeline_holds(struct node *n, struct op_call *call);
void pipeline_forget_calls(struct work *w);

/* ---- save.c: gw_save in `run` ---- */
/* SAVE came; false: it was nonsense, and the runner is on its way out. */
bool save_frame(struct runner *r, const struct frame *f);
/* A handler is suspended and nothing runs: `next` of the queue, when that may begin now; NULL: not
 * yet, or the handler goes on. */
struct work *save_next(struct node *n, struct agent *a, struct work *next);
void save_again(struct work *w); /* `run` has returned as it was told: into the queue again */

/* ---- commit.c ---- */
/* A handler has ended: build its transaction, submit; done() and the actions when it is durable. */
void commit_result(struct work *w);
/* A handler has ended, and nothing of it is to be written: done() when what it saw is durable. */
void commit_nothing(struct work *w);
/* Its turn has come: done(), and what its transaction put into memory takes effect. */
void commit_finish(struct work *w);
/* Its transaction was rolled back: what it left in memory goes; then tell its sender. */
void commit_undo(struct work *w);
void commit_fail(struct work *w, gw_err err);
/* What the runner has is not what is on disk: it gets the last committed state again. */
void commit_unload(struct agent *a);
/* Recorded answers: the row of w->key with w->result.reply; memory when it is durable; look-up;
 * removal. at_ms < 0: its transaction is on the way. */
/* Into the batch: the oldest recorded answers go, so that `count` more with `bytes` have room. */
void requests_make_room(struct agent *a, struct store_batch *batch, int64_t now_ms, size_t bytes,
                        size_t count);
void request_record(struct work *w, struct store_batch *batch, int64_t now_ms);
void request_remember(struct work *w, int64_t now_ms);
struct seen_request *request_find(struct live *live, const uint8_t key[REQUEST_KEY_BYTES]);
void request_forget(struct live *live, struct seen_request *r);
void commit_parts(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span parts);

/* ---- unsaved.c ---- */
bool unsaved_is(const struct agent *a); /* its type asks for less than a commit at each message */
/* State, and the answer if it is recorded, of a handler that has ended well. */
void unsaved_keep(struct work *w, bool answer);
/* The row of a recorded answer; borrowed. */
bool unsaved_answer(const struct agent *a, const uint8_t key[REQUEST_KEY_BYTES], struct span *ret);
void unsaved_drop_answer(struct agent *a, const uint8_t key[REQUEST_KEY_BYTES]);
/* All of it as rows, but for parts that are in this map. */
void unsaved_put(const struct agent *a, struct store_batch *batch, struct span but_parts);
void unsaved_forget(struct agent *a);
void unsaved_save_all(struct node *n); /* an orderly stop: of types with transitions */
/* What was read from the store, as it would be if all were saved; to be freed, its spans are
 * borrowed. */
struct storage_row *unsaved_over(const struct agent *a, const struct storage_row *rows, size_t n,
                                 size_t *ret_n);
/* Pack the STATES rows among `rows` as the map that RUN and tickets carry. */
void parts_of_rows(const struct storage_row *rows, size_t n, struct buf *out);

/* ---- pressure.c ---- */
/* Whether a message may go into the mailbox of a now; else it waits, or has been answered. */
bool pressure_admits(struct node *n, struct op_call *call, const struct agent *a);
bool pressure_full(const struct node *n, const struct agent *a);
/* There may be room in this mailbox, or the agent has left. */
void pressure_ease(struct node *n, const gw_id *agent);
/* `busy` with {retry_ms}. */
void pressure_answer_busy(struct op_call *call, const struct gw_error *why);
void pressure_refuse_all(struct node *n, const struct gw_error *why); /* the host stops */
void pressure_free(struct node *n);

/* ---- stuck.c ---- */
void stuck_housekeeping(struct node *n);
size_t stuck_count(const struct node *n);     /* handlers that have been told of and still run */
const char *stuck_name(const struct work *w); /* of its method or hook */
/* "METHOD runs since 7000 ms", for an error text. */
void stuck_describe(const struct agent *a, char *ret, size_t cap);
/* {method, ms, stuck} of what its runner does for it; nil = nothing. */
gw_err stuck_value(const struct agent *a, gw_value *ret) GW_MUST_USE;

/* ---- runners.c ---- */
void runners_start(struct node *n);
void runners_free(struct node *n);
bool runner_usable(const struct runner *r);
/* While there are suspects one thing runs at a time (and what that asks for): true = not now,
 * runner_resume pumps again. */
bool runner_holds_back(struct runner *r, const struct work *w);
size_t
runner_unchained(const struct runner *r); /* in flight, but for what others that are wait for */
void runner_resume(struct runner *r);
void runners_resume(struct node *n);     /* housekeeping */
bool type_offered(const struct type *t); /* a runner has it that is not broken */
/* Its agents have no state beyond the last transaction: durability every_message. */
bool type_keeps_state(const struct type *t);
void runner_run(struct runner *r, struct work *w, struct span parts); /* parts empty = not sent */
void runner_context(const struct work *w, struct buf *out);           /* packed, of RUN */
void runner_unload(struct runner *r, const gw_id *agent);
const char *runner_state_name(runner_state s);
void types_free(struct node *n);
struct type *type_intern(struct node *n, const char *name);
struct type *type_find(struct node *n, const char *name);

const char *runner_label(const struct runner *r); /* path of the plugin, or "built-in" */

/* ---- builtins.c ---- */
const struct node_builtin *builtin_find(const struct node *n, const char *type);
/* Make the agents that are missing; node_boot_step when they are there. False: none is. */
bool builtins_boot(struct node *n);
void builtins_free(struct node *n);
/* The one agent of its type that the host itself keeps. */
bool builtin_is_resident(const struct type *t);
/* GW_EREFUSED: agents of a built-in type do not leave their host; the resident one is neither
 * copied nor disposed. */
gw_err builtin_check_travel(const struct node *n, const struct agent *a,
                            struct gw_error *why) GW_MUST_USE;
gw_err builtin_check_single(const struct node *n, const struct agent *a,
                            struct gw_error *why) GW_MUST_USE;

/* ---- inline.c ---- */
void inline_init(struct node *n);
void inline_free(struct node *n);
/* The handler of w has ended and what it saw is durable: its asks leave. */
void inline_left(struct work *w);

/* ---- peers.c ---- */
struct peer *peer_find(struct node *n, const struct host_id *id);
struct peer *peer_intern(struct node *n, const struct host_id *id); /* made when not known */
/* Whether one that somebody else names is known, or may still be remembered. */
bool peer_has_room(const struct node *n, const struct host_id *id);
struct peer *peer_by_name(struct node *n, const char *name);
const char *peer_label(const struct peer *p); /* name, or host_id text when it has none */
/* Build with frame_begin(…, *ret_stream …) first: */
uint64_t peer_stream(struct node *n);
/* Send `frame` (taken), whose stream is `stream`; on_answer once. */
void peer_request(struct node *n, struct peer *p, uint64_t stream, struct buf *frame,
                  int64_t timeout_ms,
                  void (*on_answer)(void *arg, gw_err err, const struct frame *f), void *arg);
/* The same for a call that streams: on_item for each ITEM until the answer, which may take as long
 * as the link stands. */
void peer_request_stream(struct node *n, struct peer *p, uint64_t stream, struct buf *frame,
                         void (*on_item)(void *arg, const struct frame *f),
                         void (*on_answer)(void *arg, gw_err err, const struct frame *f),
                         void *arg);
void peer_cancel(struct node *n, struct peer *p, uint64_t stream); /* CANCEL; the answer comes */
void peer_send_frame(struct node *n, struct peer *p, struct buf *frame);
void peers_types_changed(struct node *n);
void peers_forget_requests(struct node *n); /* each is told GW_ECANCELLED */
/* Requests with this argument end without an answer: what it points to goes away. */
void peer_forget_requests(struct node *n, const void *arg);
void peers_free(struct node *n);
void peers_boot_row(struct node *n, struct span key, struct span value);
/* Exactly one host for create, dispatch, clone: by name, url, id; `any` and terms choose among
 * those that are up. `not_self`: prefer others. Errors name what is wrong. */
gw_err peers_pick(struct node *n, const char *selector, bool not_self, struct peer **ret,
                  struct gw_error *why) GW_MUST_USE;

/* Hosts that a selector names; up to cap, returns how many match (self included); 0 with `why`. */
size_t peers_select(struct node *n, const char *selector, struct peer **ret, size_t cap,
                    struct gw_error *why);
/* It refused an agent for want of room: for a while others are chosen where there is a choice. */
void peer_is_full(struct peer *p, int64_t now_us);
/* A host that would take an agent of the type in its place, as far as is known; NULL: none. */
const struct peer *peer_better(const struct node *n, const struct peer *full, const char *type);
/* The same among hosts that carry every tag of `require` (list of texts; NULL or nil: none).
 * GW_EREFUSED names the first tag that is missing. */
gw_err peers_pick_tagged(struct node *n, const char *selector, bool not_self,
                         const gw_value *require, struct peer **ret,
                         struct gw_error *why) GW_MUST_USE;

/* The same whether `p` is up or not; it has to have a link. */
void peer_request_linked(struct node *n, struct peer *p, uint64_t stream, struct buf *frame,
                         int64_t timeout_ms,
                         void (*on_answer)(void *arg, gw_err err, const struct frame *f),
                         void *arg);
/* This host, or what it knows of others, has changed: who is up now, who is not any more; and all
 * are greeted again. */
void peers_settle(struct node *n);
void peers_housekeeping(struct node *n);
void peers_ready(struct node *n); /* boot is done: now hosts are greeted */

/* ---- standing.c: old copies are noticed by what others remember ---- */
void standing_init(struct node *n);
void standing_boot_row(struct node *n, struct span key, struct span value); /* of TABLE_META */
/* A start begins: its number and rows into its first transaction. GW_EOTHER_MACHINE. */
gw_err standing_boot(struct node *n, struct store_batch *batch, struct gw_error *why) GW_MUST_USE;
/* The restart of a restored host goes on above what a peer remembers; restored_risen follows. */
void standing_rise(struct node *n, uint64_t above);
/* Number the batch, and add what was heard of peers. 0: it counts nothing. */
uint64_t standing_number(struct node *n, struct store_batch *batch);
void standing_durable(struct node *n, uint64_t number);
void standing_undone(struct node *n); /* a batch was rolled back */
/* Its members of HELLO. */
gw_err standing_to_hello(struct node *n, gw_value *about) GW_MUST_USE;
/* A HELLO came: is that store what is remembered, or later? Sets p->held; answers a stale one. */
void standing_hello(struct node *n, struct peer *p, const gw_value *about);
void standing_tell(struct node *n, struct peer *p); /* now, if there is news */
void standing_talk(struct node *n, struct peer *p); /* ... or at the end of the turn */
void standing_frame(struct node *n, struct peer *p, const struct frame *f); /* STANDING, VERDICT */
/* The seal over what an instance says when it is asked whether it lives. */
void standing_alive(const struct node *n, uint64_t boot, const uint8_t instance[INSTANCE_BYTES],
                    const uint8_t challenge[INSTANCE_BYTES], uint8_t ret[SEAL_BYTES]);
void standing_verdict(struct buf *frame, gw_err code, const struct standing *s);
void standing_housekeeping(struct node *n);
/* A point as [boot, instance, number, seal]: its fields. */
gw_err standing_read(struct mp *m, struct standing *ret) GW_MUST_USE;
bool standing_is_ours(const struct node *n, const struct standing *s); /* sealed by this host */
/* Whether this store was once where `s` says. */
bool standing_goes_through(const struct node *n, const struct standing *s);

/* ---- held.c ---- */
/* GW_ESTORE_STALE or GW_EBUSY, saying what to do; GW_OK: nothing holds the host. */
gw_err held_check(const struct node *n, struct gw_error *why);
/* The same for an operation that would change something, asked by host `from` (NULL: a client). */
gw_err held_refuse(const struct node *n, const struct op *op, const struct peer *from,
                   struct gw_error *why);
void held_row(struct node *n, struct span value); /* "stale" of TABLE_META */
void held_verdict(struct node *n, struct peer *p, uint32_t code, const struct standing *s);

/* ---- rivals.c: two processes in the name of one host ---- */
void rivals_frame(struct node *n, struct peer *p, const struct frame *f); /* PROBE, ALIVE */
void rivals_link_down(struct node *n, struct peer *p);
/* A link has come up: the fields of its HELLO, when that came before (the caller's). */
void rivals_link_up(struct node *n, struct peer *p, struct buf *ret_hello);
void rivals_free(struct node *n);

/* ---- restored.c ---- */
void restored_begin(struct node *n);                 /* ready, HELD_RESTORED */
void restored_hello(struct node *n, struct peer *p); /* a peer can be asked */
void restored_risen(struct node *n);                 /* standing_rise is durable */
void restored_row(struct node *n, struct span key);  /* "unasked:ID" of TABLE_META */
void restored_housekeeping(struct node *n);
void restored_free(struct node *n);

/* ---- locations.c ---- */
struct location *location_find(struct node *n, const gw_id *id);
/* Remember in memory; a lower epoch than known changes nothing (I2). durable: a row stands for it
 * (is on disk). */
void location_know(struct node *n, const gw_id *id, uint64_t epoch, struct peer *host,
                   bool disposed, bool durable);
/* Write the row; location_know follows when the batch is durable. */
void location_write(struct store_batch *batch, const gw_id *id, uint64_t epoch,
                    const struct peer *host);
/* Whether the living copy of a quarantined agent is elsewhere, at its epoch or above. */
bool location_has_other(struct node *n, const struct agent *a);
/* The same of an agent that has ended. */
void location_write_end(struct node *n, struct store_batch *batch, const gw_id *id, uint64_t epoch,
                        const struct peer *host);
void locations_housekeeping(struct node *n);
void locations_free(struct node *n);
void location_boot_row(struct node *n, struct span key, struct span value);
void location_tell_home(struct node *n, const gw_id *id, uint64_t epoch, const struct host_id *home,
                        bool disposed);
/* The same for several that are here: of `count` ids, `stride` bytes apart. */
void locations_tell_homes(struct node *n, const gw_id *first, size_t stride, size_t count);
void location_frame(struct node *n, struct peer *p, const struct frame *f); /* LOCATE */
void locations_link_up(struct node *n, struct peer *p);
/* The host that the location names answered that the agent is not there. */
void location_doubt(struct node *n, const gw_id *id);
/* Ask one host (operation `locate`); `agent` as people type it. on_answer once, with its REPLY. */
void location_ask(struct node *n, struct peer *p, const char *agent,
                  void (*on_answer)(void *arg, gw_err err, const struct frame *f), void *arg);

/* ---- route.c ---- */
/* Run `local` when the agent named by args.agent lives here; else send the same operation to where
 * it lives, following MOVED, and answer the call with what comes back. */
void route_call(struct node *n, struct op_call *call,
                void (*local)(struct node *n, struct op_call *call, struct agent *a));
/* MOVED{host, epoch} as an error answer of a call. */
void answer_moved(struct op_call *call, const struct peer *host, uint64_t epoch);
/* Send a call to one host and pass its answer on. `extra_context` may be empty. */
void route_forward(struct node *n, struct op_call *call, struct peer *to);
/* relay.c: the same for a call that streams. When its caller goes away, so does the caller there.
 */
void route_relay(struct node *n, struct op_call *call, struct peer *to);
/* Of route.c, for others that call: the CALL for another host; the content of its REPLY. */
void route_call_frame(struct node *n, struct op_call *call, uint64_t stream, struct buf *frame);
gw_err route_read_reply(const struct frame *f, gw_value *value, struct gw_error *why) GW_MUST_USE;
/* Run the call again a little later (what it needs is on its way); GW_ETIMEOUT after too long. */
void call_again_later(struct node *n, struct op_call *call);
void calls_again_free(struct node *n);
struct peer *peer_of_about(struct node *n,
                           const gw_value *about); /* {host_id, url}; NULL when not usable */
bool call_is_hop(const struct op_call *call);

/* ---- moves (handoff.h) ---- */
#define MOVE_INACTIVE 1u /* arrive asleep */
#define MOVE_RETRACT  2u /* greeted by on_retract */
struct move_out;
/* Once; m is valid until it returns. */
typedef void (*move_done)(void *arg, gw_err err, struct move_out *m, const struct gw_error *why);
/* Begin a move (or a remote clone) of a local agent. flags: MOVE_… */
gw_err move_out_begin(struct node *n, struct agent *a, struct peer *to, unsigned flags,
                      const gw_id *clone, move_done done, void *arg,
                      struct gw_error *why) GW_MUST_USE;
/* What move_out_begin would refuse, as far as it is known here. */
gw_err move_out_check(struct node *n, const struct agent *a, const struct peer *to, bool clone,
                      struct gw_error *why) GW_MUST_USE;
/* Whether a host has announced the type, in any version. */
bool move_out_takes_type(const struct peer *to, const char *type);
bool move_in_holds(struct node *n, const gw_id *agent); /* staged here: answer `arriving` */
/* The value of a recorded answer (TABLE_REQUESTS): the dispatch that m is. */
void dispatch_answer_pack(const struct move_out *m, struct buf *out);

/* ---- copies.c ---- */
/* `other` is said to have a higher epoch of an agent that is here, too (H8). If it says so itself,
 * the copy here is kept, and does not run any more. */
void copies_meet(struct node *n, struct peer *other, const gw_id *agent);
/* The copy here gives way to the one of `epoch` at `other`; one that is moving does not yet. */
void copies_yield(struct node *n, struct agent *a, struct peer *other, uint64_t epoch);
void copies_housekeeping(struct node *n);
void copies_free(struct node *n);

/* ---- leftovers.c: deletions that nobody waits for, and that come for certain ---- */
struct leftovers; /* those of one transaction */
struct leftovers *leftovers_new(struct node *n);
/* Into the batch: all rows of (agent, epoch), or one of its outbox, go. */
void leftovers_agent(struct leftovers *g, const gw_id *id, uint64_t epoch,
                     struct store_batch *batch);
void leftovers_message(struct leftovers *g, const gw_id *id, uint64_t epoch, uint64_t number,
                       struct store_batch *batch);
/* Submit; takes both. When it is rolled back its deletions are tried again until they are durable.
 */
void leftovers_commit(struct leftovers *g, struct store_batch *batch, commit_point point);
/* An agent is to be staged under (agent, epoch): what is left goes first, in its transaction; then,
 * when that is durable. */
void leftovers_clear(struct node *n, const gw_id *id, uint64_t epoch, struct store_batch *batch);
void leftovers_cleared(struct node *n, const gw_id *id, uint64_t epoch);
void leftovers_housekeeping(struct node *n);
void leftovers_free(struct node *n);

/* ---- later.c ---- */
struct waiting;
bool later_is_action(struct span verb);
/* Whether what DONE says about answers can be: GW_EBUSY too many are owed, GW_ECONFLICT answered
 * already. After GW_OK one of later_committed, later_rolled_back has to follow. */
gw_err later_check(const struct work *w, struct gw_error *why) GW_MUST_USE;
/* One such action into the handler's transaction; then what became of that. */
void later_action(struct work *w, struct store_batch *batch, struct span verb, struct span args);
void later_committed(struct work *w);
void later_rolled_back(struct work *w);
/* The call of w waits for its answer (work.later). */
void later_wait(struct work *w);
/* The value of a row of TABLE_REQUESTS: what w is to be answered, or that it is owed. */
void request_pack(const struct work *w, int64_t now_ms, struct buf *out);
gw_err request_unpack(struct span value, struct seen_request *ret, struct run_result *ret_answer);
/* The agent is not in the registry, or not alive here, any more: who waits asks again. */
void later_gone(struct node *n, const gw_id *agent);
void later_stop(struct node *n, const struct gw_error *why);
void later_free(struct node *n);
/* List of {token, since, callers} for `show`; rows: of TABLE_REQUESTS, when they are not known. */
gw_err later_describe(struct node *n, const struct agent *a, const struct storage_row *rows,
                      size_t count, gw_value *ret) GW_MUST_USE;

/* ---- send.c ---- */
/* {reply, host, epoch} */
void send_answer(struct op_call *call, struct node *n, uint64_t epoch, struct span reply);
/* The ask of that number (0: none) by an agent of this host is answered. */
void ask_ended(struct node *n, const gw_id *asker, uint64_t number);
/* Its handler has ended: nobody waits for what it asked. */
void asks_forget(struct live *live);

/* ---- topics.c ---- */
void poster_init(struct node *n);
void topics_free(struct node *n);
void poster_free(struct node *n);
bool topics_is_action(struct span verb);
/* Whether what the handler asks can be; *ret_tells: how many tells its publications are. */
gw_err topics_check(struct work *w, size_t *ret_tells, struct gw_error *why) GW_MUST_USE;
void topics_action(struct work *w, struct store_batch *batch, struct span verb, struct span args);
void topics_committed(struct work *w);
/* Whether an agent that lives here is subscribed. */
bool topics_has(struct node *n, const gw_id *agent, const char *topic);
/* The owner says that the agent is not subscribed (topic NULL: it has ended): what was heard up to
 * `before` (node->topics_clock) is forgotten. */
void topics_gone(struct node *n, const gw_id *agent, const char *topic, uint64_t before);
void topics_link_up(struct node *n, struct peer *p);
/* List of {topic, scope} for `show`. */
gw_err topics_describe(struct node *n, const struct agent *a, gw_value *ret) GW_MUST_USE;
void topics_frame(struct node *n, struct peer *p, const struct frame *f); /* TOPICS */
/* The sixth list of a ticket's payload: [[topic, mesh]...]; and that list as rows. */
void topics_pack(struct node *n, const struct agent *a, struct buf *out);
gw_err topics_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch,
                    struct span list) GW_MUST_USE;
/* Into the transaction of its departure; and when that is durable. */
void topics_depart(struct node *n, const struct agent *a, struct store_batch *batch);
void topics_departed(struct node *n, const gw_id *id);
void topics_ended(struct node *n, const gw_id *id); /* disposed of, or quarantined */
void topics_load_row(struct node *n, struct span key, struct span value);
/* A row of n->poster; false: it is of somebody else. */
bool poster_boot(struct node *n, const struct storage_row *row);
bool poster_is(const gw_id *id);

/* ---- tells.c ---- */
#define TELL_NO_WAKE 1u /* flags of an outbox row */
#define TELL_TEXT    2u /* its arguments are as typed */
struct tell_order {     /* all borrowed */
    const gw_id *to;
    const char *method;
    struct span args; /* packed, or empty */
    uint32_t flags;
    struct carry carry;
};
/* Outbox row and stream number into the transaction of w; tells_committed, tells_rolled_back. */
void tells_put(struct work *w, struct store_batch *batch, const struct tell_order *order);
size_t tells_waiting(struct node *n, const gw_id *sender);
/* One "tell" action of a handler: outbox row and stream number into its transaction. */
void tells_action(struct work *w, struct store_batch *batch, struct span args);
/* Whether there is room for what the result of w tells. */
bool tells_fit(struct work *w, struct gw_error *why);
/* Its transaction is durable (or not): send what it put into the outbox (or forget it). Durable
 * ones are told in their order, the others from the last one. */
void tells_committed(struct work *w);
void tells_rolled_back(struct work *w);
/* Of a transaction that no other one behind it has built on: the oldest go. Their numbers are not
 * given again, for those behind may be durable. */
void tells_rolled_back_alone(struct work *w);
void tells_forget(struct node *n, const gw_id *sender); /* it has left, its outbox with it */
void tells_link_up(struct node *n);
void tells_free(struct node *n);
/* A row of TABLE_OUTBOX. */
void tells_load_row(struct node *n, const gw_id *sender, uint64_t epoch, uint64_t number,
                    struct span value);

/* ---- streams.c ---- */
/* The entry of a stream; stream_of makes it when there is none. Valid until the next call. */
struct stream_mark *stream_find(struct live *live, const gw_id *other, bool out);
struct stream_mark *stream_of(struct live *live, const gw_id *other, bool out);
/* The next number to `other` is given. It is above the mark of the stream to nobody (id nil), which
 * an agent has that was restored from an old copy (restored.c). */
struct stream_mark *stream_next(struct live *live, const gw_id *other);
void stream_put(struct store_batch *batch, const struct agent *a, const struct stream_mark *s);

/* ---- inbox.c ---- */
/* Timers and mail of one agent, or of all (id NULL), from the store: after boot, arrival. Until
 * then nothing of them runs, since a handler may take back what a timer has sent. */
void inbox_load(struct node *n, const gw_id *id, uint64_t epoch);
/* Add the inbox row of a message to the batch and number the work. */
void inbox_put(struct agent *a, struct work *w, struct store_batch *batch);
void inbox_del(const struct agent *a, uint64_t number, struct store_batch *batch);
void op_accept(struct node *node, struct op_call *call);
/* salvage.c: at boot, when timers and mail of all agents cannot be read together: of each alone.
 * Who cannot be read is quarantined. Then inbox_loaded. */
void salvage_begin(struct node *n);
void inbox_loaded_row(struct node *n, const struct storage_row *row);
void inbox_loaded(struct node *n); /* all of them are read, as far as they can be */
void inbox_load_over(struct node *n, const gw_id *id); /* of one: it begins */

/* ---- dead.c ---- */
/* The message of w is given up: its letter, into the transaction that takes it from the inbox. */
void dead_put(struct work *w, struct store_batch *batch);
void dead_load(
    struct node *n); /* the index: at boot, and when a transaction with a letter was rolled back */
void dead_boot_row(struct node *n, struct span key);
void dead_free(struct node *n);

/* ---- travel.c, drain.c ---- */
/* Where a dispatch, retract or clone goes: arguments `to` (absent: this host) and `require`. */
gw_err travel_pick(struct node *n, const struct op_call *call, bool clone, struct peer **ret,
                   struct gw_error *why) GW_MUST_USE;
/* Answer such a call with `dry_run`: whether it would be done, and why not. Nothing changes. */
void travel_foresee(struct node *n, struct op_call *call, struct agent *a, bool clone);
void drains_free(struct node *n);

/* ---- timers.c, timer_actions.c ---- */
struct timer;
struct agent_timers;
void timers_init(struct node *n);
void timers_free(struct node *n); /* after the agents */
/* Each second: look whether the wall clock was set. */
void timers_housekeeping(struct node *n);
bool timers_is_action(struct span verb);
/* Whether what DONE says about timers can be: well formed (GW_EARG), within the limits (GW_EBUSY).
 */
gw_err timers_check(const struct work *w, struct gw_error *why) GW_MUST_USE;
/* One such action into the handler's transaction; then what became of that. */
void timers_action(struct work *w, struct store_batch *batch, struct span verb, struct span args);
void timers_committed(struct work *w);
void timers_rolled_back(struct work *w);
/* The agent is not frozen any more. */
void timers_thaw(struct node *n, struct agent *a);
void timers_forget(struct node *n, struct agent *a); /* in memory: it leaves the registry */
/* A row, an inbox row with HOOK_TIMER that were read. */
void timers_load_row(struct node *n, struct agent *a, struct span name, struct span value);
void timers_load_message(struct node *n, struct work *w);
/* Whether a message of a timer waits: it wakes also an agent that others do not. */
bool timers_wake(const struct agent *a);
/* done() of a work with HOOK_TIMER. */
void timers_message_done(struct work *w, gw_err err, const struct run_result *r,
                         const struct gw_error *why);
/* The fifth list of a ticket's payload: [[name, row]...]; and that list as rows, its times counted
 * from now_ms. GW_EPROTO: more than the limit, or one that is none. */
void timers_pack(struct node *n, const struct agent *a, struct buf *out);
gw_err timers_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span list,
                    int64_t now_ms) GW_MUST_USE;
/* List of {name, due, period_ms, clock} for `show`. */
gw_err timers_describe(struct node *n, const struct agent *a, gw_value *ret) GW_MUST_USE;

/* The wake-up of a sleeping agent: a timer with a name that no handler can give. Into the
 * transaction of its sleep, or of its waking (w NULL: none any more); then what became of that. */
void timers_wake_put(struct node *n, struct agent *a, struct store_batch *batch,
                     const struct sleep_wish *w);
void timers_wake_settled(struct node *n, struct agent *a, const struct sleep_wish *w,
                         int64_t set_us, bool durable);
/* When the agent wakes by itself, as wall time; false: not. */
bool timers_wake_time(const struct node *n, const struct agent *a, int64_t *ret_ms);

/* ---- idle.c: agents that have nothing to do fall asleep ---- */
void idle_add(struct node *n, struct agent *a);   /* it has become active */
void idle_remove(struct agent *a);                /* it is not any more */
void idle_touch(struct node *n, struct agent *a); /* it has ended a piece of work */
void idle_housekeeping(struct node *n);

/* ---- starts.c: agents that begin by themselves, a bounded number at a time ---- */
/* It waits its turn. wake: it is to be woken then, if it still sleeps. */
void starts_add(struct node *n, struct agent *a, bool wake);
void starts_go(struct node *n);
/* Whether it may begin now: its turn has come, or somebody waits for an answer. */
bool starts_may(struct node *n, struct agent *a);
void starts_end(struct node *n, struct agent *a); /* it has come to rest, or leaves */
void starts_free(struct node *n);

/* ---- crashes.c ---- */
struct agent_crashes;
/* The runner ended while the agent was at work on it; alone: nothing else was. */
void crashes_lost(struct node *n, const gw_id *agent, bool alone, const char *reason);
void crashes_hook_failed(
    struct work *w); /* a hook that nobody waits for; not the end of a runner */
/* It answered: whoever was suspected was wronged. */
void crashes_survived(struct work *w);
/* What may have ended its runner runs alone; a pause before the next try: true = not now. */
void crashes_suspect(struct work *w);
bool crashes_pause(struct node *n, const struct agent *a, const struct work *w);
/* Let a quarantined agent go on. */
void crashes_release(struct node *n, struct agent *a, struct op_call *call);
void crashes_forget(struct node *n, struct agent *a); /* in memory */
/* What the store holds of it is damaged (GW_ECORRUPT): it is quarantined. Of one that is leaving:
 * after the move has been aborted. */
void crashes_damaged(struct node *n, const gw_id *agent, const char *what);
/* GW_EQUARANTINED, GW_ECORRUPT. */
gw_err crashes_refuse(const struct agent *a, struct gw_error *why);

/* ---- watches.c, downs.c, patrol.c, lineage.c ---- */
/* The agent is quarantined by the transaction of w: who watches it is told; then what came of it.
 */
void watches_crashed(struct work *w, struct store_batch *batch);
void watches_crashed_done(struct node *n, struct agent *a);
void watches_crashed_undo(struct agent *a);
struct agent_watches;
bool watches_is_action(struct span verb);
/* Whether what DONE says about monitors can be: well formed (GW_EARG), within the limits
 * (GW_EBUSY). */
gw_err watches_check(const struct work *w, struct gw_error *why) GW_MUST_USE;
/* One such action into the handler's transaction; then what became of that. */
void watches_action(struct work *w, struct store_batch *batch, struct span verb, struct span args);
void watches_committed(struct work *w);
void watches_rolled_back(struct work *w);
/* The agent ends by the transaction of w: who watches it is told. Its numbers are known. */
void watches_end(struct work *w, struct store_batch *batch);
void watches_forget(struct node *n, struct agent *a); /* in memory: it leaves the registry */
void watches_load_row(struct node *n, struct agent *a, struct span suffix, struct span value);
/* The seventh list of a ticket's payload: [[key suffix, row]...]; and that list as rows. GW_EPROTO:
 * more than the limits, or one that is none. */
void watches_pack(const struct agent *a, struct buf *out);
gw_err watches_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch,
                     struct span list) GW_MUST_USE;
/* Members for `show`: monitors, watchers, parent, children. */
gw_err watches_describe(struct node *n, const struct agent *a, gw_value *ret) GW_MUST_USE;
/* A new agent is a child of `parent`: row and message into the transaction of its create. loose: it
 * outlives its parent. */
void watches_begin_child(struct work *w, struct store_batch *batch, const gw_id *parent,
                         bool loose);
/* GW_EBUSY: an agent that lives here has as many children and watchers as it can. */
gw_err watches_check_parent(struct node *n, const gw_id *parent, struct gw_error *why) GW_MUST_USE;
/* Messages between the two ends of a monitor; no method of an agent has such a name. */
bool watches_is_message(const char *method);
/* One of them at its receiver. GW_EPROTO, GW_EREFUSED (watched by too many). */
gw_err watches_admit(struct agent *a, const gw_id *sender, const char *method, struct span args,
                     struct gw_error *why) GW_MUST_USE;
/* Whether it begins to watch an agent that is quarantined: that is refused, not put off. */
bool watches_refuse_quarantined(const struct agent *a, const char *method, struct span args);
/* Its rows into the transaction that accepts it; the message for on_down that comes of it, or NULL.
 * Then what became of that transaction; takes the message. */
struct work *watches_accept(struct node *n, struct agent *a, const gw_id *sender,
                            const char *method, struct span args, struct store_batch *batch);
void watches_accepted(struct node *n, const gw_id *agent, uint64_t epoch, const gw_id *sender,
                      const char *method, struct span args, struct work *down, gw_err err);
/* At their sender: whether one is still to be sent; what to do when it cannot be delivered: true =
 * keep it and try again. */
bool watches_want(struct node *n, const gw_id *sender, const gw_id *target, const char *method,
                  struct span args);
bool watches_undelivered(struct node *n, const gw_id *sender, const gw_id *target,
                         const char *method, struct span args, gw_err err);
/* Each second: hosts that are lost, downs that could not be written yet. */
void watches_housekeeping(struct node *n);
/* The call `whereabouts` about at most LIMIT_WHEREABOUTS agents, which stand `stride` bytes apart;
 * its REPLY: entries are read from ret, which borrows from ret_about (the caller's). */
void whereabouts_ask(struct buf *frame, uint64_t stream, const gw_id *first, size_t stride,
                     size_t count);
struct whereabouts_entry {
    gw_id agent;
    uint64_t epoch;
    struct host_id host;
    bool disposed;
};
gw_err whereabouts_read(const struct frame *f, gw_value *ret_about, struct mp *ret,
                        size_t *ret_n) GW_MUST_USE;
gw_err whereabouts_next(struct mp *m, struct whereabouts_entry *ret) GW_MUST_USE;

/* ---- files.c, files_out.c, files_in.c: files that travel with agents ---- */
bool files_is_action(struct span verb);
/* Whether what DONE says about files can be: well formed (GW_EARG), where they may be (GW_EDENIED),
 * within the limits (GW_EBUSY). */
gw_err files_check(const struct work *w, struct gw_error *why) GW_MUST_USE;
/* One such action into the handler's transaction; then when that is durable. */
void files_action(struct work *w, struct store_batch *batch, struct span verb, struct span args);
void files_committed(struct work *w);
void files_forget(struct agent *a); /* in memory: it leaves the registry */
void files_load_row(struct agent *a, struct span name, struct span value);
/* Its member of the map that is the context of RUN: 0 or 1, and it. */
size_t files_members(const struct agent *a);
void files_pack_members(const struct node *n, const struct agent *a, struct buf *out);
/* List of {name, path, mode, origin, size, hash, modified} for `show`. */
gw_err files_describe(const struct node *n, const struct agent *a, gw_value *ret) GW_MUST_USE;
/* The last list of a ticket's payload as rows; a batch of NULL only checks. GW_EPROTO: more than
 * the limit, one that is none, or of another ticket. */
gw_err files_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span list,
                   const gw_id *ticket) GW_MUST_USE;
/* Files of these are offered by a host: GW_EDISK_FULL, GW_ECONFLICT. Then: they are not waited for
 * any more (their folder stays); their folder goes; it goes if `from` has offered them. */
gw_err files_expect(struct node *n, const struct host_id *from, const gw_id *ticket,
                    const gw_id *agent, uint64_t bytes, struct gw_error *why) GW_MUST_USE;
void files_unexpect(struct node *n, const gw_id *ticket, const gw_id *agent);
void files_drop(struct node *n, const gw_id *ticket, const gw_id *agent);
void files_drop_offered(struct node *n, const struct host_id *from, const gw_id *ticket,
                        const gw_id *agent);
size_t files_expected_of(const struct node *n, const struct peer *p);
/* Its rows are loaded: true when its files have to be put in their place first; a->loading until
 * then, and inbox_load_over follows. */
bool files_adopt(struct node *n, struct agent *a);
/* They are not in their place yet: who wants to read them waits. */
bool files_are_coming(const struct agent *a);
void files_sweep(struct node *n); /* at boot, all rows are loaded */
void files_housekeeping(struct node *n);
void files_free(struct node *n);

/* ---- create.c, sleep.c ---- */
void created_boot_row(struct node *n, struct span key, struct span value);
void created_free(struct node *n);
void created_prune(struct node *n);
/* 16 bytes that stand for a request id, whatever its length. */
void request_key_of(const char *text, uint8_t ret[REQUEST_KEY_BYTES]);
/* A request id made of random bytes. */
void request_key_text(const uint8_t raw[REQUEST_KEY_BYTES], char ret[2 * REQUEST_KEY_BYTES + 1]);
gw_err request_key_check(const char *key, struct gw_error *why) GW_MUST_USE; /* NULL is fine */
uint32_t hooks_to_run(const struct type *t, uint32_t wanted);
void create_here(struct node *n, struct op_call *call); /* the operation `create`, on this host */
/* Tell everything that waits, then forget the agent. */
void agent_discard(struct node *n, struct agent *a, const struct gw_error *why);
/* GW_ECONFLICT (naming the ticket) while it moves, GW_ECORRUPT when quarantined. */
gw_err agent_check_free(struct node *n, const struct agent *a, struct gw_error *why) GW_MUST_USE;
/* A deactivate, activate or dispose runs or waits its turn: whether the agent can leave is not
 * known yet. */
bool agent_is_changing(const struct agent *a);
/* Its end is with the storage thread: a row that is written now would outlive it. */
bool agent_is_ending(const struct agent *a);
/* call NULL: its own wish, by its id and number. */
void clone_here(struct node *n, struct agent *a, struct op_call *call, const gw_id *id,
                uint64_t wish);
/* Wake an inactive agent (its row becomes active with its first commit). */
void agent_wake(struct node *n, struct agent *a);
/* call NULL: its own wish, by its number. */
/* `asked`: what the caller, or the wish, says about the sleep; NULL: nothing. */
void deactivate_here(struct node *n, struct agent *a, struct op_call *call,
                     const struct sleep_wish *asked, uint64_t wish);
/* From the arguments of a deactivate: wake_on_message, at_start, wake_after or wake_at. */
gw_err sleep_wish_read(const gw_value *args, struct sleep_wish *ret,
                       struct gw_error *why) GW_MUST_USE;
/* How an agent sleeps that arrives asleep: as it did, or as its type says. */
void sleep_travels(const struct agent *a, bool slept, struct agent_row *row);
gw_err sleep_describe(struct node *n, const struct agent *a, gw_value *ret) GW_MUST_USE;
void dispose_here(struct node *n, struct agent *a, struct op_call *call, uint64_t wish);
/* {agent, status, host, epoch}: the answer of activate, deactivate, dispose. */
void answer_status(struct op_call *call, struct node *n, const gw_id *agent, uint64_t epoch,
                   const char *status);

/* ---- intents.c ---- */
/* The next of a handler's actions whose verb is one of `is`; false at the end. */
bool actions_next(struct mp *m, bool (*is)(struct span verb), struct span *ret_verb,
                  struct span *ret_args);
/* Add what the result of w asks about its agent to a->intent; true when there was anything. */
bool intents_add(struct work *w);
bool intents_fit(const struct work *w, struct gw_error *why);
void intents_undo(struct work *w); /* its transaction was rolled back */
/* Carry out the first wish, if nothing else goes on. */
void intent_run(struct node *n, struct agent *a);
void intents_retry(struct node *n); /* of all agents: a link came up, time went by */
/* Have requests, streams and numbers read; intent_run follows. */
void intents_make_known(struct node *n, struct agent *a);
bool intents_has_method(const struct type *t, const char *name);
/* This wish is done: taken out of the list in a transaction of its own. */
void intent_pop(struct node *n, struct agent *a, uint64_t number);
/* It could not be done: the same, with an event. */
void intent_failed(struct node *n, struct agent *a, uint64_t number, const struct gw_error *why);
void intent_forget(struct agent *a); /* in memory only: its row is written without it */

/* ---- events.c ---- */
struct event {
    const char *kind; /* "create", "arrive", … (docs/operations.md) */
    const gw_id *agent;
    const char *type;
    const gw_id *ticket;
    const struct peer *peer;
    const char *text;
    const struct trace *trace; /* NULL: of what is at work (node->trace) */
};
/* Into the batch of what happened, so that both are durable together. */
void event_put(struct node *n, struct store_batch *batch, const struct event *e);
void event_now(struct node *n, const struct event *e); /* in a batch of its own */
void events_free(struct node *n);
void events_boot_row(struct node *n, struct span key);
void log_frame(struct node *n, const struct frame *f); /* LOG */

#endif

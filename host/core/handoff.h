/* The handoff: tickets and the agents under them, at either end, and what both ends share.
 *
 * A ticket carries 1 to LIMIT_TICKET_AGENTS agents; a single move is a ticket of one. What belongs
 * to the ticket (phase, nonce, signature, transactions, frames) is in struct ticket_out and struct
 * ticket_in, what belongs to an agent in struct move_out and struct move_in. H1: everything is
 * matched on (ticket, agent, epoch): an agent that drops out of a ticket changes nothing for the
 * others under it.
 *
 * Payload of one agent: [mode, row, parts, list..., files]; row is what agent_row_pack writes,
 * parts a map part name -> bytes, the lists are the rows of handoff_lists, files those that came
 * ahead (files.h). A payload without the last lists has nothing of them. */
#ifndef HOST_CORE_HANDOFF_H
#define HOST_CORE_HANDOFF_H

#include "host/core/internal.h"

#define HANDOFF_STAGE_MS    10000 /* wait for a receipt before STAGE is repeated */
#define HANDOFF_STAGE_TRIES 3
#define HANDOFF_COMMIT_MS   2000 /* wait for COMMITTED before COMMIT is repeated */
#define HANDOFF_QUERY_MS    2000 /* between QUERYs while staged */
#define HANDOFF_FREEZE_MS   5000 /* a handler that runs longer aborts the move */
#define HANDOFF_BATCH_MS    500  /* the same for one of several: the others are frozen, too */
#define HANDOFF_RETRY_MS    1000

/* ---- the source ---- */
typedef enum out_phase {
    OUT_OFFERING,   /* asked; the agents still run */
    OUT_SENDING,    /* files flow; the agent still runs, and is not frozen by a->move */
    OUT_FREEZING,   /* current work finishes, hook on_dispatch, snapshots */
    OUT_CHECKING,   /* all quiet: whether files have changed, which then flow again */
    OUT_STAGING,    /* STAGE sent, waiting for the receipt */
    OUT_COMMITTING, /* our departed rows are with the storage thread: nobody may abort (H3) */
    OUT_DEPARTED,   /* committed; COMMIT is repeated until answered */
    OUT_RESOLVING,  /* an operator's word is with the storage thread: the destination waits */
    OUT_DONE,
    OUT_ABORTED,
    OUT_PHASES
} out_phase;

struct ticket_out {
    UT_hash_handle hh; /* by id */
    gw_id id;
    struct node *node;
    struct peer *to;
    out_phase phase;
    TAILQ_HEAD(move_out_list, move_out) moves; /* in the order of the ticket */
    size_t count;
    unsigned
        holds; /* callers further up that still use it: not freed, not staged before they end */
    int64_t since_ms;
    int64_t begun_us; /* turn_us; 0 = by an earlier process */
    unsigned tries;
    struct env_timer *timer;
    struct buf body; /* signed; for repeats, with the payloads */
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    uint8_t nonce[TICKET_NONCE_BYTES];
    bool full;        /* the destination has refused for want of room */
    bool staged_sent; /* the destination may hold staged rows, or files */
};

struct move_out {
    TAILQ_ENTRY(move_out) link;
    struct ticket_out *t;
    gw_id agent_id;
    uint64_t epoch;      /* the source's; the ticket carries epoch + 1 */
    struct agent *agent; /* NULL once departed */
    char type[LIMIT_NAME_BYTES + 1];
    bool clone;
    gw_id clone_id;
    struct host_id home;
    gw_id of;
    int64_t created_ms;
    bool inactive;            /* arrive inactive */
    bool retract;             /* called back: on_retract instead of on_arrive */
    struct trace trace;       /* of the move */
    agent_status before;      /* status to go back to on abort */
    struct work_queue parked; /* after departure: waiting for COMMITTED */
    struct buf parts;         /* snapshot: packed map */
    struct buf rows;          /* the packed lists of the payload */
    bool have_parts, have_rows;
    bool stored;             /* its snapshot is what the store holds */
    bool reading;            /* its rows are being read */
    struct buf payload;      /* sealed; for repeats */
    struct files_out *files; /* that travel with it; NULL = none. Then it is alone in its ticket */
    bool cleaning;           /* it is active there; its files are being removed here */
    bool over;               /* nothing of it is kept here any more */
    bool at_boot;            /* departed in an earlier life: what it left is in its rows */
    bool has_key;            /* asked for under a request key: the answer travels with the agent */
    uint8_t key[REQUEST_KEY_BYTES];
    bool out;            /* not in the receipt, or not yet active there (COMMITTED) */
    bool unknown;        /* the destination said that it never staged it: in doubt (H5) */
    bool seen_elsewhere; /* somebody has told of epoch + 1 or above (H8) */
    move_done done;
    void *arg;
};
#define TICKET_OUT_EACH(n, t, m)                                                                   \
    for ((t) = (n)->tickets_out; (t); (t) = (t)->hh.next)                                          \
        TAILQ_FOREACH (m, &(t)->moves, link)

/* -- ticket_out.c: offer to COMMITTED -- */
/* An empty ticket; fill it (move_out_join) in the same turn, then ticket_out_go. */
struct ticket_out *ticket_out_new(struct node *n, struct peer *to);
void ticket_out_go(struct ticket_out *t); /* done() of its moves may come before it returns */
struct ticket_out *ticket_out_find(struct node *n, const gw_id *id);
/* Freed when it is empty and nobody holds it. */
void ticket_out_hold(struct ticket_out *t);
void ticket_out_drop(struct ticket_out *t);
void ticket_out_stage(struct ticket_out *t); /* when each of its moves is whole */
void ticket_out_abort(struct ticket_out *t, const struct gw_error *why);
/* QUERY; links; rows at boot are move_out_boot's. */
void ticket_out_query(struct node *n, struct peer *p, const struct frame *f);
void ticket_out_link(struct node *n, struct peer *p, bool up);
void tickets_out_free(struct node *n);
void move_out_boot(struct node *n, const gw_id *agent, uint64_t epoch, const struct agent_row *row);
const char *out_phase_name(out_phase phase);
/* For ticket_files.c: change the phase; stop the agents; seal and send STAGE; send OFFER. */
void ticket_out_set_phase(struct ticket_out *t, out_phase phase);
void ticket_out_freeze(struct ticket_out *t);
void ticket_out_send(struct ticket_out *t);
void ticket_out_offer(struct ticket_out *t);
/* What it left here is removed: its rows go. */
void ticket_out_cleaned(struct node *n, const gw_id *ticket, const gw_id *agent);
/* Its rows are departed ones. */
static inline bool ticket_out_has_left(const struct ticket_out *t)
{
    return t->phase == OUT_DEPARTED || t->phase == OUT_RESOLVING;
}
/* Its resolution is being written; or is not (any more), and the move goes on for those left. */
void ticket_out_resolving(struct ticket_out *t, bool on);

/* -- ticket_files.c: its agent has files -- */
void ticket_files_look(struct ticket_out *t); /* are they there? then the offer */
void ticket_files_flow(struct ticket_out *t); /* accepted: they flow, then the agent freezes */
void ticket_files_bind(struct ticket_out *t); /* they have flowed: it freezes, if it may */
void ticket_files_check(
    struct ticket_out *t); /* frozen: what has changed flows again, then STAGE */
/* Some have registered files since the ticket began: they are out of it. */
bool ticket_files_late(struct ticket_out *t);

/* -- move_out.c: one agent -- */
/* Add an agent. clone NULL: a move, for which move_out_check holds. done once. flags: MOVE_... */
struct move_out *move_out_join(struct ticket_out *t, struct agent *a, unsigned flags,
                               const gw_id *clone, move_done done, void *arg);
struct move_out *move_out_shell(struct ticket_out *t, const gw_id *agent, uint64_t epoch);
/* The agent that is moved or cloned; a clone's source may leave or end meanwhile: NULL. */
struct agent *move_out_source(const struct move_out *m);
/* Stop the agents, take their snapshots; then ticket_out_stage. */
void moves_out_freeze(struct ticket_out *t);
/* Its files have flowed while it ran: now it moves. Errors as move_out_check's. */
gw_err move_out_bind(struct move_out *m, struct gw_error *why) GW_MUST_USE;
/* What is sealed for the destination. */
void move_out_pack(const struct move_out *m, struct buf *out);
/* Out of its ticket and back to where it was, with an event. */
void move_out_abort(struct move_out *m, const struct gw_error *why);
void moves_out_abort(struct ticket_out *t, const struct gw_error *why);
/* It has left, and its files are still being removed here: done(), and what waited follows it. */
void move_out_told(struct move_out *m);
/* It has left: the same, and the end of the move. */
void move_out_end(struct move_out *m);
/* An operator has taken it back, and it is here again: done() is told so, what waited starts again.
 */
void move_out_taken_back(struct move_out *m);
void move_out_free(struct move_out *m);
/* Whether a host has announced the type, in this very version. */
bool move_out_takes_version(const struct peer *to, const struct type *type);
/* files_out.c: it is active there. True: what it left here is being removed; ticket_out_cleaned. */
bool files_clean(struct move_out *m);
/* The move that an agent is in, frozen or not yet; NULL = none. */
static inline struct move_out *move_out_of(const struct agent *a)
{
    return a->move ? a->move : a->sending;
}
/* Another host was heard to hold `epoch` of the agent (H8). */
void move_out_seen(struct node *n, const gw_id *agent, uint64_t epoch);

/* ---- the destination ---- */
typedef enum in_phase {
    IN_STORING, /* staged rows are with the storage thread */
    IN_STAGED,  /* receipt given */
    IN_COMMITTING,
    IN_RESOLVING, /* an operator's word is with the storage thread: the source waits */
    IN_PHASES
} in_phase;

struct ticket_in {
    UT_hash_handle hh; /* by id */
    gw_id id;
    struct node *node;
    struct peer *from;
    in_phase phase;
    TAILQ_HEAD(move_in_list, move_in) moves;
    size_t count;
    size_t probing;            /* of them, their state is being decoded */
    size_t verifying;          /* of them, their files are being looked at */
    bool stored;               /* the staged rows are on disk */
    gw_err store_err;          /* or not */
    uint64_t stage_stream;     /* of the latest STAGE, COMMIT to answer */
    uint64_t commit_stream;    /* 0 = none */
    struct buf refused;        /* packed entries of the receipt */
    size_t refused_count;      /* of them */
    struct buf unknown;        /* packed entries of COMMITTED */
    size_t unknown_count;      /* of them */
    struct store_batch *batch; /* of a clone, until its state has decoded; of files, until they are
                                  found to be there */
    uint8_t nonce[TICKET_NONCE_BYTES];
    struct env_timer *timer;
    int64_t since_ms;
    bool querying; /* a QUERY is open */
    bool detached; /* out of the table; freed by whoever still answers */
    bool silent;   /* the source does not answer QUERY: in doubt */
};

struct move_in {
    UT_hash_handle hh; /* by agent */
    TAILQ_ENTRY(move_in) link;
    struct ticket_in *t;
    gw_id agent;
    uint64_t epoch;
    struct agent_row row;
    struct probe *probe;  /* its state is being decoded */
    uint64_t incarnation; /* of the runner that holds its object; 0 = none */
    bool clone;
    bool has_mail;  /* rows of inbox, outbox or timers came with it */
    bool has_files; /* or may have */
    bool dropping;  /* it goes away when it is stored, or now */
    gw_err refused;
    struct gw_error why;
};

/* -- ticket_in.c: STAGE to COMMITTED -- */
struct ticket_in *ticket_in_find(struct node *n, const gw_id *id);
void ticket_in_probed(struct ticket_in *t);   /* one of its moves has an answer of the runner */
void ticket_in_verified(struct ticket_in *t); /* ... of the environment */
void ticket_in_frame(struct node *n, struct peer *p,
                     const struct frame *f); /* OFFER STAGE COMMIT ABORT */
void ticket_in_link(struct node *n, struct peer *p, bool up);
void tickets_in_free(struct node *n);
/* An operator has resolved it: its row is gone. */
void ticket_in_forget(struct move_in *m);
/* As ticket_out_resolving. */
void ticket_in_resolving(struct ticket_in *t, bool on);
void move_in_boot(struct node *n, const gw_id *agent, uint64_t epoch, const struct agent_row *row);
const char *in_phase_name(in_phase phase);

/* -- move_in.c: one agent -- */
struct move_in *move_in_find(struct node *n, const gw_id *agent);
struct move_in *move_in_new(struct ticket_in *t, const gw_id *agent, uint64_t epoch);
/* Whether this host takes agent i of a ticket. staged: agents of that peer so far; coming: others
 * of the ticket that are not staged yet. */
gw_err move_in_admit(struct node *n, const struct ticket *t, size_t i, size_t staged, size_t coming,
                     struct gw_error *why) GW_MUST_USE;
/* Open payload i, put its rows into the batch, add it to t. ret_parts is borrowed from ret_plain.
 */
gw_err move_in_take(struct ticket_in *t, const struct ticket *ticket, size_t i, struct span sealed,
                    struct store_batch *batch, struct buf *ret_plain, struct span *ret_parts,
                    struct gw_error *why) GW_MUST_USE;
/* Let the runner decode the state, on the other core, while the disk writes. */
void move_in_probe(struct move_in *m, struct span parts);
/* files_in.c: whether its files are there; m->refused, then ticket_in_verified. GW_EREFUSED: they
 * were never offered. */
gw_err files_verify(struct move_in *m, struct span list, struct gw_error *why) GW_MUST_USE;
void move_in_put_arrived(struct move_in *m, struct store_batch *batch);
/* Its rows go, and what the runner has of it. `gone` NULL: who submits the batch tries it again
 * itself. */
void move_in_put_dropped(struct move_in *m, struct leftovers *gone, struct store_batch *batch);
struct agent *move_in_arrive(struct move_in *m);
/* Out of its ticket; what is still being probed is freed when that ends. */
void move_in_free(struct move_in *m);

/* ---- both: handoff.c ---- */
typedef enum handoff_mode { HANDOFF_MOVE, HANDOFF_CLONE } handoff_mode;

/* Rows of an agent that travel, in the order of the payload. A new one is a new row at the end of
 * handoff_lists, and a line in PROTOCOL.md 6.2. */
#define HANDOFF_LISTS 7
struct handoff_list {
    store_table table;
    size_t suffix_bytes; /* of the key, behind agent and epoch; 0: see store */
    bool mail;           /* loaded when the agent becomes active (inbox_load) */
    bool shifts;         /* its deadlines go as what is left of them: the clock there is another */
    /* From memory; NULL: the rows as they are read. */
    void (*pack)(struct node *n, const struct agent *a, struct buf *out);
    /* Check and store; NULL: as they are. */
    gw_err (*store)(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span list,
                    int64_t now_ms);
};
extern const struct handoff_list handoff_lists[HANDOFF_LISTS];

/* Pack the payload. `rows` is all lists in a row; empty: none of them holds anything. */
void handoff_pack(struct buf *out, handoff_mode mode, const struct agent_row *row,
                  struct span parts, struct span rows, struct span files);
/* Rows of (agent, epoch) as the packed lists. */
void handoff_pack_rows(struct node *n, const struct agent *a, const struct storage_row *rows,
                       size_t count, struct buf *out);
struct handoff_payload {
    handoff_mode mode;
    struct agent_row row;             /* agent_row_clear */
    struct span parts;                /* borrowed from the payload */
    struct span lists[HANDOFF_LISTS]; /* empty: absent */
    struct span files;                /* the same */
};
gw_err handoff_unpack(struct span payload, struct handoff_payload *ret) GW_MUST_USE;
/* Put all of it into a batch as rows of (agent, epoch), but for the agents row. now_ms: the wall
 * clock here. A batch of NULL only checks. */
gw_err handoff_store(struct store_batch *batch, const struct handoff_payload *p, const gw_id *agent,
                     uint64_t epoch, int64_t now_ms) GW_MUST_USE;
bool handoff_has_mail(const struct handoff_payload *p);
bool handoff_has_files(const struct handoff_payload *p);

/* One [agent, epoch], and reading it back. */
void handoff_put_agent(struct buf *b, const gw_id *agent, uint64_t epoch);
gw_err handoff_read_agent(struct mp *m, gw_id *ret_agent, uint64_t *ret_epoch) GW_MUST_USE;
/* One [agent, code, reason] of what a host does not take. */
struct handoff_refusal {
    gw_id agent;
    struct gw_error why;
};
void handoff_put_refusal(struct buf *b, const gw_id *agent, const struct gw_error *why);
gw_err handoff_read_refusal(struct mp *m, struct handoff_refusal *ret) GW_MUST_USE;

#endif

/* Files that travel with agents, shared by files.c (rows, memory, handlers, tickets, people),
 * files_out.c (they are sent, and removed where they were) and files_in.c (they come, and become
 * the work folder of their agent). */
#ifndef HOST_CORE_FILES_H
#define HOST_CORE_FILES_H

#include "host/core/handoff.h"
#include "protocol/filename.h"

#define FILES_ROUNDS   4 /* of sending what has changed meanwhile, before and after the freeze */
#define FILES_TTL_US   60000000LL /* so long nothing comes for an offer: its folder goes */
#define FILES_ADOPT_MS 1000       /* before it is tried again */

typedef enum file_mode { FILE_MOVE, FILE_COPY, FILE_MODES } file_mode; /* as GW_MOVE, GW_COPY */

struct file_row {
    file_mode mode;
    struct span path;   /* absolute, or from the work folder of its agent */
    struct span origin; /* HOST:PATH where it was first sent from; empty: it never was */
    bool known;         /* the members of `fact` are those of the last time it was sent */
    struct env_fact fact;
    gw_id ticket; /* it lies in the folder of this ticket, which is not the work folder yet */
};

struct file {
    struct file *next; /* of the same agent */
    char *name, *path, *origin;
    struct file_row row; /* its spans point to these texts */
};

struct agent_files {
    struct file *first; /* in the order of their names */
    size_t count;
    bool adopting; /* the folder of their ticket is becoming the work folder */
};

struct file *file_find(const struct agent *a, const char *name);
/* Takes the place of one of that name. */
struct file *file_set(struct agent *a, const char *name, const struct file_row *row);
void file_drop(struct agent *a, struct file *f);
void file_put(struct store_batch *batch, const gw_id *agent, uint64_t epoch, const char *name,
              const struct file_row *row);
void file_row_pack(const struct file_row *r, struct buf *out);
gw_err file_row_read(struct span value, struct file_row *ret) GW_MUST_USE; /* borrows */

/* A question to the environment: known to the node, for it may outlive what asked. */
struct files_asked {
    LIST_ENTRY(files_asked) link;
    struct node *n;
    struct files_out *out; /* NULL: it has ended */
    struct ticket_in *in;
    void (*again)(struct files_asked *q); /* it failed: what housekeeping does about it */
    gw_id ticket, agent;
    uint64_t epoch;
    char **names; /* owned */
    size_t name_count;
};
struct files_asked *files_asked_new(struct node *n);
void files_asked_free(struct files_asked *q);

/* Each [name, row] of a list that comes with `ticket`. GW_EPROTO: it is none, or names one twice.
 */
gw_err files_read_list(struct span list, const gw_id *ticket,
                       void (*take)(void *arg, const char *name, const struct file_row *row),
                       void *arg) GW_MUST_USE;

struct files_store_into {
    struct store_batch *batch; /* NULL: only looked at */
    const gw_id *agent;
    uint64_t epoch;
};

/* ---- files_out.c ---- */
/* The files of one agent on their way to one folder; more than one time, until none of them has
 * changed since it was sent. */
struct files_out;
struct files_out *files_out_new(struct node *n, const struct agent *a, const struct host_id *to,
                                const gw_id *ticket, const gw_id *as);
void files_out_free(struct files_out *f); /* NULL allowed; done() does not come any more */
/* What is given as `arg` from now on is of malloc, and freed should the node end meanwhile. */
void files_out_own_arg(struct files_out *f);
void files_outs_free(struct node *n);
/* Whatever its owner keeps beside them; freed with it. */
struct buf *files_out_keep(struct files_out *f);
/* Look whether all are there, and how large: before anything is offered. done() as below. */
void files_out_look(struct files_out *f,
                    void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg);
/* Send what was not sent as it is now. done() once, in a later turn: GW_ENOT_FOUND a file is gone,
 * GW_ECONFLICT one changes again and again, GW_EAGENT_NOT_FOUND the agent is. */
void files_out_settle(struct files_out *f,
                      void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg);
/* Of a copy that stays here: whether just these have come; what else did is removed. done() as of
 * files_out_settle. */
void files_out_verify(struct files_out *f,
                      void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg);
/* How many, and their bytes when they were last looked at. */
void files_out_total(const struct files_out *f, size_t *ret_count, uint64_t *ret_bytes);
/* The list of a ticket's payload: [[name, row]...], row as it will stand at the destination. */
void files_out_pack(const struct files_out *f, const char *host, struct buf *out);
/* Rows of the agent as it is there, or as what has departed from here. */
void files_out_put_arrived(const struct files_out *f, const char *host, struct store_batch *batch);
void files_out_put_departed(const struct files_out *f, uint64_t epoch, struct store_batch *batch);

#endif

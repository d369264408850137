/* Three real hosts of which one is about to fail, and what is asked of them meanwhile.
 *
 * An agent of a case lives on SOURCE, goes to DEST, and was made at HOME, which clients use. All
 * hosts run in a hurry (GODWIT_FAIL=speed=N), so that 30 s of the mesh take a second or two. Who
 * dies is started again, who stands still goes on once the others have noticed. The first thing
 * that is wrong stands in `problem`; from then on every call returns at once. */
#ifndef TESTS_FAILPOINTS_WORLD_H
#define TESTS_FAILPOINTS_WORLD_H

#include "clients/cli/selftest_mesh.h"

enum role { SOURCE, DEST, HOME };
#define SPEED      20
#define SPEED_TEXT "speed=20"

struct world_host {
    char fail[256];    /* $GODWIT_FAIL of this life */
    const char *items; /* of them, without the speed; NULL: none */
    const char *then;  /* those of its next life */
    bool hold;         /* it stays down until world_heal */
    bool sleeps;       /* it may end by SIGTERM: the story does that */
    unsigned lives;
    unsigned deaths;              /* in this case */
    int64_t stopped_ms, asked_ms; /* stands still since; last look whether that was noticed */
    long log_at;                  /* size of its log when the case began */
};

struct world {
    struct selftest_mesh mesh;
    struct world_host hosts[MESH_HOSTS];
    char problem[512];
    char last[400]; /* why the last attempt of something failed */
    int64_t until_ms;
    unsigned serial;  /* of keys */
    enum role victim; /* of this case */
    char place[64];   /* where it fails: what its log says of that */
    bool looking;     /* world_look is at work */
};

int64_t world_now_ms(void);
/* The first problem stays. */
void world_fault(struct world *w, const char *fmt, ...) GW_PRINTF(2, 3);
bool world_is_fine(const struct world *w);

/* Make the hosts; false: there is a problem. Later: kill them, remove their home. */
bool world_open(struct world *w, const char *program, const char *plugin, const char *newer);
void world_close(struct world *w);

/* A case begins: so long may it take. All hosts are there and linked. */
void world_begin(struct world *w, int64_t ms);
/* Start a host again (SIGKILL) with these items in $GODWIT_FAIL, and wait until all are linked. A
 * host that fails while it starts is seen to as ever. */
void world_arm(struct world *w, enum role host, const char *items);
/* Look after the hosts for so long. */
void world_pause(struct world *w, int64_t ms);
/* SIGTERM, and start it again. */
void world_restart(struct world *w, enum role host);
/* SIGKILL; it is started again by whatever looks next. */
void world_kill(struct world *w, enum role host);
/* Nothing is held back any more; whoever still fails, fails no more. All are linked, and no move is
 * open. */
void world_heal(struct world *w);
/* Whether the host of the case has passed its place and failed. */
bool world_fired(struct world *w);
/* What the hosts have logged since the case began, as comments of TAP. */
void world_show_logs(struct world *w);

/* One attempt through a host: its answer. The arguments are JSON by a format. */
gw_err world_try(struct world *w, enum role via, gw_value *ret, const char *op, const char *fmt,
                 ...) GW_PRINTF(5, 6);
/* Until it is done. `spare`: a code that is as good (a repeat of what has been done); GW_OK none.
 */
void world_ask(struct world *w, enum role via, gw_err spare, gw_value *ret, const char *op,
               const char *fmt, ...) GW_PRINTF(6, 7);
/* Send it on its way and wait for nothing. */
void world_start(struct world *w, enum role via, const char *op, const char *fmt, ...)
    GW_PRINTF(4, 5);
/* The same, and tell the host that nobody waits for it any more. */
void world_cancel(struct world *w, enum role via, const char *op, const char *fmt, ...)
    GW_PRINTF(4, 5);
/* On how many hosts an agent lives, as their own lists say. */
int world_count(struct world *w, const char *agent);

#endif

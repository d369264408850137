/* A random life of a mesh: agents (citizen.h) that are told to do everything an agent can do, on
 * hosts that suffer every fault; then healing, and the checks of world_check.c.
 *
 * What is asked is a deed or a wish. A deed has a request key and a line in the log of its agent;
 * it is asked again until it is acknowledged. A wish (move, sleep, clone, ...) is asked once, its
 * answer may be anything, but it has to come. */
#ifndef TESTS_MESH_WORLD_H
#define TESTS_MESH_WORLD_H

#include "tests/mesh/virtual.h"

#define WORLD_HOSTS  7
#define WORLD_AGENTS 5
#define WORLD_DEEDS  112
#define WORLD_WISHES 256
#define NOBODY       SIZE_MAX

typedef enum deed_kind {
    DEED_NOTE,     /* mN */
    DEED_TELL,     /* mN, one-way */
    DEED_RELAY,    /* sN at agent, mN at `to` */
    DEED_WANT,     /* wN; acknowledged by its DEED_GIVE */
    DEED_GIVE,     /* gN; `to`: the want */
    DEED_ALARM,    /* tN */
    DEED_HUSH,     /* hN, the alarm `to` does not fire after it */
    DEED_WATCH,    /* oN, dN when the parent has ended */
    DEED_ANNOUNCE, /* aN at agent, pN at all that follow */
    DEED_POST,     /* the same, published at the host `to` */
    DEED_SPOIL,    /* nothing: it is refused */
    DEED_CREATE,   /* a settler, through the host `agent` */
    DEED_DISPOSE,  /* of the parent; its child ends with it */
    DEED_CARRY,    /* cN: a file of its own goes along from now on; `to`: 1 as a copy */
    DEED_SHED,     /* xN: that of the carry `to` does not any more */
    DEED_KINDS
} deed_kind;

struct deed { /* its number is its index */
    deed_kind kind;
    size_t agent, to;
    struct mesh_call *call;
    bool acked;
    int64_t asked_us, acked_us; /* first */
    size_t fixed;               /* always asked through this host; NOBODY: any */
    gw_id made;                 /* DEED_CREATE */
};

/* Sorts of trouble; each life has some of them. */
enum {
    TROUBLE_FRAMES = 1 << 0,  /* requests of moves lost, doubled, late */
    TROUBLE_CUTS = 1 << 1,    /* links end at some frame */
    TROUBLE_PARTS = 1 << 2,   /* pairs, or groups, are apart */
    TROUBLE_MUTES = 1 << 3,   /* one way */
    TROUBLE_PAUSES = 1 << 4,  /* hosts and machines stand still for up to a minute */
    TROUBLE_CLOCKS = 1 << 5,  /* wall clocks are years apart, and set while hosts run */
    TROUBLE_CRASHES = 1 << 6, /* at any moment, and at commits */
    TROUBLE_DISKS = 1 << 7,   /* full, slow, failing */
    TROUBLE_RUNNERS = 1 << 8, /* die */
    TROUBLE_STOPS = 1 << 9,   /* hosts are stopped in good order */
    TROUBLE_TYPES =
        1 << 10, /* hosts have different versions of the types: moves are offered first */
    TROUBLE_SORTS = 11
};

struct fences; /* world_fences.c */
struct world {
    struct mesh *m;
    size_t hosts, agents;
    gw_id id[WORLD_AGENTS + 2]; /* citizens, the parent, its child */
    char text[WORLD_AGENTS + 2][GW_ID_TEXT];
    struct deed deeds[WORLD_DEEDS];
    size_t deed_count;
    struct mesh_call *wishes[WORLD_WISHES]; /* not answered yet, or not freed */
    size_t wish_count;
    unsigned troubles;
    unsigned often;           /* of 10,000 frames, or commits, so many meet a fate */
    unsigned full;            /* of 10,000 commits, so many are rolled back */
    bool asleep[WORLD_HOSTS]; /* the next commit finds the disk asleep */
    unsigned runner_deaths[WORLD_HOSTS];
    bool follows[WORLD_AGENTS]; /* the topic, of the mesh */
    uint64_t run[WORLD_DEEDS];  /* of each carry, the file that counts */
    bool shed[WORLD_DEEDS];     /* it was registered and then dropped */
    struct fences *fences;
};
#define WORLD_PARENT(w) ((w)->agents)
#define WORLD_CHILD(w)  ((w)->agents + 1)

static inline bool world_has(const struct world *w, unsigned trouble)
{
    return (w->troubles & trouble) != 0;
}

/* ---- world.c ---- */
struct world *world_new(uint64_t seed);
void world_free(struct world *w);
void world_live(struct world *w, size_t steps); /* deeds, wishes, faults */
/* ---- world_deeds.c ---- */
size_t world_host(struct world *w); /* any */
void deed_any(struct world *w);     /* a new one, or one again */
void wish_any(struct world *w);
/* All agents are to go to this host, which gets something to write. */
void deeds_rush(struct world *w, size_t host);
/* Ask it, again under the same key; `via`: unless it is bound to a host. */
void deed_ask(struct world *w, struct deed *d, size_t via);
/* Whether it is acknowledged, looked at anew. */
bool deed_settle(struct world *w, struct deed *d);
/* After healing: until every deed is acknowledged and every wish answered. */
void deeds_complete(struct world *w);
/* Into the trace: each agent's log, each deed. */
void deeds_tell(struct world *w);
/* ---- world_faults.c ---- */
void faults_begin(struct world *w);
void fault_any(struct world *w);
/* ---- world_fences.c ---- */
/* Look at the store of a host: no fence may have fallen, none be gone but of an agent that ended.
 */
void fences_look(struct world *w, size_t host);
void fences_free(struct world *w);
/* ---- world_check.c ---- */
void world_check(struct world *w);
/* ---- world_files.c ---- */
/* A line "=N:RUN" of the log of an agent: which file the carry N registered. */
bool files_line(struct world *w, size_t agent, const char *line);
/* Each file that was registered is where its agent is, and nowhere else unless it may be. */
void files_look(struct world *w);
/* ---- world_rows.c ---- */
/* Nothing in any store that belongs to no agent there. */
void rows_check(struct world *w);

#endif

/* What hosts do while one of them fails: each story passes the places of some rows (table.def). */
#ifndef TESTS_FAILPOINTS_STORIES_H
#define TESTS_FAILPOINTS_STORIES_H

#include "tests/failpoints/world.h"

#define TALE_AGENTS 3

struct tale {
    struct cast {
        char id[GW_ID_TEXT];
        int64_t said; /* messages that were acknowledged */
        bool gone;    /* it has ended */
    } cast[TALE_AGENTS];
    int64_t ticks, topics, downs, done; /* of the first agent; -1: not looked at */
    int64_t pad_kib;
    char alias[24];
};

struct story {
    const char *name;
    /* While all is well (NULL: nothing); while one fails, until all that was asked for is
     * acknowledged. Behind them come the checks that hold for all stories: each agent is there
     * once, has heard what was acknowledged once and in order. */
    void (*before)(struct world *w, struct tale *t);
    void (*act)(struct world *w, struct tale *t);
};

extern const struct story stories[];
extern const size_t story_count;
const struct story *story_find(const char *name);
/* The checks that hold for all. */
void story_check(struct world *w, struct tale *t);

#endif

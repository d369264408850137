/* A boot on a store of which a part cannot be read: timers and mail of all agents do not come in
 * one piece, so they are read in groups of agents, a group that fails in halves, and whoever is
 * alone and fails is quarantined. The order of damage is that of pages: a few agents, neighbours by
 * id.
 *
 * What agents told others before they ended is not found this way: it waits for a start on a store
 * that has been restored, and the log says so. */
#include "host/core/internal.h"

#include "host/core/sleepers.h"

#include <stdlib.h>
#include <string.h>

static const store_table tables[] = {TABLE_TIMERS, TABLE_TOPICS, TABLE_WATCHES, TABLE_FILES,
                                     TABLE_INBOX,  TABLE_OUTBOX}; /* in the order of inbox_load */
#define TABLES ((size_t)6)
#define GROUP  (STORAGE_RANGES / TABLES)

struct salvage {
    struct node *n;
    gw_id *ids;
    size_t count;
    size_t next;    /* the first one that is not read yet */
    size_t at_once; /* so many are being read */
    size_t damaged;
};

static void read_group(struct salvage *s, size_t at_once);

static void end(struct salvage *s)
{
    struct node *n = s->n;
    log_error("store.salvaged",
              "agents=%zu damaged=%zu the others are served; what agents that have ended told "
              "others before waits for a restored store",
              s->count, s->damaged);
    free(s->ids);
    free(s);
    inbox_loaded(n);
}

static void group_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct salvage *s = arg;
    if (err != GW_OK && s->at_once > 1) {
        read_group(s, s->at_once / 2);
        return;
    }
    if (err != GW_OK) {
        s->damaged++;
        crashes_damaged(s->n, &s->ids[s->next], "its timers and mail cannot be read");
    }
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        inbox_loaded_row(s->n, &rows[i]);
    }
    s->next += s->at_once;
    if (s->next == s->count) {
        end(s);
    } else {
        read_group(s, s->at_once < GROUP / 2 && err == GW_OK ? s->at_once * 2 : s->at_once);
    }
}

static void read_group(struct salvage *s, size_t at_once)
{
    struct store_range *ranges = xcalloc(GROUP * TABLES, sizeof *ranges);
    size_t left = s->count - s->next, filled = 0;
    s->at_once = at_once < left ? at_once : left;
    for (size_t i = 0; i < s->at_once; i++) {
        for (size_t t = 0; t < TABLES; t++) {
            ranges[filled++] = (struct store_range){.table = tables[t],
                                                    .prefix = {s->ids[s->next + i].b, GW_ID_BYTES}};
        }
    }
    s->n->env->read(s->n->env->ctx, ranges, filled, group_read, s);
    free(ranges);
}

/* What belongs to the host itself: subscriptions of agents elsewhere, and what people publish. */
static void own_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct salvage *s = arg;
    if (err != GW_OK) {
        s->n->poster_damaged = true;
        log_error("store.salvaged",
                  "error=%s what was published here by people or tools, and is not delivered yet, "
                  "cannot be read, nor who subscribes elsewhere: other hosts tell that anew, "
                  "publishing waits for a restored store",
                  gw_err_name(err));
    }
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        inbox_loaded_row(s->n, &rows[i]);
    }
    if (s->count == 0) {
        end(s);
    } else {
        read_group(s, GROUP);
    }
}

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, GW_ID_BYTES);
}

void salvage_begin(struct node *n)
{
    struct salvage *s = xcalloc(1, sizeof *s);
    size_t sleeping = sleepers_count(n);
    s->n = n;
    s->ids = xcalloc(HASH_COUNT(n->agents) + sleeping + 1, sizeof *s->ids);
    for (const struct agent *a = n->agents; a; a = a->hh.next) {
        s->ids[s->count++] = a->id;
    }
    for (size_t i = 0; i < sleeping; i++) {
        s->ids[s->count++] = *sleepers_at(n, i).id;
    }
    qsort(s->ids, s->count, sizeof *s->ids, by_id);
    log_error("store.read",
              "timers and mail cannot be read whole: %zu agents are read by themselves", s->count);
    static const uint8_t nil[GW_ID_BYTES];
    const struct span poster = {n->poster.id.b, GW_ID_BYTES};
    const struct store_range ranges[] = {
        {.table = TABLE_TOPICS, .prefix = {nil, sizeof nil}},
        {.table = TABLE_OUTBOX, .prefix = poster},
        {.table = TABLE_STREAMS, .prefix = poster},
        {.table = TABLE_REQUESTS, .prefix = poster},
    };
    n->env->read(n->env->ctx, ranges, sizeof ranges / sizeof ranges[0], own_read, s);
}

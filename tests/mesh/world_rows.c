/* What the stores hold when everything has come to rest: nothing staged, nothing departed, no row
 * of an agent that is not there. */
#include <stdio.h>
#include <string.h>

#include "host/core/internal.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/world.h"

struct search {
    struct world *w;
    size_t host;
    store_table table;
};

static const char *const table_names[TABLE_COUNT] = {
    [TABLE_AGENTS] = "agents",   [TABLE_STATES] = "states",     [TABLE_INBOX] = "inbox",
    [TABLE_OUTBOX] = "outbox",   [TABLE_STREAMS] = "streams",   [TABLE_TIMERS] = "timers",
    [TABLE_FILES] = "files",     [TABLE_REQUESTS] = "requests", [TABLE_TOPICS] = "topics",
    [TABLE_WATCHES] = "watches",
};

static void fail_row(const struct search *s, struct span key, const char *what)
{
    char text[2 * 64 + 1] = "";
    for (size_t i = 0; i < key.n && i < 64; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", key.p[i]);
    }
    mesh_fail(s->w->m, "the store of h%zu has a row of %s %s: %s", s->host, table_names[s->table],
              what, text);
}

static bool see_agent(void *arg, struct span key, struct span value)
{
    const struct search *s = arg;
    struct agent_row row = {0};
    mesh_assert(s->w->m, agent_row_unpack(value, &row) == GW_OK);
    if (row.status != AGENT_ACTIVE && row.status != AGENT_INACTIVE) {
        fail_row(s, key, agent_status_names[row.status]);
    }
    agent_row_clear(&row);
    return true;
}

/* Of no agent: keys of create and clone, subscriptions elsewhere, what people publish. */
static bool is_of_the_host(const struct search *s, struct span key)
{
    static const uint8_t nil[GW_ID_BYTES];
    gw_id id;
    memcpy(id.b, key.p, GW_ID_BYTES);
    return ((s->table == TABLE_REQUESTS || s->table == TABLE_TOPICS) &&
            memcmp(key.p, nil, GW_ID_BYTES) == 0) ||
           (poster_is(&id) && s->table != TABLE_OUTBOX);
}

static bool see_row(void *arg, struct span key, struct span value)
{
    const struct search *s = arg;
    struct store *store = s->w->m->hosts[s->host].store;
    struct buf row = {0};
    (void)value;
    mesh_assert(s->w->m, key.n >= ROW_KEY_BYTES);
    if (is_of_the_host(s, key)) {
        return true;
    }
    if (store_get(store, TABLE_AGENTS, (struct span){key.p, ROW_KEY_BYTES}, &row) != GW_OK) {
        fail_row(s, key, "without its agent");
    }
    buf_free(&row);
    if (s->table == TABLE_OUTBOX || s->table == TABLE_INBOX) {
        fail_row(s, key, "that is still there");
    }
    return true;
}

void rows_check(struct world *w)
{
    static const store_table tables[] = {TABLE_STATES,   TABLE_INBOX,  TABLE_OUTBOX,
                                         TABLE_STREAMS,  TABLE_TIMERS, TABLE_FILES,
                                         TABLE_REQUESTS, TABLE_TOPICS, TABLE_WATCHES};
    for (size_t host = 0; host < w->hosts; host++) {
        struct search s = {w, host, TABLE_AGENTS};
        struct store_range range = {.table = TABLE_AGENTS};
        mesh_assert(w->m, store_scan(w->m->hosts[host].store, &range, see_agent, &s) == GW_OK);
        for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
            range.table = s.table = tables[i];
            mesh_assert(w->m, store_scan(w->m->hosts[host].store, &range, see_row, &s) == GW_OK);
        }
    }
}

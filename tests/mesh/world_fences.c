/* The highest epochs that the store of each host has ever held: they never fall, whatever crashes
 * (I2). */
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/world.h"

struct fence {
    gw_id agent;
    uint64_t epoch;
    bool ended;
    bool seen; /* by this look */
};
struct fences {
    struct {
        struct fence *items;
        size_t count, cap;
    } of[WORLD_HOSTS];
};
struct look {
    struct world *w;
    size_t host;
};

static struct fence *fence_of(struct world *w, size_t host, const gw_id *agent)
{
    struct fences *all = w->fences;
    for (size_t i = 0; i < all->of[host].count; i++) {
        if (gw_id_equal(&all->of[host].items[i].agent, agent)) {
            return &all->of[host].items[i];
        }
    }
    if (all->of[host].count == all->of[host].cap) {
        all->of[host].cap = all->of[host].cap ? all->of[host].cap * 2 : 16;
        all->of[host].items =
            realloc(all->of[host].items, all->of[host].cap * sizeof *all->of[host].items);
        gw_assert(all->of[host].items);
    }
    struct fence *f = &all->of[host].items[all->of[host].count++];
    *f = (struct fence){.agent = *agent};
    return f;
}

static bool look_at_row(void *arg, struct span key, struct span value)
{
    struct look *l = arg;
    struct mesh *m = l->w->m;
    struct mp in = mp_over(value);
    size_t fields;
    uint64_t epoch = 0;
    struct host_id host;
    bool ended = false;
    gw_id agent;
    char id[GW_ID_TEXT];
    mesh_assert(m, key.n == GW_ID_BYTES && mp_read_array(&in, &fields) == GW_OK &&
                       mp_read_uint(&in, &epoch) == GW_OK &&
                       mp_read_fixed(&in, host.b, HOST_ID_BYTES) == GW_OK &&
                       mp_read_bool(&in, &ended) == GW_OK);
    memcpy(agent.b, key.p, GW_ID_BYTES);
    struct fence *f = fence_of(l->w, l->host, &agent);
    if (epoch < f->epoch || (f->ended && !ended)) {
        mesh_fail(m, "I2: the fence of agent %s at h%zu falls from %llu%s to %llu",
                  gw_id_text(&agent, id), l->host, (unsigned long long)f->epoch,
                  f->ended ? " (ended)" : "", (unsigned long long)epoch);
    }
    f->epoch = epoch;
    f->ended = ended;
    f->seen = true;
    return true;
}

void fences_look(struct world *w, size_t host)
{
    struct look l = {w, host};
    struct store_range range = {.table = TABLE_LOCATIONS};
    char id[GW_ID_TEXT];
    if (!w->fences) {
        w->fences = calloc(1, sizeof *w->fences);
        gw_assert(w->fences);
    }
    size_t count = w->fences->of[host].count, kept = 0;
    for (size_t i = 0; i < count; i++) {
        w->fences->of[host].items[i].seen = false;
    }
    mesh_assert(w->m, store_scan(w->m->hosts[host].store, &range, look_at_row, &l) == GW_OK);
    struct fence *items = w->fences->of[host].items;
    for (size_t i = 0; i < w->fences->of[host].count; i++) {
        if (items[i].seen) {
            items[kept++] = items[i];
        } else if (!items[i].ended) { /* those that have ended are forgotten in time */
            mesh_fail(w->m, "I2: the fence of agent %s at h%zu is gone",
                      gw_id_text(&items[i].agent, id), host);
        }
    }
    w->fences->of[host].count = kept;
}

void fences_free(struct world *w)
{
    for (size_t i = 0; w->fences && i < WORLD_HOSTS; i++) {
        free(w->fences->of[i].items);
    }
    free(w->fences);
}

/* The course of a random life. */
#include "tests/mesh/world.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "tests/mesh/citizen.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/porter.h"

static void name_agent(struct world *w, size_t i, const gw_id *id)
{
    w->id[i] = *id;
    (void)gw_id_text(id, w->text[i]);
}

/* Before anything fails: agents, a family, subscriptions that all hosts know of. */
static void settle(struct world *w)
{
    for (size_t i = 0; i <= w->agents; i++) {
        gw_id id = mesh_create(w->m, world_host(w), "citizen");
        name_agent(w, i, &id);
    }
    gw_value v = gw_nil();
    gw_id child;
    mesh_must(w->m, world_host(w), &v, "create",
              "{'type': 'citizen', 'parent': '%s', 'at': 'h%zu'}", w->text[WORLD_PARENT(w)],
              world_host(w));
    mesh_assert(w->m, gw_id_parse(gw_map_str(&v, "agent", ""), &child) == GW_OK);
    gw_value_free(&v);
    name_agent(w, WORLD_CHILD(w), &child);
    mesh_expect(w->m, &child);
    for (size_t i = 0; i < w->agents; i++) {
        w->follows[i] = mesh_random(w->m, 2) == 0;
        if (w->follows[i]) {
            mesh_must(w->m, world_host(w), NULL, "send",
                      "{'agent': '%s', 'method': 'follow', 'args': {'topic': 'news'}}", w->text[i]);
        }
    }
    mesh_run(w->m, 1000);
}

struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->hosts = 3 + seed % (WORLD_HOSTS - 2);
    w->m = mesh_new(seed, w->hosts);
    porter_play(w->m);
    for (size_t i = 0; i < w->hosts; i++) {
        mesh_set_types(w->m, i, citizen_types, 2);
    }
    w->troubles = (unsigned)mesh_random(w->m, 1u << TROUBLE_SORTS);
    for (size_t i = 0; i < w->hosts && world_has(w, TROUBLE_TYPES); i += 2) {
        mesh_set_types(w->m, i, citizen_newer_types, 2);
    }
    w->agents = 2 + mesh_random(w->m, WORLD_AGENTS - 1);
    mesh_let_linger(w->m);
    if (world_has(w, TROUBLE_CLOCKS)) {
        for (size_t i = 0; i < w->hosts; i++) {
            mesh_set_clock(w->m, i, mesh_between(w->m, -315360000000, 315360000000));
        }
    }
    mesh_start_all(w->m);
    settle(w);
    return w;
}

void world_free(struct world *w)
{
    for (size_t i = 0; i < w->deed_count; i++) {
        mesh_call_free(w->deeds[i].call);
    }
    for (size_t i = 0; i < w->wish_count; i++) {
        mesh_call_free(w->wishes[i]);
    }
    mesh_free(w->m);
    fences_free(w);
    free(w);
}

void world_live(struct world *w, size_t steps)
{
    static const int64_t pauses[] = {0, 1, 3, 10, 100, 1000, 6000};
    faults_begin(w);
    for (size_t step = 0; step < steps; step++) {
        uint64_t dice = mesh_random(w->m, 100);
        if (dice < 55) {
            deed_any(w);
        } else if (dice < 85) {
            wish_any(w);
        } else {
            fault_any(w);
        }
        mesh_run(w->m, (int64_t)mesh_random(w->m, 1 + (uint64_t)pauses[mesh_random(w->m, 7)]));
    }
}

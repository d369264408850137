#include "tests/mesh/seeds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t number_of(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : fallback;
}

void seeds_each(uint64_t fallback, void (*one)(uint64_t seed))
{
    uint64_t only = number_of("SEED", 0);
    if (only > 0) {
        one(only);
        return;
    }
    uint64_t first = number_of("FIRST", 1), seeds = number_of("SEEDS", fallback);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        one(seed);
    }
    for (int f = 0; f < FIGURE_COUNT; f++) { /* for tests/sim.sh */
        printf("figure %s: %llu\n", mesh_figure_name((figure)f),
               (unsigned long long)mesh_figure((figure)f));
    }
}

void seeds_tell_again(struct mesh *m, uint64_t seed)
{
    char text[256];
    (void)snprintf(text, sizeof text, "SEED=%llu %s", (unsigned long long)seed,
                   program_invocation_name);
    mesh_set_again(m, text);
}

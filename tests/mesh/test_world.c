/* Random lives of a mesh of three to seven hosts (world.h): every fault that hosts, disks, clocks
 * and links can have, at random moments; then healing, and everything must be right.
 *
 *   SEEDS=N   so many seeds (default 20)         SEED=n   this one alone
 *   FIRST=n   the first of them (default 1)      MESH_TRACE=1   all that happens
 * A failure prints the command that repeats it. `make sim SEEDS=1000` runs many, on all cores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/mesh/seeds.h"
#include "tests/mesh/world.h"

#define STEPS   110
#define SEEDS   20
#define REST_MS 60000 /* timers, tells and wishes come to their end */

static void one_life(uint64_t seed)
{
    struct world *w = world_new(seed);
    seeds_tell_again(w->m, seed);
    world_live(w, STEPS);
    mesh_heal(w->m);
    deeds_complete(w);
    mesh_run(w->m, REST_MS);
    mesh_heal(w->m);
    world_check(w);
    world_free(w);
}

static void test_random_lives(void **state)
{
    (void)state;
    seeds_each(SEEDS, one_life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

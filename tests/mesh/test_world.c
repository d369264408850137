/* Random lives of a mesh of three to seven hosts (world.h): every fault that hosts, disks, clocks
 * and links can have, at random moments; then healing, and everything must be right.
 *
 *   SEEDS=N   so many seeds (default 20)         SEED=n   this one alone
 *   FIRST=n   the first of them (default 1)      MESH_TRACE=1   all that happens
 *   REACH=all fails when they have not reached each branch of host/core/reach.def
 * A failure prints the command that repeats it. `make sim SEEDS=1000` runs many, on all cores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/core/reach.h"
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

/* How often each branch was reached that only a fault reaches, as figures (tests/sim.sh). */
static void expect_reached(void)
{
    size_t missed = 0;
    bool all = getenv("REACH") != NULL;
    for (reach r = 0; r < REACH_COUNT; r++) {
        printf("figure %s (%s): %llu\n", reach_what(r), reach_name(r),
               (unsigned long long)reach_counts[r]);
    }
    for (reach r = 0; all && r < REACH_COUNT; r++) {
        if (reach_counts[r] == 0) {
            printf("FAILED never reached: %s (%s)\n", reach_name(r), reach_what(r));
            missed++;
        }
    }
    assert_int_equal(missed, 0);
}

static void test_random_lives(void **state)
{
    (void)state;
    seeds_each(SEEDS, one_life);
    expect_reached();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

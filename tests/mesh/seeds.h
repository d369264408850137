/* Tests that run one story under many seeds: SEEDS=N so many, FIRST=n from there, SEED=n this one
 * alone. */
#ifndef TESTS_MESH_SEEDS_H
#define TESTS_MESH_SEEDS_H

#include "tests/mesh/virtual.h"

/* Run `one` under each seed; `fallback` many when SEEDS is not set. */
void seeds_each(uint64_t fallback, void (*one)(uint64_t seed));
/* A failure of this mesh prints the command that repeats it. */
void seeds_tell_again(struct mesh *m, uint64_t seed);

#endif

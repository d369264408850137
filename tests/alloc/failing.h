/* The allocator that the library gets in place of libc's when its tests are run again with failing
 * allocations (rerun.c). tests.mk renames malloc and its like in a copy of libgodwit.a, so that it
 * counts what Godwit allocates (also for jansson), and what SQLite and libevent allocate for it;
 * tests and cmocka keep libc's. Any thread; counts are shared with forked processes. */
#ifndef TESTS_ALLOC_FAILING_H
#define TESTS_ALLOC_FAILING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAILING_SITES_MAX (1u << 20)
#define FAILING_CALLS_MAX 12

/* In memory that forked processes share. */
struct failing {
    uint32_t armed;                     /* 0: nothing is counted */
    uint32_t fail_at;                   /* number of the allocation that fails, from 1; 0 = none */
    uint32_t count;                     /* allocations while armed */
    uint32_t fired;                     /* whether it has failed */
    uintptr_t calls[FAILING_CALLS_MAX]; /* that led to it, innermost first; 0 ends them */
    uint64_t sites[FAILING_SITES_MAX];  /* a hash of the calls that led to each of the first ones */
};

/* Call before anything else; ends the process on failure. */
struct failing *failing_init(void);
/* Count, or not any more, the allocations of this thread and of those that the library starts. What
 * threads and processes do that a test starts itself is its own part of the play, and succeeds. */
void failing_arm(bool on);

#endif

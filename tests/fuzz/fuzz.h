/* A fuzz target: libFuzzer calls it under `make fuzz`, tests/fuzz/replay.c over the corpus under
 * `make test`. It returns 0, frees what it made, and ends the process only when an invariant broke.
 *
 * Targets whose input is a tree (JSON: a list of steps, a payload) define fuzz_grammar, and are
 * named in FUZZ_TREES of tests/tests.mk: libFuzzer then changes members of the tree, not bytes
 * (mutate.c). Such an input can be read, and written by hand. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_grammar {
    const char *const *words;  /* strings and keys that mean something; NULL at the end */
    const char *const *pieces; /* JSON: members for lists at the top; NULL at the end */
};
extern const struct fuzz_grammar fuzz_grammar;

#endif

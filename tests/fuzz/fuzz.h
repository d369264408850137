/* A fuzz target: libFuzzer calls it under `make fuzz`, tests/fuzz/replay.c over the corpus under
 * `make test`. It returns 0, frees what it made, and ends the process only when an invariant broke.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif

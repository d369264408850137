/* Programs of operations on a mesh of three hosts whose links, disks and runners fail: whatever the
 * order, everything is whole once it has healed. */
#include "tests/fuzz/fuzz.h"

#include "tests/fuzz/play.h"

const struct fuzz_grammar fuzz_grammar = {play_words, play_pieces};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play p;
    play_open(&p, PLAY_HOSTS);
    play_run(&p, data, size, NULL, 0);
    play_expect_whole(&p);
    play_expect_serves(&p, 0);
    play_close(&p);
    return 0;
}

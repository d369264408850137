/* A receiver that answers anything, to a sender with real files: it ends, with totals that fit, and
 * what it sends are whole records. The first byte of the input says how it sends. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "host/files/record.h"
#include "host/files/send.h"
#include "tests/fuzz/session.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_said(const struct buf *said)
{
    for (size_t at = 0; at < said->len;) {
        must(said->len - at >= RECORD_HEAD_BYTES);
        size_t n = load_u32(said->data + at);
        must(n >= 1 && n <= said->len - at - 4);
        at += 4 + n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct session_place place;
    struct session_input in;
    session_place_make(&place);
    session_input(&in, data + 1, size - 1);
    struct source_options how = {.recursive = true};
    struct send_options o = {.dst = "x",
                             .overwrite = data[0] & 1,
                             .verify = data[0] & 2,
                             .move = data[0] & 4,
                             .dry_run = data[0] & 8,
                             .compress = data[0] & 16 ? COMPRESS_ALWAYS : COMPRESS_AUTO};
    struct source *source;
    struct progress progress;
    struct send_result result;
    struct gw_error why = {0};
    const char *path = place.src;
    progress_init(&progress);
    must(source_open(place.roots, &path, 1, &how, &source, NULL) == GW_OK);
    gw_err err = send_files(&in.io, source, &o, &progress, &result, &why);
    must(err == GW_OK || (why.code == err && why.text[0] != '\0'));
    must(result.files <= 1 && result.bytes <= SESSION_OLD_BYTES);
    must(!result.hashed || (err == GW_OK && result.failed == 0 && !o.dry_run));
    must(result.removed == 0 || o.move);
    check_said(&in.said);
    source_close(source);
    progress_deinit(&progress);
    buf_free(&in.said);
    session_place_remove(&place);
    return 0;
}

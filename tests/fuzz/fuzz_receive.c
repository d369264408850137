/* A sender that says anything, to a receiver with real files: it ends, and without an error only
 * when it was finished properly; the old file is as it was, or replaced by something whole; no part
 * and nothing outside of the destination stays that a clean end would have removed. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/files/receive.h"
#include "host/files/record.h"
#include "tests/fuzz/session.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* The place of the source is none of the receiver's. */
static void check_src(const struct session_place *p)
{
    char path[128];
    uint8_t bytes[SESSION_OLD_BYTES + 1];
    snprintf(path, sizeof path, "%s/old", p->src);
    FILE *f = fopen(path, "rb");
    must(f && fread(bytes, 1, sizeof bytes, f) == SESSION_OLD_BYTES);
    must(memcmp(bytes, session_old(), SESSION_OLD_BYTES) == 0);
    fclose(f);
}

/* What our end said are whole records that a receiver says. */
static bool check_said(const struct buf *said)
{
    bool finished = false;
    for (size_t at = 0; at < said->len;) {
        must(said->len - at >= RECORD_HEAD_BYTES && !finished);
        size_t n = load_u32(said->data + at);
        record_kind kind = said->data[at + 4];
        must(n >= 1 && n <= said->len - at - 4);
        must(kind == RECORD_OPENED || kind == RECORD_VERDICT || kind == RECORD_FAILED ||
             kind == RECORD_BASIS || kind == RECORD_FINISHED || kind == RECORD_ERROR);
        finished = kind == RECORD_FINISHED || kind == RECORD_ERROR;
        at += 4 + n;
    }
    return said->len > 0 && finished;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session_place place;
    struct session_input in;
    session_place_make(&place);
    const char *dst = place.dst;
    struct roots *roots;
    must(roots_open(&dst, 1, &roots, NULL) == GW_OK);
    uint8_t *filled = session_fill_digests(data, size);
    session_input(&in, filled, size);
    struct receive_config config = {.roots = roots, .parts = place.parts, .quota_bytes = 1 << 24};
    struct progress progress;
    progress_init(&progress);
    struct gw_error why = {0};
    gw_err err = receive_files(&in.io, &config, &progress, &why);
    must(err == GW_OK || (why.code == err && why.text[0] != '\0'));
    bool ended = check_said(&in.said);
    must(err != GW_OK || ended);
    check_src(&place);
    progress_deinit(&progress);
    roots_close(roots);
    buf_free(&in.said);
    free(filled);
    session_place_remove(&place);
    return 0;
}

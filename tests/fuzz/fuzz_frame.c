/* The input of a link: any bytes give frames, fragments that come together, or a reason to close.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#include "host/net/reassembly.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* Walk over a frame as its readers do. */
static void read_fields(const struct frame *f)
{
    struct mp m = f->rest;
    struct span raw;
    for (size_t i = 0; i < f->fields && mp_skip(&m, &raw) == GW_OK; i++) {
        must(raw.n > 0 && raw.p >= f->raw.p && raw.p + raw.n <= f->raw.p + f->raw.n);
    }
    must(frame_kind_name(f->kind) != NULL && frame_kind_class(f->kind) < CLASS_COUNT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = {data, size};
    struct reassembly fragments = {0};
    struct frame f;
    gw_err err;
    while ((err = frame_take(&in, LIMIT_FRAME_BYTES, &f)) == GW_OK) {
        must(f.raw.n > 0 && f.raw.n <= LIMIT_FRAME_BYTES);
        read_fields(&f);
        if (f.kind != FRAME_FRAGMENT) {
            continue;
        }
        struct buf whole = {0};
        struct gw_error why = {0};
        err = reassembly_add(&fragments, &f, &whole, &why);
        must(fragments.bytes <= size);
        if (err == GW_OK) {
            struct frame inner;
            must(whole.len <= LIMIT_MESSAGE_BYTES);
            if (frame_parse(buf_span(&whole), &inner) == GW_OK) {
                read_fields(&inner);
            }
            buf_free(&whole);
        } else if (err != GW_EAGAIN) {
            must(why.text[0] != '\0');
            break;
        }
    }
    must(err != GW_OK);
    reassembly_free(&fragments);
    return 0;
}

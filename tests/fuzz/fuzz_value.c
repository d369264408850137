/* Free values from msgpack: what decodes packs again, and decodes to the same; and as JSON. */
#include <stdlib.h>

#include "protocol/json.h"
#include "protocol/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp m = mp_over((struct span){data, size}), skipped = m;
    gw_value v = {0}, again = {0}, copy = {0};
    gw_err skip = mp_skip(&skipped, NULL);
    if (value_unpack(&m, &v)) {
        must(m.p == data);
        return 0;
    }
    must(skip == GW_OK && skipped.p == m.p);
    struct buf out = {0}, json = {0};
    value_pack(&v, &out);
    must(buf_ok(&out));
    must(value_unpack_span(buf_span(&out), &again) == GW_OK);
    must(gw_value_equal(&v, &again));
    must(gw_value_copy(&v, &copy) == GW_OK && gw_value_equal(&copy, &v));
    must(json_write(&v, size % 3, &json) == GW_OK);
    gw_value_free(&again);
    /* Any JSON that we write we read, but for a text in {"base64": ...}, which may not be base64.
     */
    (void)!json_parse((char *)json.data, json.len, &again, NULL);
    gw_value_free(&v);
    gw_value_free(&again);
    gw_value_free(&copy);
    buf_free(&out);
    buf_free(&json);
    return 0;
}

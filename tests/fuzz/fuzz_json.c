/* JSON: what parses is written, and parses to the same. */
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
    gw_value v = {0}, again = {0};
    struct gw_error why = {0};
    if (json_parse((const char *)data, size, &v, &why)) {
        must(why.code != GW_OK && why.text[0]);
        return 0;
    }
    struct buf text = {0}, packed = {0};
    must(json_write(&v, size % 3, &text) == GW_OK);
    must(json_parse((char *)text.data, text.len, &again, NULL) == GW_OK);
    must(gw_value_equal(&v, &again));
    gw_value_free(&again);
    value_pack(&v, &packed);
    must(buf_ok(&packed));
    must(value_unpack_span(buf_span(&packed), &again) == GW_OK);
    must(gw_value_equal(&v, &again));
    gw_value_free(&v);
    gw_value_free(&again);
    buf_free(&text);
    buf_free(&packed);
    return 0;
}

/* traceparent and tracestate: what is taken reads the same again, and is bounded. */
#include <stdlib.h>
#include <string.h>

#include "protocol/limits.h"
#include "protocol/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {data, size};
    struct trace t, back;
    char shown[TRACE_TEXT];
    if (trace_parse(text, &t) == GW_OK) {
        must(!trace_is_none(&t) && (t.flags & ~TRACE_SAMPLED) == 0);
        (void)trace_text(&t, shown);
        must(strlen(shown) == TRACE_TEXT - 1);
        must(trace_parse((struct span){(const uint8_t *)shown, strlen(shown)}, &back) == GW_OK);
        must(memcmp(&t, &back, sizeof t) == 0);
        must(size < TRACE_TEXT || data[0] != '0' || data[1] != '0');
    }
    if (trace_state_is_valid(text)) {
        must(size <= LIMIT_TRACE_STATE_BYTES && memchr(data, '\n', size) == NULL &&
             memchr(data, '\r', size) == NULL && memchr(data, '\0', size) == NULL);
    }
    struct mp m = mp_over(text);
    if (trace_unpack(&m, &t) == GW_OK) {
        must(m.p <= m.end);
    }
    return 0;
}

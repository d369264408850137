/* An agent that is nothing but weight. */
#include <stdlib.h>

#include <godwit/agent.h>

struct blob {
    int64_t touched;
    gw_bytes data;
};

static const struct gw_field fields[] = {
    GW_FIELD(struct blob, touched),
    GW_FIELD(struct blob, data),
};

/* The bytes follow from their number, so that a reader can tell whether they are whole. */
static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static gw_err fill(struct gw_call *call)
{
    struct blob *b = gw_state(call);
    size_t n = (size_t)gw_arg_int(call, "bytes");
    uint8_t *data = malloc(n + 1);
    if (!data) {
        return GW_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        data[i] = byte_at(i);
    }
    free(b->data.data);
    b->data = (gw_bytes){data, n};
    return GW_OK;
}

static gw_err size(struct gw_call *call)
{
    struct blob *b = gw_state(call);
    return gw_reply_int(call, "bytes", (int64_t)b->data.len);
}

static gw_err verify(struct gw_call *call)
{
    struct blob *b = gw_state(call);
    size_t wrong = 0;
    for (size_t i = 0; i < b->data.len; i++) {
        wrong += b->data.data[i] != byte_at(i);
    }
    return gw_reply_bool(call, "whole", wrong == 0);
}

static gw_err touch(struct gw_call *call)
{
    struct blob *b = gw_state(call);
    b->touched++;
    return gw_reply_int(call, "touched", b->touched);
}

static const struct gw_method methods[] = {
    {"fill(bytes: int[0..100000000])", fill},
    {"size() -> (bytes: int)", size, GW_READ},
    {"verify() -> (whole: bool)", verify, GW_READ},
    {"touch() -> (touched: int)", touch},
};

GW_AGENT(blob, struct blob, GW_FIELDS(fields), GW_METHODS(methods));

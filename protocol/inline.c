#include "protocol/inline.h"

#include <stdlib.h>

void inline_ask_free(struct inline_ask *ask)
{
    if (ask) {
        gw_value_free(&ask->args);
        free(ask->text);
        free(ask);
    }
}

void inline_asks_free(struct inline_asks *asks)
{
    struct inline_ask *ask;
    while ((ask = TAILQ_FIRST(asks))) {
        TAILQ_REMOVE(asks, ask, link);
        inline_ask_free(ask);
    }
}

gw_err inline_ask_answer(struct inline_ask *ask, gw_value *ret)
{
    gw_value map = {.kind = GW_MAP};
    gw_err err;
    if (ask->err == GW_OK) {
        gw_value reply = ask->args;
        ask->args = (gw_value){0};
        err = gw_map_set(&map, "reply", reply);
    } else {
        err = gw_map_set(&map, "code", gw_str(gw_err_name(ask->err)));
        err = err ? err : gw_map_set(&map, "text", gw_str(ask->text ? ask->text : ""));
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    *ret = map;
    return GW_OK;
}

void inline_done_init(struct inline_done *done, struct gw_error *why)
{
    *done = (struct inline_done){.why = why};
    TAILQ_INIT(&done->asks);
}

void inline_done_free(struct inline_done *done)
{
    gw_value_free(&done->reply);
    buf_free(&done->parts);
    buf_free(&done->actions);
    inline_asks_free(&done->asks);
}

/* Answers by another handler than the one that was asked. The token is the key of the request,
 * under which the host keeps the open call and then its answer. */
#include "agents/sdk/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/value.h"

static gw_id token_of(const struct run *run)
{
    gw_id token;
    _Static_assert(sizeof token == sizeof run->key, "a token is a key");
    memcpy(token.b, run->key, sizeof token.b);
    return token;
}

gw_err gw_reply_later(struct gw_call *call, gw_id *ret_token)
{
    gw_id token = {{0}};
    if (call->run->hook != HOOK_METHOD) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED, "only a method has a caller to answer later");
    }
    if (call_reads(call)) {
        return gw_call_fail(call, GW_EREFUSED, "a GW_READ method cannot reply later");
    }
    if (!(call->run->flags & RUN_TOLD)) {
        token = token_of(call->run);
        if (!call->later) {
            GW_TRY(call_record(call, "later", gw_nil()));
        }
    }
    call->later = true;
    *ret_token = token;
    return GW_OK;
}

static gw_err check(struct gw_call *call, gw_id token)
{
    uint32_t hook = call->run->hook;
    gw_id own = token_of(call->run);
    if (hook == HOOK_DISPATCH || hook == HOOK_DISPOSE) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "no answer can be given in on_dispatch or on_dispose");
    }
    if (call->later && gw_id_equal(&token, &own)) {
        return gw_call_fail(call, GW_EARG, "the caller is to be answered by another handler");
    }
    return GW_OK;
}

/* Record {token, ...more}; takes ownership of more, a map or nil. A nil token is nobody's. */
static gw_err answer(struct gw_call *call, gw_id token, gw_value more)
{
    if (gw_id_is_nil(&token)) {
        gw_value_free(&more);
        return GW_OK;
    }
    gw_err err = gw_map_set(&more, "token", gw_id_value(&token));
    if (err != GW_OK) {
        gw_value_free(&more);
        return gw_call_fail(call, err, "out of memory for an answer");
    }
    return call_record(call, "answer", more);
}

gw_err gw_answer(struct gw_call *call, gw_id token, gw_value reply)
{
    gw_value map = {0};
    gw_err err = check(call, token);
    if (err == GW_OK && reply.kind != GW_NIL && reply.kind != GW_MAP) {
        err = gw_call_fail(call, GW_EARG, "the answer is not a map");
    }
    if (err != GW_OK) {
        gw_value_free(&reply);
        return err;
    }
    GW_TRY(gw_map_set(&map, "reply", reply));
    return answer(call, token, map);
}

gw_err gw_answer_fail(struct gw_call *call, gw_id token, gw_err code, const char *fmt, ...)
{
    gw_value map = {0}, text = {0};
    struct gw_error why;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why.text, sizeof why.text, fmt, ap);
    va_end(ap);
    GW_TRY(check(call, token));
    if (code == GW_OK || gw_err_from_wire((unsigned)code) != code) {
        return gw_call_fail(call, GW_EARG, "an answer that fails needs the code of an error");
    }
    GW_TRY(gw_value_set_str(&text, why.text, strlen(why.text)));
    gw_err err = gw_map_set(&map, "text", text);
    if (err == GW_OK) {
        err = gw_map_set(&map, "code", gw_int(code));
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return gw_call_fail(call, err, "out of memory for an answer");
    }
    return answer(call, token, map);
}

/* Asks of types that run in the host itself: nothing waits there, so the answer comes as a message
 * of its own. Recorded; handed to the host as they are, or in DONE as actions
 * ["ask", {agent, method, args, then}]. */
#include "agents/sdk/call.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/id.h"
#include "protocol/value.h"

static gw_err check(struct gw_call *call, const char *method, const char *then,
                    const gw_value *args)
{
    if (call->io->start) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "gw_ask_then is for types that run in the host itself: gw_ask and "
                            "gw_ask_async wait here");
    }
    if (call->run->hook == HOOK_DISPOSE) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED, "gw_ask_then cannot be used in on_dispose");
    }
    if (!method || !name_is_valid(method)) {
        return gw_call_fail(call, GW_EARG, "\"%.80s\" is not a method name", method ? method : "");
    }
    if (!then || !type_method_find(call->state->type, then)) {
        return gw_call_fail(call, GW_EARG,
                            "the type has no method \"%.80s\" to take the answer of \"%s\"",
                            then ? then : "", method);
    }
    if (args->kind != GW_NIL && args->kind != GW_MAP) {
        return gw_call_fail(call, GW_EARG, "the arguments for \"%s\" are not a map", method);
    }
    if (call->then_count >= LIMIT_ASKS_PER_HANDLER) {
        return gw_call_fail(call, GW_EBUSY, "the handler has asked %d times already",
                            LIMIT_ASKS_PER_HANDLER);
    }
    return GW_OK;
}

gw_err gw_ask_then(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                   const char *then)
{
    size_t bytes = 0;
    gw_err err = check(call, method, then, &args);
    if (err == GW_OK && !value_within(&args, LIMIT_ARGS_BYTES, &bytes)) {
        err = gw_call_fail(call, GW_ETOO_BIG, "the arguments for \"%s\" have more than %u bytes",
                           method, LIMIT_ARGS_BYTES);
    }
    struct inline_ask *ask = err == GW_OK ? malloc(sizeof *ask) : NULL;
    if (err == GW_OK && !ask) {
        err = gw_call_fail(call, GW_ENOMEM, "out of memory for an ask");
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    ask->agent = agent;
    ask->args = args;
    ask->answered = false;
    ask->err = GW_OK;
    ask->text = NULL;
    memcpy(ask->method, method, strlen(method) + 1);
    memcpy(ask->then, then, strlen(then) + 1);
    TAILQ_INSERT_TAIL(&call->thens, ask, link);
    call->then_count++;
    return GW_OK;
}

gw_err call_pack_thens(struct gw_call *call)
{
    struct inline_ask *ask;
    struct buf *out = &call->actions;
    TAILQ_FOREACH (ask, &call->thens, link) {
        mp_array(out, 2);
        mp_str(out, "ask");
        mp_map(out, 4);
        mp_str(out, "agent");
        mp_id(out, &ask->agent);
        mp_str(out, "method");
        mp_str(out, ask->method);
        mp_str(out, "then");
        mp_str(out, ask->then);
        mp_str(out, "args");
        value_pack(&ask->args, out);
        call->action_count++;
    }
    return buf_ok(out) ? GW_OK : GW_ENOMEM;
}

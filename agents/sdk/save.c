/* gw_save: the state as it is, durable before the handler goes on; messages in between.
 *
 * In `run` a frame SAVE carries what DONE would: the parts that have changed and what was recorded.
 * Until SAVED comes, whoever runs the engine executes frames of this agent that arrive, here, on
 * top of the handler that waits. The object stays where it is (`pinned`): what would drop it makes
 * it stale, and SAVED brings its parts again when the host has seen that. */
#include "agents/sdk/call.h"

#include <string.h>

#include "protocol/value.h"

static gw_err pack(struct gw_call *call, struct buf *out)
{
    size_t changed;
    size_t at = frame_begin(out, FRAME_SAVE, call->stream, 2);
    GW_TRY(state_pack(call->state, false, out, &changed, &call->why));
    mp_array(out, call->action_count);
    buf_add(out, call->actions.data, call->actions.len);
    frame_end(out, at);
    return buf_ok(out) ? GW_OK : gw_call_fail(call, GW_ENOMEM, "out of memory in save");
}

/* SAVED: code, text, hint, parts, key. */
static gw_err take(struct gw_call *call, const struct buf *answer)
{
    struct frame f;
    struct gw_error why = {0};
    uint32_t code;
    struct span parts;
    uint8_t key[sizeof call->key];
    if (frame_parse(buf_span(answer), &f) != GW_OK || mp_read_u32(&f.rest, &code) != GW_OK ||
        mp_read_text_or_nil(&f.rest, why.text, sizeof why.text) != GW_OK ||
        mp_read_text_or_nil(&f.rest, why.hint, sizeof why.hint) != GW_OK ||
        mp_skip(&f.rest, &parts) != GW_OK || mp_read_fixed(&f.rest, key, sizeof key) != GW_OK) {
        return gw_call_fail(call, GW_EPROTO, "the host's answer is malformed");
    }
    struct mp m = mp_over(parts);
    bool there = mp_peek(&m) != MP_NIL;
    if (there) {
        GW_TRY(state_load(call->state, call->state->type, parts, &call->why));
    } else if (call->state->stale) {
        return gw_call_fail(call, GW_EFAIL, "the state was spoilt while it was saved");
    }
    call->why = why;
    call->why.code = gw_err_from_wire(code);
    if (call->why.code == GW_OK) {
        memcpy(call->key, key, sizeof key);
        call->asks = 0; /* run again from here, it repeats the asks behind this */
    }
    return call->why.code;
}

static gw_err save_run(struct gw_call *call)
{
    struct buf out = {0}, answer = {0};
    if (!call->io->save) {
        return gw_call_fail(call, GW_EINLINE, "a built-in type cannot wait for its save");
    }
    call->why = (struct gw_error){0};
    gw_err err = pack(call, &out);
    if (err == GW_OK) {
        call->state->pinned = true;
        err = call->io->save(call->io_ctx, &call->run->agent, call->stream, &out, &answer,
                             &call->why);
        call->state->pinned = false;
    }
    if (err == GW_OK) {
        err = take(call, &answer);
    }
    buf_reset(&call->actions);
    call->action_count = 0;
    call->leaves = false;
    buf_free(&out);
    buf_free(&answer);
    return verbs_outcome(call, "save", err);
}

gw_err gw_save(struct gw_call *call)
{
    gw_durability durability = call->state->type->def->durability;
    if (call_reads(call) || durability == GW_VOLATILE) {
        return gw_call_fail(call, GW_EREFUSED,
                            call_reads(call) ? "a GW_READ method cannot save"
                                             : "a volatile type is never saved");
    }
    if (call->run->hook == HOOK_RUN) {
        return save_run(call);
    }
    return durability == GW_TRANSITIONS ? call_record(call, "save", gw_nil()) : GW_OK;
}

/* The operations of travel: dispatch, retract, and what would hinder them. */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/selector.h"

/* ---- dispatch ---- */

static gw_value place(const gw_id *agent, const char *host, uint64_t epoch, const gw_id *ticket)
{
    char id[GW_ID_TEXT];
    gw_value result = gw_nil();
    gw_err err = gw_map_set(&result, "agent", gw_str(gw_id_text(agent, id)));
    if (err == GW_OK && ticket) {
        err = gw_map_set(&result, "ticket", gw_str(gw_id_text(ticket, id)));
    }
    if (err != GW_OK || gw_map_set(&result, "host", gw_str(host)) != GW_OK ||
        gw_map_set(&result, "epoch", gw_int((int64_t)epoch)) != GW_OK) {
        gw_value_free(&result);
    }
    return result;
}

static void answer_place(struct op_call *call, const gw_id *agent, const char *host, uint64_t epoch,
                         const gw_id *ticket)
{
    gw_value result = place(agent, host, epoch, ticket);
    op_ok(call, &result);
}

void dispatch_answer_pack(const struct move_out *m, struct buf *out)
{
    struct buf reply = {0};
    gw_value v = place(&m->agent_id, peer_label(m->t->to), m->epoch + 1, &m->t->id);
    value_pack(&v, &reply);
    mp_array(out, 2);
    mp_int(out, node_now_ms(m->t->node));
    mp_span(out, buf_span(&reply));
    buf_free(&reply);
    gw_value_free(&v);
}

/* ---- a repeat under the same key: answered from the record, wherever the agent is ---- */

static void recorded_read(void *arg, gw_err err, const struct storage_row *rows, size_t n)
{
    struct op_call *call = arg;
    struct gw_error why;
    struct span reply;
    int64_t at_ms;
    size_t fields;
    gw_value v = gw_nil();
    struct mp m = mp_over(err == GW_OK && n == 1 ? rows[0].value : (struct span){0});
    if (mp_read_array(&m, &fields) == GW_OK && fields >= 2 && mp_read_int(&m, &at_ms) == GW_OK &&
        mp_read_bin(&m, &reply) == GW_OK && value_unpack_span(reply, &v) == GW_OK) {
        op_ok(call, &v);
        return;
    }
    gw_fail(&why, err == GW_OK ? GW_ECORRUPT : err,
            "the recorded answer of this request cannot be read");
    op_fail(call, &why);
}

/* True: the call is taken care of. */
static bool is_repeat(struct node *n, struct op_call *call, struct agent *a,
                      const uint8_t key[REQUEST_KEY_BYTES])
{
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    const struct move_out *m = move_out_of(a);
    if (m) {
        bool same = m->has_key && memcmp(m->key, key, REQUEST_KEY_BYTES) == 0;
        if (same) {
            call_again_later(n, call); /* the first one is still under way */
        }
        return same;
    }
    if (!agent_live(a)->known) {
        work_learn(n, a, call);
        return true;
    }
    if (!request_find(a->live, key)) {
        return false;
    }
    row_key(raw, &a->id, a->epoch);
    memcpy(raw + ROW_KEY_BYTES, key, REQUEST_KEY_BYTES);
    const struct store_range range = {.table = TABLE_REQUESTS, .prefix = {raw, sizeof raw}};
    n->env->read(n->env->ctx, &range, 1, recorded_read, call);
    return true;
}

/* The destination had no room: when the selector leaves a choice, the next one is asked (which the
 * destination of now is not among, peers_pick); else one that may have room is named. */
static void no_room(struct op_call *call, const struct move_out *m, const struct gw_error *why)
{
    struct node *n = m->t->node;
    struct gw_error full = *why;
    struct selector s;
    const char *to = gw_map_str(&call->args, "to", "");
    if (selector_parse(to, &s, NULL) == GW_OK && (s.kind == SELECT_ANY || s.kind == SELECT_TERMS)) {
        call_again_later(n, call);
        return;
    }
    const struct peer *better = peer_better(n, m->t->to, m->type);
    if (better) {
        gw_hint(&full, "host \"%s\" takes agents of this type and may have room",
                peer_label(better));
    }
    op_fail(call, &full);
}

static void dispatched(void *arg, gw_err err, struct move_out *m, const struct gw_error *why)
{
    struct op_call *call = arg;
    if (err == GW_EBUSY && m && m->t->full) {
        no_room(call, m, why);
    } else if (err != GW_OK) {
        op_fail(call, why);
    } else {
        answer_place(call, &m->agent_id, peer_label(m->t->to), m->epoch + 1, &m->t->id);
    }
}

gw_err travel_pick(struct node *n, const struct op_call *call, bool clone, struct peer **ret,
                   struct gw_error *why)
{
    char self[HOST_ID_TEXT];
    const gw_value *require = gw_map_get(&call->args, "require");
    const char *to = gw_map_str(&call->args, "to", NULL);
    if (require && require->kind == GW_LIST && require->list.n > LIMIT_TAGS) {
        return gw_fail(why, GW_EARG, "no host has more than %d tags", LIMIT_TAGS);
    }
    return peers_pick_tagged(n, to ? to : host_id_text(&n->self->id, self), !clone, require, ret,
                             why);
}

static void travel_local(struct node *n, struct op_call *call, struct agent *a, unsigned flags)
{
    struct gw_error why;
    struct peer *to;
    flags |= gw_map_bool(&call->args, "inactive", false) ? MOVE_INACTIVE : 0;
    if (gw_map_bool(&call->args, "dry_run", false)) {
        travel_foresee(n, call, a, false);
        return;
    }
    const char *key = gw_map_str(&call->args, "key", NULL);
    uint8_t raw[REQUEST_KEY_BYTES];
    if (request_key_check(key, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    if (key) {
        request_key_of(key, raw);
        if (is_repeat(n, call, a, raw)) {
            return;
        }
    }
    if (!move_out_of(a) && (agent_is_changing(a) || a->intent || files_are_coming(a))) {
        call_again_later(n, call); /* what it is about to do or become comes first */
    } else if (travel_pick(n, call, false, &to, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (to->self) {
        if (agent_check_free(n, a, &why) == GW_OK) {
            answer_place(call, &a->id, n->name, a->epoch, NULL); /* it is there */
        } else {
            op_fail(call, &why);
        }
    } else if (move_out_begin(n, a, to, flags, NULL, dispatched, call, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (key && move_out_of(a)) {
        move_out_of(a)->has_key = true;
        memcpy(move_out_of(a)->key, raw, sizeof raw);
    }
}

static void dispatch_local(struct node *n, struct op_call *call, struct agent *a)
{
    travel_local(n, call, a, 0);
}

static void retract_local(struct node *n, struct op_call *call, struct agent *a)
{
    travel_local(n, call, a, MOVE_RETRACT);
}

void op_dispatch(struct node *n, struct op_call *call)
{
    route_call(n, call, dispatch_local);
}

void op_retract(struct node *n, struct op_call *call)
{
    char self[HOST_ID_TEXT];
    struct gw_error why;
    if (!gw_map_str(&call->args, "to", NULL) && !call_is_hop(call) &&
        gw_map_set(&call->args, "to", gw_str(host_id_text(&n->self->id, self))) != GW_OK) {
        gw_fail(&why, GW_ENOMEM, "out of memory");
        op_fail(call, &why);
        return;
    }
    route_call(n, call,
               retract_local); /* whoever has it sends it to the host that was asked first */
}

/* ---- dry run ---- */

/* The handler of the last look still runs. */
static bool same_handler(struct op_call *call, const struct agent *a)
{
    const struct work *w = a->live ? a->live->current : NULL;
    if (!w && a->live && a->live->suspended) {
        w = a->live->suspended;
    } else if (!w && a->live) {
        w = TAILQ_FIRST(&a->live->committing);
    }
    int64_t seen = gw_map_int(&call->context, "seen", 0), now = w ? (int64_t)w->stream : 0;
    return w && (seen == 0 || now == seen) &&
           gw_map_set(&call->context, "seen", gw_int(now)) == GW_OK;
}

/* Look again a little later: a move would wait for a handler as long as this does. */
static bool foresee_later(struct node *n, struct op_call *call, struct agent *a)
{
    int64_t now_us = n->env->mono_us(n->env->ctx);
    int64_t since_us = gw_map_int(&call->context, "since", now_us);
    return !move_out_of(a) && a->status != AGENT_QUARANTINED &&
           (agent_is_changing(a) || a->intent || same_handler(call, a)) &&
           now_us - since_us < HANDOFF_FREEZE_MS * 1000LL &&
           gw_map_set(&call->context, "since", gw_int(since_us)) == GW_OK;
}

static gw_err foresee(struct node *n, struct op_call *call, struct agent *a, bool clone,
                      struct peer **ret_to, struct gw_error *why)
{
    const struct runner *r = a->type->runner;
    GW_TRY(travel_pick(n, call, clone, ret_to, why));
    GW_TRY(agent_check_free(n, a, why));
    GW_TRY(clone ? builtin_check_single(n, a, why) : builtin_check_travel(n, a, why));
    if ((*ret_to)->self && !clone) {
        return gw_fail(why, GW_EEXISTS, "the agent is on host \"%s\" already", n->name);
    }
    if (a->status == AGENT_ACTIVE && (!r || !runner_usable(r))) {
        return gw_fail(why, GW_ECRASHED, "the runner of type \"%s\" is not up", a->type->name);
    }
    if ((*ret_to)->self && clone) {
        GW_TRY(agents_room(n, 0, why));
    }
    if (!(*ret_to)->self) {
        GW_TRY(move_out_check(n, a, *ret_to, clone, why));
    }
    if (!clone && a->intent) {
        return gw_fail(why, GW_ECONFLICT, "the agent is about to do what it asked about itself");
    }
    if (!(*ret_to)->self && same_handler(call, a)) {
        return gw_fail(why, GW_EBUSY, "a handler of the agent has been running for %d ms and more",
                       HANDOFF_FREEZE_MS);
    }
    return GW_OK;
}

void travel_foresee(struct node *n, struct op_call *call, struct agent *a, bool clone)
{
    struct gw_error why = {0};
    struct peer *to = NULL;
    char id[GW_ID_TEXT];
    gw_value result = gw_nil();
    if (foresee_later(n, call, a)) {
        call_again_later(n, call);
        return;
    }
    gw_err err = foresee(n, call, a, clone, &to, &why);
    if (err == GW_EARG) {
        op_fail(call, &why);
        return;
    }
    const struct {
        const char *key;
        gw_value value;
    } rows[] = {
        {"agent", gw_str(gw_id_text(&a->id, id))},
        {"host", to ? gw_str(peer_label(to)) : gw_nil()},
        {"epoch", gw_int((int64_t)a->epoch)},
        {"dry_run", gw_bool(true)},
        {"possible", gw_bool(err == GW_OK)},
        {"code", err == GW_OK ? gw_nil() : gw_str(gw_err_name(err))},
        {"reason", err == GW_OK ? gw_nil() : gw_str(why.text)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (gw_map_set(&result, rows[i].key, rows[i].value) != GW_OK) {
            log_warn("memory", "the answer of a dry run is not whole");
        }
    }
    op_ok(call, &result);
}

/* Long work that saves, asks in between, alone and many at once, while messages come in. */
#include <godwit/agent.h>

struct miner {
    int64_t step, steps, count;
    gw_id whom; /* asked in each step; nil: nobody */
    gw_strs log;
};

static const struct gw_field fields[] = {
    GW_FIELD(struct miner, step), GW_FIELD(struct miner, steps), GW_FIELD(struct miner, count),
    GW_FIELD(struct miner, whom), GW_FIELD(struct miner, log),
};

static gw_err consult(struct gw_call *call, gw_id whom)
{
    gw_value reply;
    GW_TRY(gw_ask(call, whom, "get", gw_nil(), &reply));
    gw_value_free(&reply);
    return GW_OK;
}

static gw_err consult_many(struct gw_call *call, gw_id whom)
{
    struct gw_future *futures[3];
    for (size_t i = 0; i < 3; i++) {
        GW_TRY(gw_ask_async(call, whom, "get", gw_nil(), &futures[i]));
    }
    return gw_wait_all(call, futures, 3, GW_FOREVER);
}

static gw_err run(struct gw_call *call)
{
    struct miner *m = gw_state(call);
    while (m->step < m->steps) {
        m->step++;
        GW_TRY(gw_strs_addf(&m->log, "%lld", (long long)m->step));
        if (!gw_id_is_nil(&m->whom)) {
            GW_TRY(m->step % 3 == 0 ? consult_many(call, m->whom) : consult(call, m->whom));
        }
        if (m->step % 5 == 0) {
            gw_log(call, GW_LOG_INFO, "step %lld", (long long)m->step);
        }
        GW_TRY(gw_save(call));
    }
    return GW_OK;
}

static gw_err add(struct gw_call *call)
{
    struct miner *m = gw_state(call);
    m->count++;
    return gw_reply_int(call, "count", m->count);
}

static gw_err ask(struct gw_call *call)
{
    struct miner *m = gw_state(call);
    GW_TRY(consult(call, gw_arg_id(call, "whom")));
    m->count++;
    return GW_OK;
}

static gw_err spoil(struct gw_call *call)
{
    struct miner *m = gw_state(call);
    m->count = m->step = 1000;
    return gw_call_fail(call, GW_EREFUSED, "spoilt on purpose");
}

static gw_err look(struct gw_call *call)
{
    const struct miner *m = gw_state(call);
    GW_TRY(gw_reply_int(call, "step", m->step));
    GW_TRY(gw_reply_int(call, "logged", (int64_t)m->log.len));
    return gw_reply_int(call, "count", m->count);
}

static const struct gw_method methods[] = {
    {"add() -> (count: int)", add, 0},
    {"ask(whom: agent)", ask, 0},
    {"spoil()", spoil, 0},
    {"look() -> (step: int, logged: int, count: int)", look, GW_READ},
};

GW_AGENT(miner, struct miner, GW_FIELDS(fields), GW_METHODS(methods), .run = run);

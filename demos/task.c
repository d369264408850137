/* A long task in short steps: `godwit create sum`, `send … start to=1000000`, then `status`,
 * `wait`, `cancel`. Between two steps it answers, sleeps and travels. */
#include <godwit/pattern.h>

struct sum {
    struct gw_task task;
    int64_t at, to, total;
};
static const struct gw_field fields[] = {
    GW_STRUCT(struct sum, task, gw_task_fields),
    GW_FIELD(struct sum, at),
    GW_FIELD(struct sum, to),
    GW_FIELD(struct sum, total),
};

static gw_err start(struct gw_call *call)
{
    struct sum *s = gw_state(call);
    GW_TRY(gw_task_start(call, &s->task));
    s->at = s->total = 0;
    s->to = gw_arg_int(call, "to");
    return GW_OK;
}

static gw_err on_timer(struct gw_call *call)
{
    struct sum *s = gw_state(call);
    if (!gw_task_due(call, &s->task)) {
        return GW_OK;
    }
    int64_t step = s->to / 20 > 1000 ? s->to / 20 : 1000;
    for (int64_t end = s->at + step; s->at < end && s->at < s->to;) {
        if (gw_add(&s->total, ++s->at) != GW_OK) {
            return gw_task_fail(call, &s->task, "the sum of 1 to %lld does not fit",
                                (long long)s->to);
        }
    }
    if (s->at >= s->to) {
        return gw_task_end(call, &s->task, gw_int(s->total));
    }
    GW_TRY(gw_task_progress(&s->task, (double)s->at / (double)s->to, "at %lld", (long long)s->at));
    return gw_task_go_on(call, &s->task, 50);
}

static gw_err status(struct gw_call *call)
{
    const struct sum *s = gw_state(call);
    return gw_task_status(call, &s->task);
}

static gw_err await(struct gw_call *call)
{
    struct sum *s = gw_state(call);
    return gw_task_wait(call, &s->task);
}

static gw_err cancel(struct gw_call *call)
{
    struct sum *s = gw_state(call);
    return gw_task_cancel(call, &s->task);
}

static const struct gw_method methods[] = {
    {"start(to: int[0..])", start},
    {"status() -> " GW_TASK_REPLY, status, GW_READ},
    {"wait() -> " GW_TASK_REPLY, await},
    {"cancel()", cancel},
};
GW_AGENT(sum, struct sum, GW_FIELDS(fields), GW_METHODS(methods), .on_timer = on_timer);

/* Asks whose answer is waited for later. A future belongs to the call of its handler and lives as
 * long, so that a list of futures may be waited on again and again; what was taken is passed over.
 */
#include "agents/sdk/call.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/value.h"

struct gw_future {
    STAILQ_ENTRY(gw_future) next;
    struct engine_ask *ask; /* NULL: the outcome was taken */
};

void futures_init(struct gw_call *call)
{
    STAILQ_INIT(&call->futures);
}

static void close_ask(struct gw_call *call, struct gw_future *f)
{
    if (f->ask) {
        call->io->drop(call->io_ctx, f->ask);
        f->ask = NULL;
        call->futures_open--;
    }
}

void futures_deinit(struct gw_call *call)
{
    struct gw_future *f;
    while ((f = STAILQ_FIRST(&call->futures))) {
        STAILQ_REMOVE_HEAD(&call->futures, next);
        close_ask(call, f);
        free(f);
    }
}

static gw_err start(struct gw_call *call, const char *op, const gw_value *args,
                    const gw_value *context, struct gw_future **ret)
{
    struct gw_future *f = calloc(1, sizeof *f);
    if (!f) {
        return gw_call_fail(call, GW_ENOMEM, "out of memory for an ask");
    }
    call->why = (struct gw_error){0};
    gw_err err = call->io->start(call->io_ctx, op, args, context, false, &f->ask, &call->why);
    if (err != GW_OK) {
        free(f);
        return verbs_outcome(call, op, err);
    }
    STAILQ_INSERT_TAIL(&call->futures, f, next);
    call->futures_open++;
    *ret = f;
    return GW_OK;
}

gw_err future_begin(struct gw_call *call, const char *op, const gw_id *target, int64_t deadline_ms,
                    gw_value args, struct gw_future **ret_future)
{
    gw_value context = {0};
    gw_err err = GW_OK;
    bool keyed = strcmp(op, "dispose") != 0;
    if (call->futures_open >= LIMIT_ASKS_PER_HANDLER) {
        err = gw_call_fail(call, GW_EBUSY, "%d asks of this handler were not waited for",
                           LIMIT_ASKS_PER_HANDLER);
    }
    if (err == GW_OK) {
        err = verbs_prepare(call, op, target, keyed, deadline_ms, &args, &context);
    }
    if (err == GW_OK) {
        err = start(call, op, &args, &context, ret_future);
    }
    gw_value_free(&args);
    gw_value_free(&context);
    return err;
}

gw_err gw_ask_async(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                    struct gw_future **ret_future)
{
    return gw_ask_async_with(call, agent, method, args, NULL, ret_future);
}

gw_err gw_ask_async_with(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                         const struct gw_message_options *options, struct gw_future **ret_future)
{
    gw_value map;
    GW_TRY(verbs_message(call, verbs_agent_text(&agent), method, args, &map));
    gw_err err = verbs_add_options(call, options, &map);
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return future_begin(call, "send", &agent, options ? options->deadline_ms : 0, map, ret_future);
}

gw_err gw_create_async(struct gw_call *call, const char *type, gw_value state, const char *where,
                       struct gw_future **ret_future)
{
    gw_value map;
    GW_TRY(verbs_creation(call, type, state, where, &map));
    return future_begin(call, "create", NULL, 0, map, ret_future);
}

bool gw_future_done(struct gw_call *call, const struct gw_future *future)
{
    return !future->ask || call->io->answered(call->io_ctx, future->ask);
}

static gw_err await(struct gw_call *call, struct engine_ask *const *asks, size_t n, bool all,
                    int64_t timeout_ms)
{
    call->why = (struct gw_error){0};
    gw_err err = call->io->wait(call->io_ctx, asks, n, all, timeout_ms, &call->why);
    if (err == GW_ETIMEOUT) {
        return gw_call_fail(call, err, "no answer within %lld ms", (long long)timeout_ms);
    }
    return verbs_outcome(call, "wait", err);
}

gw_err gw_wait(struct gw_call *call, struct gw_future *future, int64_t timeout_ms,
               gw_value *ret_reply)
{
    gw_value answer = {0};
    if (!future->ask) {
        return gw_call_fail(call, GW_ENOT_FOUND, "the answer of this ask was taken already");
    }
    GW_TRY(await(call, &future->ask, 1, false, timeout_ms));
    gw_err err = call->io->take(call->io_ctx, future->ask, &answer, &call->why);
    close_ask(call, future);
    GW_TRY(verbs_outcome(call, "send", err));
    answer = verbs_take_member(answer, "reply");
    if (ret_reply) {
        *ret_reply = answer;
    } else {
        gw_value_free(&answer);
    }
    return GW_OK;
}

/* Those that were not taken; the caller frees. */
static gw_err collect(struct gw_call *call, struct gw_future *const *futures, size_t n,
                      struct engine_ask ***ret, size_t *ret_n)
{
    struct engine_ask **asks = calloc(n + 1, sizeof *asks);
    size_t count = 0;
    if (!asks) {
        return gw_call_fail(call, GW_ENOMEM, "out of memory for %zu asks", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (futures[i] && futures[i]->ask) {
            asks[count++] = futures[i]->ask;
        }
    }
    *ret = asks;
    *ret_n = count;
    return GW_OK;
}

gw_err gw_wait_any(struct gw_call *call, struct gw_future *const *futures, size_t n,
                   int64_t timeout_ms, size_t *ret_index)
{
    struct engine_ask **asks = NULL;
    size_t count = 0;
    GW_TRY(collect(call, futures, n, &asks, &count));
    gw_err err = count > 0 ? await(call, asks, count, false, timeout_ms)
                           : gw_call_fail(call, GW_ENOT_FOUND, "there is no ask to wait for");
    free(asks);
    GW_TRY(err);
    uint64_t first = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t at =
            futures[i] && futures[i]->ask ? call->io->answered(call->io_ctx, futures[i]->ask) : 0;
        if (at > 0 && (first == 0 || at < first)) {
            first = at;
            *ret_index = i;
        }
    }
    gw_assert(first > 0);
    return GW_OK;
}

gw_err gw_wait_all(struct gw_call *call, struct gw_future *const *futures, size_t n,
                   int64_t timeout_ms)
{
    struct engine_ask **asks = NULL;
    size_t count = 0;
    GW_TRY(collect(call, futures, n, &asks, &count));
    gw_err err = count > 0 ? await(call, asks, count, true, timeout_ms) : GW_OK;
    free(asks);
    return err;
}

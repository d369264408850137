/* Pattern: one question to many agents, or to a fresh agent on each of many hosts
 * (godwit/pattern.h). Each ask has a number of its own, whatever comes in which order: a re-run of
 * the handler repeats the same keys. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agents/sdk/pattern.h"
#include "protocol/value.h"

gw_err pattern_put_error(gw_value *map, gw_err code, const char *text)
{
    GW_TRY(gw_map_set(map, "error", gw_str(gw_err_name(code))));
    return pattern_put_text(map, "text", text[0] ? text : gw_err_text(code));
}

void pattern_dispose(struct gw_call *call, const gw_id *agent)
{
    struct gw_future *nobody_waits;
    gw_value args = gw_nil();
    gw_err err = gw_map_set(&args, "agent", verbs_agent_text(agent));
    if (err == GW_OK) {
        err = future_begin(call, "dispose", NULL, 0, args, &nobody_waits);
    }
    if (err != GW_OK) {
        gw_log(call, GW_LOG_WARN, "an agent that is not needed any more stays: %s",
               gw_err_name(err));
    }
}

gw_err pattern_made(gw_value answer, gw_id *ret)
{
    const gw_value *v = gw_map_get(&answer, "agent");
    gw_err err = GW_OK;
    if (v && v->kind == GW_ID) {
        *ret = v->id;
    } else {
        err = v && v->kind == GW_STR ? gw_id_parse(v->s.p, ret) : GW_EPROTO;
    }
    gw_value_free(&answer);
    return err;
}

/* One who is asked. */
struct place {
    gw_value about;           /* map: what becomes its result */
    struct gw_future *future; /* what is under way; NULL = it is over */
    bool making;              /* ... the agent, not yet its answer */
    gw_id agent;
};

struct asking {
    struct gw_call *call;
    struct place *places;
    struct gw_future **futures;
    size_t n;
    const char *method;
    gw_value args;
    uint64_t base; /* number of the first ask */
    int64_t deadline_ms;
};

static int64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t left_ms(const struct asking *a)
{
    int64_t left = a->deadline_ms - mono_ms();
    return a->deadline_ms == INT64_MAX ? GW_FOREVER : left > 0 ? left : 0;
}

static gw_err failed(struct asking *a, struct place *p, gw_err err)
{
    p->future = NULL;
    return pattern_put_error(&p->about, err, gw_call_why(a->call)->text);
}

/* Ask the agent of a place; what goes wrong is its result. */
static gw_err ask_place(struct asking *a, struct place *p)
{
    gw_value args = gw_nil();
    GW_TRY(gw_value_copy(&a->args, &args));
    p->making = false;
    a->call->asks = a->base + a->n + (uint64_t)(p - a->places);
    gw_err err = gw_ask_async(a->call, p->agent, a->method, args, &p->future);
    return err == GW_OK ? GW_OK : failed(a, p, err);
}

/* What a place waited for is there. */
static gw_err go_on(struct asking *a, struct place *p)
{
    gw_value answer = gw_nil();
    gw_err err = gw_wait(a->call, p->future, 0, &answer);
    if (err == GW_OK && p->making) {
        err = pattern_made(answer, &p->agent);
        return err == GW_OK ? ask_place(a, p) : failed(a, p, err);
    }
    if (err != GW_OK) {
        return failed(a, p, err);
    }
    p->future = NULL;
    return gw_map_set(&p->about, "reply", answer);
}

static gw_err collect(struct asking *a)
{
    for (;;) {
        size_t index;
        for (size_t i = 0; i < a->n; i++) {
            a->futures[i] = a->places[i].future;
        }
        gw_err err = gw_wait_any(a->call, a->futures, a->n, left_ms(a), &index);
        if (err == GW_ENOT_FOUND || err == GW_ETIMEOUT) {
            return GW_OK;
        }
        GW_TRY(err);
        GW_TRY(go_on(a, &a->places[index]));
    }
}

/* The list of results; who is still silent has timed out. */
static gw_err results(struct asking *a, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < a->n; i++) {
        struct place *p = &a->places[i];
        if (p->future) {
            err = pattern_put_error(&p->about, GW_ETIMEOUT, "no answer in time");
        }
        if (err == GW_OK) {
            err = gw_list_add(&list, p->about);
            p->about = gw_nil();
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

static gw_err asking_init(struct asking *a, struct gw_call *call, size_t n, const char *method,
                          gw_value args, int64_t timeout_ms)
{
    *a = (struct asking){.call = call, .n = n, .method = method, .args = args, .base = call->asks};
    a->deadline_ms = timeout_ms < 0 ? INT64_MAX : mono_ms() + timeout_ms;
    a->places = calloc(n + 1, sizeof *a->places);
    a->futures = calloc(n + 1, sizeof(struct gw_future *));
    if (!a->places || !a->futures) {
        return gw_call_fail(call, GW_ENOMEM, "out of memory for %zu asks", n);
    }
    return GW_OK;
}

static void asking_deinit(struct asking *a)
{
    a->call->asks = a->base + 3 * a->n;
    for (size_t i = 0; a->places && i < a->n; i++) {
        gw_value_free(&a->places[i].about);
    }
    free(a->places);
    free(a->futures);
    gw_value_free(&a->args);
}

gw_err gw_ask_many(struct gw_call *call, const gw_id *agents, size_t n, const char *method,
                   gw_value args, int64_t timeout_ms, gw_value *ret_results)
{
    struct asking a;
    gw_err err = asking_init(&a, call, n, method, args, timeout_ms);
    if (err == GW_OK && n > LIMIT_ASKS_PER_HANDLER) {
        err = gw_call_fail(call, GW_EARG, "more than %d agents at once", LIMIT_ASKS_PER_HANDLER);
    }
    for (size_t i = 0; err == GW_OK && i < n; i++) {
        a.places[i].agent = agents[i];
        err = gw_map_set(&a.places[i].about, "agent", gw_id_value(&agents[i]));
        err = err == GW_OK ? ask_place(&a, &a.places[i]) : err;
    }
    if (err == GW_OK) {
        err = collect(&a);
    }
    if (err == GW_OK) {
        err = results(&a, ret_results);
    }
    asking_deinit(&a);
    return err;
}

/* ---- on hosts ---- */

static bool wanted(const gw_value *host, const char *tag)
{
    const gw_value *tags = gw_map_get(host, "tags");
    bool has = !tag;
    for (size_t i = 0; tag && tags && tags->kind == GW_LIST && i < tags->list.n; i++) {
        has = has || strcmp(tags->list.items[i].s.p, tag) == 0;
    }
    return has && strcmp(gw_map_str(host, "state", ""), "alive") == 0;
}

static gw_err make(struct asking *a, struct place *p, const char *type, const char *host)
{
    GW_TRY(pattern_put_text(&p->about, "host", host));
    p->making = true;
    a->call->asks = a->base + (uint64_t)(p - a->places);
    gw_err err = gw_create_async(a->call, type, gw_nil(), host, &p->future);
    return err == GW_OK ? GW_OK : failed(a, p, err);
}

gw_err gw_ask_hosts(struct gw_call *call, const char *tag, const char *type, const char *method,
                    gw_value args, int64_t timeout_ms, gw_value *ret_results)
{
    gw_value hosts = gw_nil();
    struct asking a;
    gw_err err = gw_hosts(call, &hosts);
    size_t n = hosts.kind == GW_LIST ? hosts.list.n : 0, used = 0;
    gw_err begun = asking_init(&a, call, n, method, args, timeout_ms);
    err = err == GW_OK ? begun : err;
    for (size_t i = 0; err == GW_OK && i < n && used < LIMIT_ASKS_PER_HANDLER / 2; i++) {
        if (wanted(&hosts.list.items[i], tag)) {
            const char *name = gw_map_str(&hosts.list.items[i], "name", "");
            err = make(&a, &a.places[used++], type, name);
        }
    }
    a.n = used;
    if (err == GW_OK) {
        err = collect(&a);
    }
    for (size_t i = 0; a.places && i < used; i++) {
        if (!gw_id_is_nil(&a.places[i].agent)) {
            a.call->asks = a.base + 2 * n + i;
            pattern_dispose(call, &a.places[i].agent);
        }
    }
    if (err == GW_OK) {
        err = results(&a, ret_results);
    }
    asking_deinit(&a);
    gw_value_free(&hosts);
    return err;
}

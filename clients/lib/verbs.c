/* The usual calls as functions: each builds the map of arguments and calls. */
#include <godwit/client.h>

#include <string.h>

#include "protocol/base/buf.h"

/* A host that is told the time-out knows better why it was missed: give its answer time to arrive.
 */
#define HOST_FIRST_MS 250

/* Arguments are put together in sequence; the first failure (out of memory) sticks. */
struct args {
    gw_value map;
    gw_err err;
};

static void args_free(struct args *a)
{
    gw_value_free(&a->map);
}

static void add(struct args *a, const char *key, gw_value value)
{
    if (a->err == GW_OK) {
        a->err = gw_map_set(&a->map, key, value);
    } else {
        gw_value_free(&value);
    }
}

static void add_text(struct args *a, const char *key, const char *text)
{
    gw_value value = gw_nil();
    if (text && a->err == GW_OK) {
        a->err = gw_value_set_str(&value, text, strlen(text));
        add(a, key, value);
    }
}

static void add_copy(struct args *a, const char *key, const gw_value *v)
{
    gw_value copy = gw_nil();
    if (v && a->err == GW_OK) {
        a->err = gw_value_copy(v, &copy);
        add(a, key, copy);
    }
}

static void add_texts(struct args *a, const char *key, const gw_strs *texts)
{
    gw_value list = gw_nil();
    for (size_t i = 0; texts && i < texts->len && a->err == GW_OK; i++) {
        a->err = gw_list_add(&list, gw_str(texts->items[i]));
    }
    if (list.kind == GW_LIST) {
        add(a, key, list);
    }
}

static void add_flag(struct args *a, const char *key, bool on)
{
    if (on) {
        add(a, key, gw_bool(true));
    }
}

/* The host shall give up when nobody waits any more. */
static void add_timeout(struct args *a, int64_t timeout_ms)
{
    if (timeout_ms >= 0) {
        add(a, "timeout", gw_int(timeout_ms));
    }
}

static gw_err call(struct gw_client *client, const char *op, struct args *a, int64_t timeout_ms,
                   gw_value *ret, struct gw_error *why)
{
    if (a->err != GW_OK) {
        return gw_fail(why, a->err, "out of memory for the arguments of \"%s\"", op);
    }
    if (timeout_ms >= 0 && timeout_ms < INT64_MAX - HOST_FIRST_MS &&
        gw_map_get(&a->map, "timeout")) {
        timeout_ms += HOST_FIRST_MS;
    }
    return gw_client_call(client, op, &a->map, timeout_ms, ret, why);
}

gw_err gw_client_create(struct gw_client *client, const char *type,
                        const struct gw_create_options *options, int64_t timeout_ms, gw_value *ret,
                        struct gw_error *why)
{
    static const struct gw_create_options none;
    const struct gw_create_options *o = options ? options : &none;
    GW_AUTO(args_free) struct args a = {0};
    add_text(&a, "type", type);
    add_copy(&a, "state", o->state);
    add_text(&a, "at", o->at);
    add_text(&a, "alias", o->alias);
    add_text(&a, "key", o->key);
    add_flag(&a, "text", o->text);
    return call(client, "create", &a, timeout_ms, ret, why);
}

static void add_send(struct args *a, const char *agent, const char *method,
                     const struct gw_send_options *options, int64_t timeout_ms)
{
    static const struct gw_send_options none;
    const struct gw_send_options *o = options ? options : &none;
    add_text(a, "agent", agent);
    add_text(a, "method", method);
    add_copy(a, "args", o->args);
    add_flag(a, "tell", o->tell);
    add_flag(a, "no_wake", o->no_wake);
    if (o->priority) {
        add(a, "priority", gw_int(o->priority));
    }
    add_text(a, "key", o->key);
    add_timeout(a, timeout_ms);
    add_flag(a, "text", o->text);
}

gw_err gw_client_send(struct gw_client *client, const char *agent, const char *method,
                      const struct gw_send_options *options, int64_t timeout_ms, gw_value *ret,
                      struct gw_error *why)
{
    GW_AUTO(args_free) struct args a = {0};
    add_send(&a, agent, method, options, timeout_ms);
    return call(client, "send", &a, timeout_ms, ret, why);
}

gw_err gw_client_ask_async(struct gw_client *client, const char *agent, const char *method,
                           const struct gw_send_options *options, int64_t timeout_ms,
                           gw_ticket *ret, struct gw_error *why)
{
    GW_AUTO(args_free) struct args a = {0};
    add_send(&a, agent, method, options, timeout_ms);
    if (a.err != GW_OK) {
        return gw_fail(why, a.err, "out of memory for the arguments of \"send\"");
    }
    return gw_client_start(client, "send", &a.map, ret, why);
}

static gw_err move(struct gw_client *client, const char *op, const char *agent, const char *to,
                   const struct gw_move_options *options, int64_t timeout_ms, gw_value *ret,
                   struct gw_error *why)
{
    static const struct gw_move_options none;
    const struct gw_move_options *o = options ? options : &none;
    GW_AUTO(args_free) struct args a = {0};
    add_text(&a, "agent", agent);
    add_text(&a, "to", to);
    add_flag(&a, "inactive", o->inactive);
    add_texts(&a, "require", o->require);
    add_flag(&a, "dry_run", o->dry_run);
    add_text(&a, "key", o->key);
    add_timeout(&a, timeout_ms);
    return call(client, op, &a, timeout_ms, ret, why);
}

gw_err gw_client_dispatch(struct gw_client *client, const char *agent, const char *to,
                          const struct gw_move_options *options, int64_t timeout_ms, gw_value *ret,
                          struct gw_error *why)
{
    return move(client, "dispatch", agent, to, options, timeout_ms, ret, why);
}

gw_err gw_client_retract(struct gw_client *client, const char *agent, const char *to,
                         const struct gw_move_options *options, int64_t timeout_ms, gw_value *ret,
                         struct gw_error *why)
{
    return move(client, "retract", agent, to, options, timeout_ms, ret, why);
}

gw_err gw_client_clone(struct gw_client *client, const char *agent, const char *to,
                       const struct gw_move_options *options, int64_t timeout_ms, gw_value *ret,
                       struct gw_error *why)
{
    return move(client, "clone", agent, to, options, timeout_ms, ret, why);
}

gw_err gw_client_deactivate(struct gw_client *client, const char *agent,
                            const struct gw_sleep_options *o, int64_t timeout_ms, gw_value *ret,
                            struct gw_error *why)
{
    GW_AUTO(args_free) struct args a = {0};
    add_text(&a, "agent", agent);
    if (o && (o->no_wake_on_message || o->wake_on_message)) {
        add(&a, "wake_on_message", gw_bool(o->wake_on_message));
    }
    if (o && o->wake_after_ms > 0) {
        add(&a, "wake_after", gw_int(o->wake_after_ms));
    }
    if (o && o->wake_at.ms > 0) {
        add(&a, "wake_at", gw_time_value(o->wake_at));
    }
    if (o && o->at_start) {
        add(&a, "at_start", gw_bool(true));
    }
    return call(client, "deactivate", &a, timeout_ms, ret, why);
}

static gw_err call_agent(struct gw_client *client, const char *op, const char *agent,
                         int64_t timeout_ms, gw_value *ret, struct gw_error *why)
{
    GW_AUTO(args_free) struct args a = {0};
    add_text(&a, "agent", agent);
    return call(client, op, &a, timeout_ms, ret, why);
}

gw_err gw_client_activate(struct gw_client *client, const char *agent, int64_t timeout_ms,
                          gw_value *ret, struct gw_error *why)
{
    return call_agent(client, "activate", agent, timeout_ms, ret, why);
}

gw_err gw_client_dispose(struct gw_client *client, const char *agent, int64_t timeout_ms,
                         gw_value *ret, struct gw_error *why)
{
    return call_agent(client, "dispose", agent, timeout_ms, ret, why);
}

gw_err gw_client_show(struct gw_client *client, const char *agent, int64_t timeout_ms,
                      gw_value *ret, struct gw_error *why)
{
    return call_agent(client, "show", agent, timeout_ms, ret, why);
}

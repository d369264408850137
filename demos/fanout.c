/* One question to all hosts at once: `godwit create poll`, `send … uptime`. Who does not answer in
 * time is named; the others' answers are there all the same. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <godwit/pattern.h>

/* ---- the one that is asked, on each host ---- */

struct probe {
    bool asked;
};
static const struct gw_field probe_fields[] = {GW_FIELD(struct probe, asked)};

static gw_err uptime(struct gw_call *call)
{
    struct timespec t;
    if (clock_gettime(CLOCK_BOOTTIME, &t) != 0) {
        return gw_call_fail(call, GW_EIO, "this machine has no clock that counts from its start");
    }
    return gw_reply_int(call, "seconds", t.tv_sec);
}

/* To see what a host that is slow does. */
static gw_err nap(struct gw_call *call)
{
    if (strcmp(gw_host_name(call), gw_arg_str(call, "host")) == 0) {
        usleep((useconds_t)gw_arg_int(call, "time") * 1000);
    }
    return gw_reply_int(call, "seconds", 0);
}

static const struct gw_method probe_methods[] = {
    {"uptime() -> (seconds: int)", uptime},
    {"nap(host: string, time: duration) -> (seconds: int)", nap},
};
GW_AGENT(probe, struct probe, GW_FIELDS(probe_fields), GW_METHODS(probe_methods));

/* ---- the one that asks ---- */

struct poll {
    int64_t polls;
};
static const struct gw_field fields[] = {GW_FIELD(struct poll, polls)};

static gw_err ask(struct gw_call *call, const char *method, gw_value args, int64_t timeout_ms)
{
    struct poll *p = gw_state(call);
    gw_value results;
    const char *tag = gw_has_arg(call, "tag") ? gw_arg_str(call, "tag") : NULL;
    GW_TRY(gw_ask_hosts(call, tag, "probe", method, args, timeout_ms, &results));
    GW_TRY(gw_reply_value(call, "hosts", results));
    return gw_add(&p->polls, 1);
}

static gw_err uptimes(struct gw_call *call)
{
    return ask(call, "uptime", gw_nil(), gw_arg_int(call, "timeout"));
}

static gw_err naps(struct gw_call *call)
{
    gw_value args = gw_nil(), host = gw_nil();
    const char *name = gw_arg_str(call, "host");
    GW_TRY(gw_value_set_str(&host, name, strlen(name)));
    GW_TRY(gw_map_set(&args, "host", host));
    GW_TRY(gw_map_set(&args, "time", gw_int(gw_arg_int(call, "time"))));
    return ask(call, "nap", args, gw_arg_int(call, "timeout"));
}

static const struct gw_method methods[] = {
    {"uptime(tag: string?, timeout: duration = 5s) -> (hosts: [any])", uptimes},
    {"nap(host: string, time: duration, tag: string?, timeout: duration = 1s) -> (hosts: [any])",
     naps},
};
GW_AGENT(poll, struct poll, GW_FIELDS(fields), GW_METHODS(methods));

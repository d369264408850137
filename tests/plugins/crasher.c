/* An agent that misbehaves on demand. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <godwit/agent.h>

struct crasher {
    int64_t count;
    gw_bytes data;
};

static const struct gw_field fields[] = {
    GW_FIELD(struct crasher, count),
    GW_FIELD(struct crasher, data),
};

static gw_err bump(struct gw_call *call)
{
    struct crasher *c = gw_state(call);
    c->count++;
    return gw_reply_int(call, "count", c->count);
}

static gw_err get(struct gw_call *call)
{
    struct crasher *c = gw_state(call);
    GW_TRY(gw_reply_int(call, "count", c->count));
    return gw_reply_int(call, "bytes", (int64_t)c->data.len);
}

/* Takes the whole runner with it, having changed the state in memory. */
static gw_err crash(struct gw_call *call)
{
    struct crasher *c = gw_state(call);
    c->count += 1000;
    gw_log(call, GW_LOG_WARN, "crashing on demand");
    signal(SIGABRT, SIG_DFL);
    abort();
}

static gw_err leave(struct gw_call *call)
{
    _exit((int)gw_arg_int(call, "code"));
}

static gw_err hang(struct gw_call *call)
{
    for (int64_t left = gw_arg_int(call, "ms"); left > 0; left -= 10) {
        usleep(10000);
    }
    return GW_OK;
}

static gw_err fail(struct gw_call *call)
{
    struct crasher *c = gw_state(call);
    c->count += 1000; /* must not be seen by anybody */
    return gw_call_fail(call, GW_EREFUSED, "%s", gw_arg_str(call, "text"));
}

static gw_err grow(struct gw_call *call)
{
    struct crasher *c = gw_state(call);
    int64_t more = gw_arg_int(call, "bytes");
    uint8_t *data = realloc(c->data.data, c->data.len + (size_t)more + 1);
    if (!data) {
        return GW_ENOMEM;
    }
    memset(data + c->data.len, 'g', (size_t)more);
    c->data.data = data;
    c->data.len += (size_t)more;
    return gw_reply_int(call, "bytes", (int64_t)c->data.len);
}

/* Takes memory for ever, as careless code does. */
static gw_err swell(struct gw_call *call)
{
    (void)call;
    for (;;) {
        volatile char *p = malloc(1 << 20);
        for (size_t i = 0; i < 1 << 20; i += 4096) {
            p[i] = 's';
        }
    }
    return GW_OK;
}

static gw_err bad_reply(struct gw_call *call)
{
    return gw_reply_str(call, "count", "not a number");
}

static const struct gw_method methods[] = {
    {"bump() -> (count: int)", bump},
    {"get() -> (count: int, bytes: int)", get, GW_READ},
    {"crash()", crash},
    {"leave(code: int[0..255] = 0)", leave},
    {"hang(ms: int[0..] = 3600000)", hang},
    {"fail(text: string = \"as asked for\")", fail},
    {"grow(bytes: int[0..1000000000]) -> (bytes: int)", grow},
    {"swell()", swell},
    {"bad_reply() -> (count: int)", bad_reply},
};

GW_AGENT(crasher, struct crasher, GW_FIELDS(fields), GW_METHODS(methods));
/* The same, given up after three crashes. */
GW_AGENT(brittle, struct crasher, GW_FIELDS(fields), GW_METHODS(methods), .quarantine_after = 3);

/* What the table of failpoints is tried on (tests/failpoints): an agent that counts whatever
 * reaches it, so that a message, a firing, a publication, a down too many or too few shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <godwit/agent.h>

#ifndef GUEST_VERSION
#define GUEST_VERSION 1 /* subject_v2.c has 2 */
#endif

struct subject {
    int64_t heard, last, wrong; /* messages; the number heard last; of them: not last + 1 */
    int64_t ticks, topics, downs, arrivals;
    bool stays; /* it does not want to leave */
    gw_id waiting;
    gw_bytes pad;
};
static const struct gw_field subject_fields[] = {
    GW_FIELD(struct subject, heard),    GW_FIELD(struct subject, last),
    GW_FIELD(struct subject, wrong),    GW_FIELD(struct subject, ticks),
    GW_FIELD(struct subject, topics),   GW_FIELD(struct subject, downs),
    GW_FIELD(struct subject, arrivals), GW_FIELD(struct subject, stays),
    GW_FIELD(struct subject, waiting),  GW_FIELD(struct subject, pad),
};

static gw_err hear(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    s->wrong += gw_arg_int(call, "n") != s->last + 1;
    s->last = gw_arg_int(call, "n");
    s->heard++;
    return gw_reply_int(call, "heard", s->heard);
}

static gw_err fill(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    size_t len = (size_t)gw_arg_int(call, "kib") * 1024;
    uint8_t *data = malloc(len);
    if (!data) {
        return GW_ENOMEM;
    }
    memset(data, (int)gw_arg_int(call, "with"), len);
    free(s->pad.data);
    s->pad = (gw_bytes){data, len};
    return GW_OK;
}

static gw_err say(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "n", gw_int(gw_arg_int(call, "n"))));
    return gw_tell(call, gw_arg_id(call, "to"), "hear", args);
}

static gw_err beat(struct gw_call *call)
{
    return gw_timer(call, "beat", gw_arg_int(call, "ms"), gw_nil());
}

static gw_err on_timer(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    s->ticks++;
    return GW_OK;
}

static gw_err listen(struct gw_call *call)
{
    return gw_subscribe(call, gw_arg_str(call, "topic"), GW_SCOPE_MESH);
}

static gw_err on_topic(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    s->topics++;
    return GW_OK;
}

static gw_err watch(struct gw_call *call)
{
    struct gw_monitor what = {.agent = gw_arg_id(call, "whom"), .lost_ms = GW_NEVER};
    return gw_monitor_with(call, &what, NULL);
}

static gw_err on_down(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    s->downs++;
    return GW_OK;
}

static gw_err enter(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    return gw_reply_later(call, &s->waiting);
}

static gw_err let_in(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    gw_id token = s->waiting;
    gw_value reply = gw_nil();
    s->waiting = (gw_id){{0}};
    GW_TRY(gw_map_set(&reply, "in", gw_bool(true)));
    return gw_answer(call, token, reply);
}

static gw_err stay(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    s->stays = gw_arg_bool(call, "on");
    return GW_OK;
}

static gw_err on_dispatch(struct gw_call *call)
{
    const struct subject *s = gw_state(call);
    return s->stays ? gw_call_fail(call, GW_EREFUSED, "it stays") : GW_OK;
}

/* A file beside the work folders of its host, to go along. */
static gw_err carry(struct gw_call *call)
{
    const char *folder;
    char path[4096], id[GW_ID_TEXT];
    gw_id self = gw_self(call);
    GW_TRY(gw_work_dir(call, &folder));
    int n = snprintf(path, sizeof path, "%s", folder);
    for (int parts = 0; n > 0 && parts < 2; n--) {
        parts += path[n] == '/';
    }
    snprintf(path + n + 1, sizeof path - (size_t)n - 1, "/load-%s", gw_id_text(&self, id));
    FILE *f = fopen(path, "w");
    if (!f) {
        return gw_call_fail(call, GW_EIO, "cannot write \"%s\"", path);
    }
    for (int64_t i = 0; i < gw_arg_int(call, "bytes"); i++) {
        (void)fputc((int)(i * 7 % 251), f);
    }
    return fclose(f) == 0 ? gw_file(call, path, "load", GW_MOVE)
                          : gw_call_fail(call, GW_EIO, "cannot write \"%s\"", path);
}

/* Bytes of that file; -1: it has none, or it is not where it should be. */
static int64_t load_of(struct gw_call *call)
{
    const char *path = gw_file_path(call, "load");
    struct stat st;
    return path && stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

static gw_err on_arrive(struct gw_call *call)
{
    struct subject *s = gw_state(call);
    s->arrivals++;
    s->wrong += gw_file_path(call, "load") && load_of(call) < 0; /* it comes before this runs */
    return GW_OK;
}

static gw_err go(struct gw_call *call)
{
    return gw_dispatch(call, gw_arg_str(call, "to"));
}

static gw_err crash(struct gw_call *call)
{
    (void)call;
    _Exit(3);
}

static gw_err look(struct gw_call *call)
{
    const struct subject *s = gw_state(call);
    GW_TRY(gw_reply_int(call, "heard", s->heard));
    GW_TRY(gw_reply_int(call, "wrong", s->wrong));
    GW_TRY(gw_reply_int(call, "ticks", s->ticks));
    GW_TRY(gw_reply_int(call, "topics", s->topics));
    GW_TRY(gw_reply_int(call, "downs", s->downs));
    GW_TRY(gw_reply_int(call, "load", load_of(call)));
    GW_TRY(gw_reply_int(call, "pad", (int64_t)s->pad.len));
    return gw_reply_int(call, "arrivals", s->arrivals);
}

static const struct gw_method subject_methods[] = {
    {"hear(n: int) -> (heard: int)", hear},
    {"fill(kib: int[1..1024], with: int[0..255])", fill},
    {"say(to: agent, n: int)", say},
    {"beat(ms: int)", beat},
    {"listen(topic: string)", listen},
    {"on_topic()", on_topic},
    {"watch(whom: agent)", watch},
    {"carry(bytes: int)", carry},
    {"enter() -> (in: bool)", enter},
    {"let_in()", let_in},
    {"stay(on: bool)", stay},
    {"go(to: string)", go},
    {"crash()", crash},
    {"look() -> (heard: int, wrong: int, ticks: int, topics: int, downs: int, load: int, pad: int, "
     "arrivals: int)",
     look, GW_READ},
};
GW_AGENT(subject, struct subject, GW_FIELDS(subject_fields), GW_METHODS(subject_methods),
         .on_dispatch = on_dispatch, .on_arrive = on_arrive, .on_timer = on_timer,
         .on_down = on_down, .quarantine_after = 2, .quarantine_within_ms = 600000);

/* Hosts have it in two versions: it is offered before it moves. */
GW_AGENT(guest, struct subject, .version = GUEST_VERSION, GW_FIELDS(subject_fields),
         GW_METHODS(subject_methods), .on_arrive = on_arrive, .oldest_reader = 1);

/* Its state is written when it falls asleep, moves, or its host stops in order. */
GW_AGENT(saver, struct subject, GW_FIELDS(subject_fields), GW_METHODS(subject_methods),
         .durability = GW_TRANSITIONS);

struct digger {
    int64_t steps, done, heard, last, wrong;
};
static const struct gw_field digger_fields[] = {
    GW_FIELD(struct digger, steps), GW_FIELD(struct digger, done),  GW_FIELD(struct digger, heard),
    GW_FIELD(struct digger, last),  GW_FIELD(struct digger, wrong),
};

/* A step, then a save. */
static gw_err dig(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    while (d->done < d->steps) {
        struct timespec t = {.tv_nsec = 5000000};
        nanosleep(&t, NULL);
        d->done++;
        gw_err err = gw_save(call);
        if (err != GW_OK && err != GW_EDISK_FULL) { /* then it is as before, and tried again */
            return err;
        }
    }
    return GW_OK;
}

static gw_err depth(struct gw_call *call)
{
    const struct digger *d = gw_state(call);
    return gw_reply_int(call, "done", d->done);
}

static const struct gw_method digger_methods[] = {
    {"depth() -> (done: int)", depth, GW_READ},
};
GW_AGENT(digger, struct digger, GW_FIELDS(digger_fields), GW_METHODS(digger_methods), .run = dig);

/* An agent that writes down what it hears, says numbered things to others, and counts its timer:
 * for tests that ask whether everything arrived once and in order. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <godwit/agent.h>

struct voice { /* of one who speaks, by name */
    char *who;
    int64_t last;  /* number heard last */
    int64_t heard; /* how many */
    int64_t wrong; /* of them: not last + 1 */
};
static const struct gw_field voice_fields[] = {
    GW_FIELD(struct voice, who),
    GW_FIELD(struct voice, last),
    GW_FIELD(struct voice, heard),
    GW_FIELD(struct voice, wrong),
};

struct ledger {
    struct {
        struct voice *items;
        size_t len;
    } voices;
    gw_strs log; /* "who:n", in the order of application */
    int64_t ticks;
};
static const struct gw_field ledger_fields[] = {
    GW_LIST(struct ledger, voices, voice_fields),
    GW_FIELD(struct ledger, log),
    GW_FIELD(struct ledger, ticks),
};

static struct voice *voice_of(struct ledger *l, const char *who)
{
    for (size_t i = 0; i < l->voices.len; i++) {
        if (strcmp(l->voices.items[i].who, who) == 0) {
            return &l->voices.items[i];
        }
    }
    struct voice *grown = realloc(l->voices.items, (l->voices.len + 1) * sizeof *grown);
    if (!grown) {
        return NULL;
    }
    l->voices.items = grown;
    grown[l->voices.len] = (struct voice){.who = strdup(who)};
    return &grown[l->voices.len++];
}

static gw_err hear(struct gw_call *call)
{
    struct voice *v = voice_of(gw_state(call), gw_arg_str(call, "who"));
    if (!v) {
        return GW_ENOMEM;
    }
    v->wrong += gw_arg_int(call, "n") != v->last + 1;
    v->last = gw_arg_int(call, "n");
    v->heard++;
    return gw_reply_int(call, "heard", v->heard);
}

static gw_err note(struct gw_call *call)
{
    struct ledger *l = gw_state(call);
    GW_TRY(gw_strs_addf(&l->log, "%s:%lld", gw_arg_str(call, "who"),
                        (long long)gw_arg_int(call, "n")));
    return hear(call);
}

/* As hear, but it takes its time. */
static gw_err slowly(struct gw_call *call)
{
    usleep((useconds_t)gw_arg_int(call, "ms") * 1000);
    return hear(call);
}

/* Tell another ledger the numbers from .. from + count - 1. */
static gw_err say(struct gw_call *call)
{
    for (int64_t i = 0; i < gw_arg_int(call, "count"); i++) {
        gw_value args = gw_nil();
        GW_TRY(gw_map_set(&args, "who", gw_str(gw_arg_str(call, "who"))));
        GW_TRY(gw_map_set(&args, "n", gw_int(gw_arg_int(call, "from") + i)));
        GW_TRY(gw_tell(call, gw_arg_id(call, "to"), gw_arg_str(call, "method"), args));
    }
    return GW_OK;
}

static gw_err beat(struct gw_call *call)
{
    return gw_timer_each(call, "beat", gw_arg_int(call, "ms"), gw_nil());
}

static gw_err still(struct gw_call *call)
{
    return gw_timer_cancel(call, "beat");
}

static gw_err on_timer(struct gw_call *call)
{
    struct ledger *l = gw_state(call);
    l->ticks++;
    return GW_OK;
}

static gw_err look(struct gw_call *call)
{
    const struct ledger *l = gw_state(call);
    int64_t heard = 0, wrong = 0;
    for (size_t i = 0; i < l->voices.len; i++) {
        heard += l->voices.items[i].heard;
        wrong += l->voices.items[i].wrong;
    }
    GW_TRY(gw_reply_int(call, "heard", heard));
    GW_TRY(gw_reply_int(call, "wrong", wrong));
    return gw_reply_int(call, "ticks", l->ticks);
}

static gw_err history(struct gw_call *call)
{
    const struct ledger *l = gw_state(call);
    return gw_reply_strs(call, "log", &l->log);
}

static const struct gw_method methods[] = {
    {"hear(who: string, n: int) -> (heard: int)", hear},
    {"note(who: string, n: int) -> (heard: int)", note},
    {"slowly(who: string, n: int, ms: int[0..5000] = 2, pad: string = \"\") -> (heard: int)",
     slowly},
    {"say(to: agent, who: string, from: int, count: int = 1, method: string = \"note\")", say},
    {"beat(ms: int)", beat},
    {"still()", still},
    {"look() -> (heard: int, wrong: int, ticks: int)", look, GW_READ},
    {"history() -> (log: [string])", history, GW_READ},
};

GW_AGENT(ledger, struct ledger, GW_FIELDS(ledger_fields), GW_METHODS(methods),
         .on_timer = on_timer);

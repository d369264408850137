/* events, logs: streams, one line an item. */
#include "clients/cli/commands.h"

#include <stdlib.h>
#include <string.h>

#include "clients/cli/output.h"
#include "protocol/base/buf.h"
#include "protocol/text.h"

const struct cli_option events_options[] = {
    {"follow", 'f', OPTION_FLAG, NULL, "go on as events come"},
    {"since", 0, OPTION_INT, "SEQ", "only after this number"},
    {"agent", 0, OPTION_TEXT, "AGENT", "only of this agent"},
    {"kind", 0, OPTION_TEXT, "KIND", "only of this kind, or of those that begin with this word"},
    {"limit", 0, OPTION_INT, "N", "at most so many before following (1000)"},
    {0},
};

const struct cli_option logs_options[] = {
    {"follow", 'f', OPTION_FLAG, NULL, "go on as lines come"},
    {"limit", 0, OPTION_INT, "N", "at most so many before following (1000)"},
    {0},
};

/* How one item becomes a line. */
struct printer {
    bool json;
    void (*add)(const gw_value *item, struct buf *out);
    struct buf line;
    gw_err err;
};

static void add_time(const gw_value *item, struct buf *out)
{
    const gw_value *when = gw_map_get(item, "time_ms");
    gw_time t = {.ms = when && when->kind == GW_TIME ? when->time.ms
                                                     : gw_map_int(item, "time_ms", 0)};
    char text[TEXT_TIME_SIZE];
    buf_addf(out, "%s", text_from_time(t, text));
}

/* " key=value" for what is there. */
static void add_pair(const gw_value *item, const char *key, struct buf *out)
{
    const gw_value *v = gw_map_get(item, key);
    if (v && v->kind != GW_NIL) {
        buf_addf(out, " %s=", key);
        output_add_text(v, out);
    }
}

/* " value", or nothing. */
static void add_word(const gw_value *item, const char *key, struct buf *out)
{
    const gw_value *v = gw_map_get(item, key);
    if (v && v->kind != GW_NIL) {
        buf_addf(out, " ");
        output_add_text(v, out);
    }
}

/* 2026-11-22T10:00:00.000Z 17 arrive agent=01J… type=counter peer=alpha text */
static void add_event(const gw_value *item, struct buf *out)
{
    static const char *const shown[] = {"seq", "time_ms", "kind", "text"};
    add_time(item, out);
    add_word(item, "seq", out);
    add_word(item, "kind", out);
    for (size_t i = 0; item->kind == GW_MAP && i < item->map.n; i++) {
        bool done = false;
        for (size_t k = 0; k < sizeof shown / sizeof shown[0]; k++) {
            done = done || strcmp(item->map.items[i].key, shown[k]) == 0;
        }
        if (!done) {
            add_pair(item, item->map.items[i].key, out);
        }
    }
    add_word(item, "text", out);
}

/* 2026-11-22T10:00:00.000Z info  counter 01J… text */
static void add_log(const gw_value *item, struct buf *out)
{
    add_time(item, out);
    add_word(item, "level", out);
    add_word(item, "type", out);
    add_word(item, "agent", out);
    add_word(item, "text", out);
}

static bool on_item(void *arg, const gw_value *item)
{
    struct printer *p = arg;
    if (p->json) {
        p->err = output_json(item, NULL);
    } else {
        buf_reset(&p->line);
        p->add(item, &p->line);
        buf_addf(&p->line, "\n");
        p->err = buf_ok(&p->line) ? GW_OK : GW_ENOMEM;
        if (p->err == GW_OK) {
            fwrite(p->line.data, 1, p->line.len, stdout);
        }
    }
    return p->err == GW_OK && fflush(stdout) == 0; /* a reader that went away ends the stream */
}

static gw_err stream(struct cli *cli, const char *op, gw_value *args, const char *agent,
                     void (*add)(const gw_value *, struct buf *), struct gw_error *why)
{
    struct gw_client *client;
    struct printer p = {.json = cli->json, .add = add};
    bool follow = option_given(&cli->options, "follow");
    if (agent) {
        GW_TRY(gw_map_set(args, "agent", gw_str(agent)));
    }
    if (follow) {
        GW_TRY(gw_map_set(args, "follow", gw_bool(true)));
    }
    if (option_given(&cli->options, "limit")) {
        GW_TRY(gw_map_set(args, "limit", gw_int(option_int(&cli->options, "limit", 0))));
    }
    GW_TRY(cli_client(cli, &client, why));
    int64_t timeout = follow && !cli->timeout_given ? GW_FOREVER : cli->timeout_ms;
    gw_err err = gw_client_stream(client, op, args, timeout, on_item, &p, why);
    buf_free(&p.line);
    if (err == GW_OK && p.err != GW_OK) {
        return gw_fail(why, p.err, "cannot print an item of \"%s\"", op);
    }
    return err;
}

gw_err events_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    if (option_given(&cli->options, "since")) {
        GW_TRY(gw_map_set(&args, "since", gw_int(option_int(&cli->options, "since", 0))));
    }
    if (option_given(&cli->options, "kind")) {
        GW_TRY(gw_map_set(&args, "kind", gw_str(option_text(&cli->options, "kind"))));
    }
    return stream(cli, "events", &args, option_text(&cli->options, "agent"), add_event, why);
}

gw_err logs_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    return stream(cli, "logs", &args, cli->argc > 0 ? cli->argv[0] : NULL, add_log, why);
}

/* dispatch, retract, clone, drain, deactivate, activate, dispose, kill, moves, moves resolve. */
#include "clients/cli/commands.h"

#include <stdlib.h>

#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/base/buf.h"
#include "protocol/text.h"

static struct gw_move_options read_move(const struct cli *cli)
{
    return (struct gw_move_options){
        .key = option_text(&cli->options, "op-key"),
        .inactive = option_given(&cli->options, "inactive"),
        .dry_run = option_given(&cli->options, "dry-run"),
        .require = option_list(&cli->options, "require"),
    };
}

/* A dry run that says no ends as the refusal would. */
static gw_err print_move(struct cli *cli, const gw_value *result, struct gw_error *why)
{
    if (gw_map_bool(result, "dry_run", false) && !gw_map_bool(result, "possible", false)) {
        cli->exit_code = gw_err_exit(GW_EREFUSED);
    }
    return output_result(cli, result, why);
}

#define MOVE_OPTIONS                                                                               \
    {"require", 0, OPTION_LIST, "TAG", "only to a host with this tag; again for more"},            \
        {"dry-run", 0, OPTION_FLAG, NULL, "only say whether it would be done, and why not"},       \
        {"op-key", 0, OPTION_TEXT, "KEY", "request key"},                                          \
    {                                                                                              \
        0                                                                                          \
    }

const struct cli_option dispatch_options[] = {
    {"inactive", 0, OPTION_FLAG, NULL, "arrive asleep"},
    MOVE_OPTIONS,
};

gw_err dispatch_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    struct gw_move_options o = read_move(cli);
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(
        gw_client_dispatch(client, cli->argv[0], cli->argv[1], &o, cli->timeout_ms, &result, why));
    return print_move(cli, &result, why);
}

gw_err retract_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    struct gw_move_options o = read_move(cli);
    const char *to = cli->argc > 1 ? cli->argv[1] : NULL;
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_retract(client, cli->argv[0], to, &o, cli->timeout_ms, &result, why));
    return print_move(cli, &result, why);
}

const struct cli_option clone_options[] = {
    {"inactive", 0, OPTION_FLAG, NULL, "the copy starts asleep"},
    MOVE_OPTIONS,
};

gw_err clone_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    struct gw_move_options o = read_move(cli);
    const char *to = cli->argc > 1 ? cli->argv[1] : NULL;
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_clone(client, cli->argv[0], to, &o, cli->timeout_ms, &result, why));
    if (cli->json || o.dry_run) {
        return print_move(cli, &result, why);
    }
    GW_AUTO(free_charp) char *id = output_text(gw_map_get(&result, "agent"));
    printf("%s\n", id);
    output_note(cli, "copied to host \"%s\"", gw_map_str(&result, "host", "?"));
    return GW_OK;
}

/* ---- drain ---- */

const struct cli_option drain_options[] = {
    {"to", 0, OPTION_TEXT, "SELECTOR", "hosts that take the agents (any)"},
    {0},
};

struct draining {
    struct cli *cli;
    gw_value stayed; /* list of {agent, type, code, reason} */
    int64_t moved, staying, total;
    bool done, shown;
    gw_err err;
};

static bool drain_item(void *arg, const gw_value *item)
{
    struct draining *d = arg;
    const struct cli *cli = d->cli;
    gw_value copy = gw_nil();
    if (gw_map_get(item, "agent")) {
        d->err = gw_value_copy(item, &copy);
        d->err = d->err != GW_OK ? d->err : gw_list_add(&d->stayed, copy);
        return d->err == GW_OK;
    }
    d->moved = gw_map_int(item, "moved", 0);
    d->staying = gw_map_int(item, "stayed", 0);
    d->total = gw_map_int(item, "total", 0);
    d->done = gw_map_bool(item, "done", false);
    if (cli->tty && !cli->quiet && !cli->json) {
        fprintf(stderr, "\rmoved %lld of %lld, %lld stay\x1b[K", (long long)d->moved,
                (long long)d->total, (long long)d->staying);
        d->shown = true;
    }
    return true;
}

static gw_err print_drain(struct draining *d, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"AGENT", "agent", false},
        {"TYPE", "type", false},
        {"CODE", "code", false},
        {"REASON", "reason", false},
    };
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    d->cli->exit_code = d->staying > 0 ? gw_err_exit(GW_EREFUSED) : 0;
    if (!d->cli->json) {
        output_note(d->cli, "moved %lld of %lld agents, %lld stayed", (long long)d->moved,
                    (long long)d->total, (long long)d->staying);
        return d->stayed.list.n == 0 ? GW_OK
                                     : table_print(d->cli, &d->stayed, columns,
                                                   sizeof columns / sizeof columns[0], why);
    }
    GW_TRY(gw_map_set(&result, "moved", gw_int(d->moved)));
    GW_TRY(gw_map_set(&result, "total", gw_int(d->total)));
    gw_value stayed = d->stayed;
    d->stayed = gw_nil();
    GW_TRY(gw_map_set(&result, "stayed", stayed));
    return output_json(&result, why);
}

gw_err drain_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    struct draining d = {.cli = cli, .stayed = {.kind = GW_LIST}};
    const char *to = option_text(&cli->options, "to");
    if (cli->argc > 0) {
        cli->host = cli->argv[0];
    }
    if (to) {
        GW_TRY(gw_map_set(&args, "to", gw_str(to)));
    }
    GW_TRY(cli_client(cli, &client, why));
    gw_err err =
        gw_client_stream(client, "drain", &args, cli->timeout_given ? cli->timeout_ms : GW_FOREVER,
                         drain_item, &d, why);
    if (d.shown) {
        fprintf(stderr, "\r\x1b[K");
    }
    if (err == GW_OK && (d.err != GW_OK || !d.done)) {
        err =
            gw_fail(why, d.err != GW_OK ? d.err : GW_EFAIL, "the report of the drain is not whole");
    }
    if (err == GW_OK) {
        err = print_drain(&d, why);
    } else if (d.total > 0) {
        gw_hint(why, "%lld of %lld agents have moved; drain again for the rest", (long long)d.moved,
                (long long)d.total);
    }
    gw_value_free(&d.stayed);
    return err;
}

/* ---- sleep, wake, end ---- */

const struct cli_option deactivate_options[] = {
    {"wake-after", 0, OPTION_DURATION, "DURATION",
     "it wakes by itself when so much time has passed"},
    {"wake-at", 0, OPTION_TEXT, "TIME", "it wakes at this time of its host's clock"},
    {"wake-at-start", 0, OPTION_FLAG, NULL, "it wakes when its host starts"},
    {"no-wake-on-message", 0, OPTION_FLAG, NULL, "messages wait until it is awake"},
    {"wake-on-message", 0, OPTION_FLAG, NULL, "a message wakes it, whatever its type says"},
    {0},
};

static gw_err read_sleep(const struct cli *cli, struct gw_sleep_options *ret, struct gw_error *why)
{
    struct gw_sleep_options o = {
        .no_wake_on_message = option_given(&cli->options, "no-wake-on-message"),
        .wake_on_message = option_given(&cli->options, "wake-on-message"),
        .at_start = option_given(&cli->options, "wake-at-start"),
    };
    const char *at = option_text(&cli->options, "wake-at");
    o.wake_after_ms = option_int(&cli->options, "wake-after", 0);
    if (at && text_time(at, &o.wake_at) != GW_OK) {
        return gw_fail(why, GW_EARG, "\"%s\" is not a time like 2026-12-24T18:00:00Z", at);
    }
    if (at && o.wake_after_ms > 0) {
        return gw_fail(why, GW_EARG, "give either --wake-after or --wake-at");
    }
    if (o.no_wake_on_message && o.wake_on_message) {
        return gw_fail(why, GW_EARG, "give either --wake-on-message or --no-wake-on-message");
    }
    *ret = o;
    return GW_OK;
}

gw_err deactivate_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    struct gw_sleep_options o;
    GW_TRY(read_sleep(cli, &o, why));
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_deactivate(client, cli->argv[0], &o, cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

gw_err activate_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_activate(client, cli->argv[0], cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

gw_err dispose_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_dispose(client, cli->argv[0], cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

gw_err kill_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    GW_TRY(gw_map_set(&args, "agent", gw_str(cli->argv[0])));
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "kill", &args, cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

/* ---- moves ---- */

const struct cli_option moves_options[] = {
    {"all", 0, OPTION_FLAG, NULL, "on all hosts of the mesh"},
    {0},
};

gw_err moves_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"TICKET", "ticket", false},  {"AGENT", "agent", false}, {"EPOCH", "epoch", true},
        {"FROM", "from", false},      {"TO", "to", false},       {"PHASE", "phase", false},
        {"DOUBT", "in_doubt", false}, {"SINCE", "since", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    if (option_given(&cli->options, "all")) {
        GW_TRY(gw_map_set(&args, "all", gw_bool(true)));
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "moves", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    const gw_value *rows = gw_map_get(&result, "moves");
    if (rows && rows->kind == GW_LIST && rows->list.n == 0) {
        output_note(cli, "no moves in flight");
    }
    return table_print(cli, rows, columns, sizeof columns / sizeof columns[0], why);
}

const struct cli_option resolve_options[] = {
    {"source-destroyed", 0, OPTION_FLAG, NULL,
     "here is the destination, and the source is gone with its disk"},
    {0},
};

gw_err resolve_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    GW_TRY(gw_map_set(&args, "ticket", gw_str(cli->argv[0])));
    if (option_given(&cli->options, "source-destroyed")) {
        GW_TRY(gw_map_set(&args, "source_destroyed", gw_bool(true)));
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "resolve", &args, cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

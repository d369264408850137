/* dispatch, clone, deactivate, activate, dispose, moves, moves resolve. */
#include "clients/cli/commands.h"

#include <stdlib.h>

#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/base/buf.h"

static struct gw_move_options read_move(const struct cli *cli)
{
    return (struct gw_move_options){
        .key = option_text(&cli->options, "op-key"),
        .inactive = option_given(&cli->options, "inactive"),
    };
}

const struct cli_option dispatch_options[] = {
    {"inactive", 0, OPTION_FLAG, NULL, "arrive asleep"},
    {"op-key", 0, OPTION_TEXT, "KEY", "request key"},
    {0},
};

gw_err dispatch_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    struct gw_move_options o = read_move(cli);
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(
        gw_client_dispatch(client, cli->argv[0], cli->argv[1], &o, cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

const struct cli_option clone_options[] = {
    {"inactive", 0, OPTION_FLAG, NULL, "the copy starts asleep"},
    {"op-key", 0, OPTION_TEXT, "KEY", "request key"},
    {0},
};

gw_err clone_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    struct gw_move_options o = read_move(cli);
    const char *to = cli->argc > 1 ? cli->argv[1] : NULL;
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_clone(client, cli->argv[0], to, &o, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    GW_AUTO(free_charp) char *id = output_text(gw_map_get(&result, "agent"));
    printf("%s\n", id ? id : "");
    output_note(cli, "copied to host \"%s\"", gw_map_str(&result, "host", "?"));
    return GW_OK;
}

/* ---- sleep, wake, end ---- */

const struct cli_option deactivate_options[] = {
    {"no-wake-on-message", 0, OPTION_FLAG, NULL, "messages wait until it is activated"},
    {0},
};

gw_err deactivate_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    bool wake = !option_given(&cli->options, "no-wake-on-message");
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_deactivate(client, cli->argv[0], wake, cli->timeout_ms, &result, why));
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

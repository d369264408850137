/* create, agents, show, send. */
#include "clients/cli/commands.h"

#include <stdlib.h>

#include "clients/cli/args.h"
#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/base/buf.h"

/* ---- create ---- */

const struct cli_option create_options[] = {
    {"at", 0, OPTION_TEXT, "SELECTOR", "the host where it shall live (else the one that is asked)"},
    {"alias", 0, OPTION_TEXT, "NAME", "a name for it"},
    {"op-key", 0, OPTION_TEXT, "KEY", "request key"},
    {0},
};

gw_err create_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value state = gw_nil(), result = gw_nil();
    struct gw_create_options o = {
        .at = option_text(&cli->options, "at"),
        .alias = option_text(&cli->options, "alias"),
        .key = option_text(&cli->options, "op-key"),
    };
    GW_TRY(args_parse(cli->argv + 1, cli->argc - 1, &state, &o.text, why));
    o.state = state.map.n > 0 ? &state : NULL;
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_create(client, cli->argv[0], &o, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    GW_AUTO(free_charp) char *id = output_text(gw_map_get(&result, "agent"));
    printf("%s\n", id);
    output_note(cli, "created %s on host \"%s\"", gw_map_str(&result, "type", cli->argv[0]),
                gw_map_str(&result, "host", "?"));
    return GW_OK;
}

/* ---- agents ---- */

const struct cli_option agents_options[] = {
    {"all", 0, OPTION_FLAG, NULL, "on all hosts of the mesh"},
    {"type", 0, OPTION_TEXT, "TYPE", "only of this type"},
    {"status", 0, OPTION_TEXT, "STATUS", "only with this status (active, inactive, moving …)"},
    {"limit", 0, OPTION_INT, "N", "rows of one page, 1 to 1000 (100)"},
    {"after", 0, OPTION_TEXT, "CURSOR", "go on after a page: its `next`"},
    {"builtin", 0, OPTION_FLAG, NULL, "with those that the hosts keep themselves"},
    {0},
};

static gw_err agents_args(const struct cli *cli, gw_value *ret)
{
    const struct options *o = &cli->options;
    static const char *const texts[] = {"type", "status", "after"};
    if (option_given(o, "all")) {
        GW_TRY(gw_map_set(ret, "all", gw_bool(true)));
    }
    if (option_given(o, "builtin")) {
        GW_TRY(gw_map_set(ret, "builtin", gw_bool(true)));
    }
    if (option_given(o, "limit")) {
        GW_TRY(gw_map_set(ret, "limit", gw_int(option_int(o, "limit", 0))));
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (option_text(o, texts[i])) {
            GW_TRY(gw_map_set(ret, texts[i], gw_str(option_text(o, texts[i]))));
        }
    }
    return GW_OK;
}

/* A host that could not be asked is a remark, not a failure: the others have answered. */
static void note_errors(const struct cli *cli, const gw_value *errors)
{
    for (size_t i = 0; errors && errors->kind == GW_LIST && i < errors->list.n; i++) {
        GW_AUTO(free_charp) char *text = output_text(&errors->list.items[i]);
        output_note(cli, "not complete: %s", text);
    }
    if (errors && errors->kind == GW_MAP && errors->map.n > 0) {
        GW_AUTO(free_charp) char *text = output_text(errors);
        output_note(cli, "not complete: %s", text);
    }
}

gw_err agents_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"AGENT", "agent", false},   {"TYPE", "type", false},  {"HOST", "host", false},
        {"STATUS", "status", false}, {"EPOCH", "epoch", true}, {"ALIAS", "alias", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    if (agents_args(cli, &args) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "agents", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    const gw_value *rows = gw_map_get(&result, "agents");
    GW_TRY(table_print(cli, rows, columns, sizeof columns / sizeof columns[0], why));
    note_errors(cli, gw_map_get(&result, "errors"));
    GW_AUTO(free_charp) char *next = output_text(gw_map_get(&result, "next"));
    if (next[0]) {
        output_note(cli, "more: --after %s", next);
    } else if (rows && rows->kind == GW_LIST && rows->list.n == 0) {
        output_note(cli, "no agents");
    }
    return GW_OK;
}

gw_err show_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_show(client, cli->argv[0], cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

/* ---- send ---- */

const struct cli_option send_options[] = {
    {"tell", 0, OPTION_FLAG, NULL, "do not wait for the reply, only until the message is safe"},
    {"priority", 0, OPTION_INT, "N", "0 to 9, 5 is normal"},
    {"no-wake", 0, OPTION_FLAG, NULL, "do not wake a sleeping agent"},
    {"op-key", 0, OPTION_TEXT, "KEY", "request key"},
    {0},
};

/* The map of operation `send`; not gw_client_send, which cannot say priority 0. */
static gw_err send_args(const struct cli *cli, gw_value *ret, struct gw_error *why)
{
    const struct options *o = &cli->options;
    gw_value args = gw_nil();
    bool text;
    GW_TRY(args_parse(cli->argv + 2, cli->argc - 2, &args, &text, why));
    GW_TRY(gw_map_set(ret, "args", args));
    GW_TRY(gw_map_set(ret, "agent", gw_str(cli->argv[0])));
    GW_TRY(gw_map_set(ret, "method", gw_str(cli->argv[1])));
    GW_TRY(gw_map_set(ret, "text", gw_bool(text)));
    GW_TRY(gw_map_set(ret, "timeout", gw_int(cli->timeout_ms)));
    if (option_given(o, "tell")) {
        GW_TRY(gw_map_set(ret, "tell", gw_bool(true)));
    }
    if (option_given(o, "no-wake")) {
        GW_TRY(gw_map_set(ret, "no_wake", gw_bool(true)));
    }
    if (option_given(o, "priority")) {
        GW_TRY(gw_map_set(ret, "priority", gw_int(option_int(o, "priority", 5))));
    }
    if (option_text(o, "op-key")) {
        GW_TRY(gw_map_set(ret, "key", gw_str(option_text(o, "op-key"))));
    }
    return GW_OK;
}

gw_err send_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    GW_TRY(send_args(cli, &args, why));
    GW_TRY(cli_client(cli, &client, why));
    /* The host gives up first: its words say more than ours. */
    GW_TRY(gw_client_call(client, "send", &args, cli->timeout_ms + 250, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    if (option_given(&cli->options, "tell")) {
        output_note(cli, "accepted on host \"%s\"", gw_map_str(&result, "host", "?"));
        return GW_OK;
    }
    const gw_value *reply = gw_map_get(&result, "reply");
    return reply ? output_reply(reply, why) : GW_OK;
}

/* publish, topics. */
#include "clients/cli/commands.h"

#include "clients/cli/args.h"
#include "clients/cli/output.h"
#include "clients/cli/table.h"

const struct cli_option publish_options[] = {
    {"method", 0, OPTION_TEXT, "NAME", "the method that is called (on_topic)"},
    {"priority", 0, OPTION_INT, "N", "0 to 9, 5 is normal, 9 runs first"},
    {"op-key", 0, OPTION_TEXT, "KEY", "request key"},
    {0},
};

static gw_err publish_args(const struct cli *cli, gw_value *ret, struct gw_error *why)
{
    const struct options *o = &cli->options;
    gw_value args = gw_nil();
    bool text;
    GW_TRY(args_parse(cli->argv + 1, cli->argc - 1, &args, &text, why));
    GW_TRY(gw_map_set(ret, "args", args));
    GW_TRY(gw_map_set(ret, "topic", gw_str(cli->argv[0])));
    GW_TRY(gw_map_set(ret, "text", gw_bool(text)));
    if (option_text(o, "method")) {
        GW_TRY(gw_map_set(ret, "method", gw_str(option_text(o, "method"))));
    }
    if (option_given(o, "priority")) {
        GW_TRY(gw_map_set(ret, "priority", gw_int(option_int(o, "priority", 5))));
    }
    if (option_text(o, "op-key")) {
        GW_TRY(gw_map_set(ret, "key", gw_str(option_text(o, "op-key"))));
    }
    return GW_OK;
}

gw_err publish_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    GW_TRY(publish_args(cli, &args, why));
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "publish", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    int64_t count = gw_map_int(&result, "subscribers", -1);
    if (count < 0) {
        output_note(cli, "published before, under the same key");
    } else {
        output_note(cli, "published to %lld subscriber%s", (long long)count, count == 1 ? "" : "s");
    }
    return GW_OK;
}

gw_err topics_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column topics[] = {
        {"TOPIC", "topic", false},
        {"SUBSCRIBERS", "subscribers", true},
        {"HERE", "here", true},
    };
    static const struct table_column agents[] = {
        {"AGENT", "agent", false},
        {"SCOPE", "scope", false},
        {"HERE", "here", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    if (cli->argc > 0) {
        GW_TRY(gw_map_set(&args, "topic", gw_str(cli->argv[0])));
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "topics", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    const gw_value *list = gw_map_get(&result, "topics");
    bool any = list && list->kind == GW_LIST && list->list.n > 0;
    if (!any) {
        output_note(cli, "nobody has subscribed");
        return GW_OK;
    }
    return cli->argc > 0 ? table_print(cli, gw_map_get(&list->list.items[0], "agents"), agents,
                                       sizeof agents / sizeof agents[0], why)
                         : table_print(cli, list, topics, sizeof topics / sizeof topics[0], why);
}

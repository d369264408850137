/* itinerary: send an agent round hosts, see how far it is, cancel. */
#include "clients/cli/commands.h"

#include <string.h>

#include "clients/cli/args.h"
#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/limits.h"

const struct cli_option itinerary_options[] = {
    {"skip", 0, OPTION_FLAG, NULL, "skip a host that cannot be reached"},
    {"wait", 0, OPTION_FLAG, NULL, "wait for it as long as it takes"},
    {"retry", 0, OPTION_INT, "N", "try again so often, then skip it (3)"},
    {"arg", 0, OPTION_LIST, "KEY=VALUE", "an argument of the methods; again for more"},
    {"stay", 0, OPTION_FLAG, NULL, "do not go home at the end"},
    {"cancel", 0, OPTION_FLAG, NULL, "end the itinerary where it is"},
    {0},
};

/* "METHOD@SELECTOR", or a selector alone. */
static gw_err add_stop(const struct cli *cli, const char *text, const gw_value *args,
                       gw_value *stops, struct gw_error *why)
{
    const char *at = strchr(text, '@');
    gw_value stop = gw_nil(), copy = gw_nil();
    char method[LIMIT_NAME_BYTES + 1] = "";
    bool skip = option_given(&cli->options, "skip"), wait = option_given(&cli->options, "wait");
    if (at && ((size_t)(at - text) > LIMIT_NAME_BYTES || !at[1] || at == text)) {
        return gw_fail(why, GW_EARG, "\"%s\" is not a stop: SELECTOR, or METHOD@SELECTOR", text);
    }
    if (at) {
        memcpy(method, text, (size_t)(at - text));
    }
    gw_err err = gw_map_set(&stop, "to", gw_str(at ? at + 1 : text));
    if (err == GW_OK && at) {
        err = gw_map_set(&stop, "method", gw_str(method));
    }
    if (err == GW_OK && at) {
        err = gw_value_copy(args, &copy);
        err = err == GW_OK ? gw_map_set(&stop, "args", copy) : err;
    }
    if (err == GW_OK) {
        err = gw_map_set(&stop, "policy", gw_str(skip ? "skip" : wait ? "wait" : "retry"));
    }
    if (err == GW_OK && option_given(&cli->options, "retry")) {
        err = gw_map_set(&stop, "retries", gw_int(option_int(&cli->options, "retry", 0)));
    }
    if (err != GW_OK) {
        gw_value_free(&stop);
        return gw_fail(why, err, "%s", gw_err_text(err));
    }
    return gw_list_add(stops, stop);
}

static gw_err read_itinerary(const struct cli *cli, gw_value *ret, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    gw_value stops = {.kind = GW_LIST};
    const gw_strs *given = option_list(&cli->options, "arg");
    bool text;
    gw_err err = args_parse(given->items, (int)given->len, &args, &text, why);
    for (int i = 1; err == GW_OK && i < cli->argc; i++) {
        err = add_stop(cli, cli->argv[i], &args, &stops, why);
    }
    if (err != GW_OK) {
        gw_value_free(&stops);
        return err;
    }
    GW_TRY(gw_map_set(ret, "stops", stops));
    GW_TRY(gw_map_set(ret, "text", gw_bool(true)));
    return gw_map_set(ret, "home", gw_bool(!option_given(&cli->options, "stay")));
}

static gw_err print_itinerary(struct cli *cli, const gw_value *result, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"TO", "to", false},       {"METHOD", "method", false}, {"POLICY", "policy", false},
        {"STATE", "state", false}, {"HOST", "host", false},     {"CODE", "code", false},
        {"REPLY", "reply", false},
    };
    const gw_value *it = gw_map_get(result, "itinerary");
    if (cli->json) {
        return output_json(result, why);
    }
    if (!it || it->kind != GW_MAP) {
        output_note(cli, "no itinerary");
        return GW_OK;
    }
    output_note(cli, "%s, at host \"%s\"", gw_map_str(it, "state", "?"),
                gw_map_str(result, "host", "?"));
    return table_print(cli, gw_map_get(it, "stops"), columns, sizeof columns / sizeof columns[0],
                       why);
}

gw_err itinerary_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    bool cancel = option_given(&cli->options, "cancel");
    if ((cancel && cli->argc > 1) ||
        (option_given(&cli->options, "skip") && option_given(&cli->options, "wait"))) {
        return gw_fail(why, GW_EARG, "give stops or --cancel, and one of --skip, --wait, --retry");
    }
    GW_TRY(gw_map_set(&args, "agent", gw_str(cli->argv[0])));
    if (cli->argc > 1) {
        GW_TRY(read_itinerary(cli, &args, why));
    } else if (cancel) {
        GW_TRY(gw_map_set(&args, "cancel", gw_bool(true)));
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "itinerary", &args, cli->timeout_ms, &result, why));
    return print_itinerary(cli, &result, why);
}

/* dead list, show, replay, drop. */
#include "clients/cli/commands.h"

#include <stdlib.h>

#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/text.h"

const struct cli_option dead_list_options[] = {
    {"limit", 0, OPTION_INT, "N", "at most so many (100)"},
    {"after", 0, OPTION_INT, "LETTER", "only later ones: the `next` of the page before"},
    {0},
};

gw_err dead_list_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"LETTER", "letter", true}, {"TIME", "time", false},     {"AGENT", "agent", false},
        {"TYPE", "type", false},    {"METHOD", "method", false}, {"BYTES", "bytes", true},
        {"ERROR", "error", false},
    };
    static const char *const numbers[] = {"limit", "after"};
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (option_given(&cli->options, numbers[i])) {
            GW_TRY(gw_map_set(&args, numbers[i], gw_int(option_int(&cli->options, numbers[i], 0))));
        }
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "dead", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    const gw_value *rows = gw_map_get(&result, "letters"), *next = gw_map_get(&result, "next");
    if (rows && rows->kind == GW_LIST && rows->list.n == 0) {
        output_note(cli, "no dead letters");
    }
    GW_TRY(table_print(cli, rows, columns, sizeof columns / sizeof columns[0], why));
    if (next && next->kind == GW_INT) {
        output_note(cli, "more: --after %lld", (long long)next->i);
    }
    return GW_OK;
}

/* Call `op` with the number of the letter. */
static gw_err call_letter(struct cli *cli, const char *op, gw_value *ret, struct gw_error *why)
{
    struct gw_client *client;
    int64_t letter;
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    if (text_int(cli->argv[0], &letter) != GW_OK || letter < 1) {
        gw_fail(why, GW_EARG, "\"%.64s\" is not the number of a dead letter", cli->argv[0]);
        gw_hint(why, "`godwit dead list` lists them");
        return GW_EARG;
    }
    GW_TRY(gw_map_set(&args, "letter", gw_int(letter)));
    GW_TRY(cli_client(cli, &client, why));
    return gw_client_call(client, op, &args, cli->timeout_ms, ret, why);
}

gw_err dead_show_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(call_letter(cli, "dead", &result, why));
    const gw_value *letters = gw_map_get(&result, "letters");
    if (!letters || letters->kind != GW_LIST || letters->list.n != 1) {
        return gw_fail(why, GW_EPROTO, "the host answered something else than a letter");
    }
    return output_result(cli, &letters->list.items[0], why);
}

gw_err dead_replay_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(call_letter(cli, "dead.replay", &result, why));
    return output_result(cli, &result, why);
}

gw_err dead_drop_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(call_letter(cli, "dead.drop", &result, why));
    return output_result(cli, &result, why);
}

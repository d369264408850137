/* mesh token, tokens, revoke, status. */
#include "clients/cli/commands.h"

#include <stdlib.h>

#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/base/buf.h"

const struct cli_option mesh_token_options[] = {
    {"ttl", 0, OPTION_DURATION, "DURATION", "how long it may be used (1h)"},
    {"uses", 0, OPTION_INT, "N", "how many hosts may join with it (1)"},
    {"tag", 0, OPTION_LIST, "TAG", "a tag that the host may carry, again for more (else any)"},
    {0},
};

static gw_err token_args(const struct options *o, gw_value *ret)
{
    if (option_given(o, "ttl")) {
        GW_TRY(gw_map_set(ret, "ttl", gw_int(option_int(o, "ttl", 0))));
    }
    if (option_given(o, "uses")) {
        GW_TRY(gw_map_set(ret, "uses", gw_int(option_int(o, "uses", 1))));
    }
    const gw_strs *tags = option_list(o, "tag");
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; i < tags->len; i++) {
        GW_TRY(gw_list_add(&list, gw_str(tags->items[i])));
    }
    return tags->len > 0 ? gw_map_set(ret, "tags", list) : GW_OK;
}

gw_err mesh_token_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    if (token_args(&cli->options, &args) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "token", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    GW_AUTO(free_charp) char *token = output_text(gw_map_get(&result, "token"));
    GW_AUTO(free_charp) char *expires = output_text(gw_map_get(&result, "expires"));
    GW_AUTO(free_charp) char *uses = output_text(gw_map_get(&result, "uses"));
    printf("%s\n", token);
    output_note(cli, "valid until %s, for %s use(s)", expires, uses);
    const char *warning = gw_map_str(&result, "warning", "");
    if (warning[0]) {
        output_note(cli, "warning: %s", warning);
    }
    return GW_OK;
}

gw_err mesh_tokens_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"TOKEN", "token", false}, {"EXPIRES", "expires", false}, {"USES", "uses", true},
        {"USED", "used", true},    {"TAGS", "tags", false},       {"HOSTS", "hosts", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "tokens", NULL, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    const gw_value *rows = gw_map_get(&result, "tokens");
    if (rows && rows->kind == GW_LIST && rows->list.n == 0) {
        output_note(cli, "no tokens");
    }
    return table_print(cli, rows, columns, sizeof columns / sizeof columns[0], why);
}

gw_err mesh_revoke_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    GW_TRY(gw_map_set(&args, "token", gw_str(cli->argv[0])));
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "revoke", &args, cli->timeout_ms, &result, why));
    return output_result(cli, &result, why);
}

gw_err mesh_status_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(gw_home_status(NULL, &result, why));
    return output_result(cli, &result, why);
}

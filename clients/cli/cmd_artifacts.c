/* artifacts ls, info, rm, verify. */
#include "clients/cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "clients/cli/copy_show.h"
#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/text.h"

/* ---- ls ---- */

const struct cli_option artifacts_ls_options[] = {
    {"owner", 0, OPTION_TEXT, "AGENT", "only those of this agent, by its id"},
    {"limit", 0, OPTION_INT, "N", "at most so many (100)"},
    {"after", 0, OPTION_TEXT, "ARTIFACT", "from behind this one on: the next page"},
    {0},
};

static gw_err ls_args(const struct options *o, gw_value *args)
{
    if (option_text(o, "owner")) {
        GW_TRY(gw_map_set(args, "owner", gw_str(option_text(o, "owner"))));
    }
    if (option_given(o, "limit")) {
        GW_TRY(gw_map_set(args, "limit", gw_int(option_int(o, "limit", 0))));
    }
    return option_text(o, "after") ? gw_map_set(args, "after", gw_str(option_text(o, "after")))
                                   : GW_OK;
}

/* Sizes for people; what never ends has no end. */
static gw_err make_rows(const gw_value *list, gw_value *rows)
{
    char size[TEXT_SHORT_SIZE];
    for (size_t i = 0; list && list->kind == GW_LIST && i < list->list.n; i++) {
        gw_value row = gw_nil();
        gw_err err = gw_value_copy(&list->list.items[i], &row);
        uint64_t bytes = (uint64_t)gw_map_int(&row, "size", 0);
        err = err ? err : gw_map_set(&row, "size", gw_str(text_from_bytes(bytes, size)));
        if (err != GW_OK) {
            gw_value_free(&row);
            return err;
        }
        GW_TRY(gw_list_add(rows, row));
    }
    return GW_OK;
}

gw_err artifacts_ls_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"ARTIFACT", "artifact", false}, {"SIZE", "size", true},
        {"NAME", "name", false},         {"TYPE", "type", false},
        {"CREATED", "created", false},   {"EXPIRES", "expires", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil(), rows = {.kind = GW_LIST};
    if (ls_args(&cli->options, &args) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "artifacts.list", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    if (make_rows(gw_map_get(&result, "artifacts"), &rows) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(table_print(cli, &rows, columns, sizeof columns / sizeof columns[0], why));
    GW_AUTO(free_charp) char *next = output_text(gw_map_get(&result, "next"));
    if (next[0]) {
        output_note(cli, "more: --after %s", next);
    } else if (rows.list.n == 0) {
        output_note(cli, "no artifacts");
    }
    return GW_OK;
}

/* ---- info, rm ---- */

static gw_err call_one(struct cli *cli, const char *op, const char *artifact, gw_value *ret,
                       struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    if (gw_map_set(&args, "artifact", gw_str(artifact)) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(cli_client(cli, &client, why));
    return gw_client_call(client, op, &args, cli->timeout_ms, ret, why);
}

gw_err artifacts_info_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(call_one(cli, "artifacts.info", cli->argv[0], &result, why));
    return output_result(cli, &result, why);
}

gw_err artifacts_rm_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value removed = {.kind = GW_LIST}, doc = gw_nil();
    for (int i = 0; i < cli->argc; i++) {
        GW_AUTO(gw_value_free) gw_value result = gw_nil();
        GW_TRY(call_one(cli, "artifacts.rm", cli->argv[i], &result, why));
        GW_TRY(gw_list_add(&removed, gw_str(gw_map_str(&result, "artifact", ""))));
        output_note(cli, "removed %s", gw_map_str(&result, "artifact", ""));
    }
    if (!cli->json) {
        return GW_OK;
    }
    gw_value list = removed;
    removed = gw_nil();
    GW_TRY(gw_map_set(&doc, "removed", list));
    return output_json(&doc, why);
}

/* ---- verify ---- */

const struct cli_option artifacts_verify_options[] = {
    {"repair-from", 0, OPTION_TEXT, "HOST", "get what is damaged from this host"},
    {0},
};

struct verifying {
    struct cli *cli;
    struct copy_show show;
    gw_value damages, done;
    gw_err err;
};

static void print_damage(struct verifying *v, const gw_value *item)
{
    GW_AUTO(free_charp) char *artifacts = output_text(gw_map_get(item, "artifacts"));
    GW_AUTO(free_charp) char *what = output_text(gw_map_get(item, "what"));
    copy_show_wipe(&v->show);
    printf("%s: chunk %s: %s\n", artifacts, gw_map_str(item, "chunk", "?"), what);
}

static bool on_item(void *arg, const gw_value *item)
{
    struct verifying *v = arg;
    if (gw_map_bool(item, "done", false)) {
        gw_value_free(&v->done);
        v->err = gw_value_copy(item, &v->done);
    } else if (gw_map_get(item, "chunk")) {
        gw_value copy = gw_nil();
        v->err = gw_value_copy(item, &copy);
        v->err = v->err ? v->err : gw_list_add(&v->damages, copy);
        if (!v->cli->json) {
            print_damage(v, item);
        }
    } else {
        copy_show_item(&v->show, v->cli, item);
    }
    return v->err == GW_OK;
}

static gw_err print_verified(struct verifying *v, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value doc = gw_nil();
    char bytes[TEXT_SHORT_SIZE];
    int64_t damaged = gw_map_int(&v->done, "damaged", 0), all = gw_map_int(&v->done, "bytes", 0);
    int64_t repaired = gw_map_int(&v->done, "repaired", 0);
    bool repairs = option_given(&v->cli->options, "repair-from");
    v->cli->exit_code = damaged > repaired ? gw_err_exit(GW_ECORRUPT) : 0;
    if (!v->cli->json) {
        output_note(v->cli,
                    repairs ? "%lld chunks, %s: %lld damaged, %lld repaired"
                            : "%lld chunks, %s: %lld damaged",
                    (long long)gw_map_int(&v->done, "chunks", 0),
                    text_from_bytes((uint64_t)all, bytes), (long long)damaged, (long long)repaired);
        return GW_OK;
    }
    if (repairs) {
        GW_TRY(gw_map_set(&doc, "repaired", gw_int(repaired)));
    }
    GW_TRY(gw_map_set(&doc, "chunks", gw_int(gw_map_int(&v->done, "chunks", 0))));
    GW_TRY(gw_map_set(&doc, "bytes", gw_int(all)));
    GW_TRY(gw_map_set(&doc, "damaged", gw_int(damaged)));
    gw_value damages = v->damages;
    v->damages = gw_nil();
    GW_TRY(gw_map_set(&doc, "damages", damages));
    return output_json(&doc, why);
}

gw_err artifacts_verify_run(struct cli *cli, struct gw_error *why)
{
    struct verifying v = {.cli = cli, .damages = {.kind = GW_LIST}};
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    const char *from = option_text(&cli->options, "repair-from");
    if ((cli->argc > 0 && gw_map_set(&args, "artifact", gw_str(cli->argv[0])) != GW_OK) ||
        (from && gw_map_set(&args, "from", gw_str(from)) != GW_OK)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(cli_client(cli, &client, why));
    gw_err err =
        gw_client_stream(client, from ? "artifacts.repair" : "artifacts.verify", &args,
                         cli->timeout_given ? cli->timeout_ms : GW_FOREVER, on_item, &v, why);
    copy_show_wipe(&v.show);
    if (err == GW_OK && (v.err != GW_OK || v.done.kind != GW_MAP)) {
        err = gw_fail(why, v.err != GW_OK ? v.err : GW_EFAIL, "the report is not whole");
    }
    err = err ? err : print_verified(&v, why);
    gw_value_free(&v.damages);
    gw_value_free(&v.done);
    return err;
}

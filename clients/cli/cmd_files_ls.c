/* files ls: what is in a folder of a host. */
#include "clients/cli/commands.h"

#include <string.h>

#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/base/utf8.h"
#include "protocol/place.h"
#include "protocol/text.h"

const struct cli_option files_ls_options[] = {
    {"long", 'l', OPTION_FLAG, NULL, "with modes, and where links lead"},
    {0},
};

static char type_letter(const char *type)
{
    return strcmp(type, "folder") == 0 ? 'd'
           : strcmp(type, "link") == 0 ? 'l'
           : strcmp(type, "file") == 0 ? '-'
                                       : '?';
}

/* "drwxr-xr-x", with s and t where they are set. */
static void mode_text(const char *type, int64_t mode, char ret[11])
{
    static const char letters[] = "rwxrwxrwx";
    static const char special[] = "sst";
    ret[0] = type_letter(type);
    for (int i = 0; i < 9; i++) {
        ret[1 + i] = mode & (0400 >> i) ? letters[i] : '-';
    }
    for (int i = 0; i < 3; i++) {
        if (mode & (04000 >> i)) {
            char *x = &ret[3 + 3 * i];
            *x = *x == 'x' ? special[i] : (char)(special[i] - 'a' + 'A');
        }
    }
    ret[10] = '\0';
}

/* name/ of a folder; name -> target of a link. */
static gw_err add_name(const gw_value *e, gw_value *row)
{
    GW_AUTO(buf_free) struct buf name = {0};
    const char *type = gw_map_str(e, "type", "");
    gw_value v = gw_nil();
    output_add_clean(gw_map_str(e, "name", ""), &name);
    if (strcmp(type, "folder") == 0) {
        buf_addf(&name, "/");
    } else if (strcmp(type, "link") == 0) {
        buf_addf(&name, " -> ");
        output_add_clean(gw_map_str(e, "target", "?"), &name);
    }
    if (!buf_ok(&name)) {
        return GW_ENOMEM;
    }
    GW_TRY(gw_value_set_str(&v, (const char *)name.data, name.len));
    return gw_map_set(row, "name", v);
}

static gw_err add_row(const gw_value *e, gw_value *rows)
{
    char mode[11], size[TEXT_SHORT_SIZE];
    gw_value row = gw_nil();
    const gw_value *when = gw_map_get(e, "mtime");
    const char *type = gw_map_str(e, "type", "");
    mode_text(type, gw_map_int(e, "mode", 0), mode);
    int64_t bytes = gw_map_int(e, "size", 0);
    gw_err err = gw_map_set(&row, "mode", gw_str(mode));
    if (err == GW_OK && strcmp(type, "file") == 0) {
        err = gw_map_set(&row, "size", gw_str(text_from_bytes((uint64_t)bytes, size)));
    }
    if (err == GW_OK && when && when->kind == GW_TIME) {
        err = gw_map_set(&row, "modified", gw_time_value(when->time));
    } else if (err == GW_OK && when && when->kind == GW_STR) {
        err = gw_map_set(&row, "modified", gw_str(when->s.p));
    }
    err = err ? err : add_name(e, &row);
    if (err != GW_OK) {
        gw_value_free(&row);
        return err;
    }
    return gw_list_add(rows, row);
}

static gw_err print_entries(const struct cli *cli, const gw_value *entries, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"MODE", "mode", false},
        {"SIZE", "size", true},
        {"MODIFIED", "modified", false},
        {"NAME", "name", false},
    };
    GW_AUTO(gw_value_free) gw_value rows = {.kind = GW_LIST};
    bool all = option_given(&cli->options, "long");
    for (size_t i = 0; entries && entries->kind == GW_LIST && i < entries->list.n; i++) {
        if (add_row(&entries->list.items[i], &rows) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
    }
    return table_print(cli, &rows, all ? columns : columns + 1, all ? 4 : 3, why);
}

static gw_err append(gw_value *list, const gw_value *more)
{
    for (size_t i = 0; more && more->kind == GW_LIST && i < more->list.n; i++) {
        gw_value copy = gw_nil();
        GW_TRY(gw_value_copy(&more->list.items[i], &copy));
        GW_TRY(gw_list_add(list, copy));
    }
    return GW_OK;
}

/* From the second page on it is the host of the first, whoever else fits the selector. */
static gw_err next_page(const gw_value *page, gw_value *args, bool *ret_more)
{
    const gw_value *next = gw_map_get(page, "next");
    *ret_more = next && next->kind == GW_STR;
    if (!*ret_more) {
        return GW_OK;
    }
    gw_value after = gw_nil();
    GW_TRY(gw_value_copy(next, &after));
    GW_TRY(gw_map_set(args, "after", after));
    return gw_map_set(args, "on", gw_str(gw_map_str(page, "host_id", "")));
}

/* All pages as one. */
static gw_err list_all(struct cli *cli, gw_value *args, gw_value *ret, struct gw_error *why)
{
    struct gw_client *client;
    gw_value entries = {.kind = GW_LIST};
    gw_err err = cli_client(cli, &client, why);
    for (bool more = true; more && err == GW_OK;) {
        GW_AUTO(gw_value_free) gw_value page = gw_nil();
        err = gw_client_call(client, "files.ls", args, cli->timeout_ms, &page, why);
        if (err != GW_OK) {
            break;
        }
        err = append(&entries, gw_map_get(&page, "entries"));
        err = err ? err : gw_map_set(ret, "host", gw_str(gw_map_str(&page, "host", "")));
        err = err ? err : gw_map_set(ret, "path", gw_str(gw_map_str(&page, "path", "")));
        err = err ? err : next_page(&page, args, &more);
        err = err ? gw_fail(why, err, "out of memory") : GW_OK;
    }
    if (err != GW_OK) {
        gw_value_free(&entries);
        return err;
    }
    return gw_map_set(ret, "entries", entries);
}

gw_err files_ls_run(struct cli *cli, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    struct place p = {0};
    GW_TRY(place_parse(cli->argv[0], &p, why));
    bool valid = utf8_is_valid(p.path, strlen(p.path));
    gw_err err = valid ? gw_map_set(&args, "path", gw_str(p.path))
                       : gw_fail(why, GW_EARG, "the path is not UTF-8");
    err = err ? err : gw_map_set(&args, "on", gw_str(p.selector));
    err = err ? err : list_all(cli, &args, &result, why);
    place_free(&p);
    GW_TRY(err);
    return cli->json ? output_json(&result, why)
                     : print_entries(cli, gw_map_get(&result, "entries"), why);
}

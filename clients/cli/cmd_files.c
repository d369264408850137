/* files push, files pull, files copy. A copy is one call, files.copy, that streams how far
 * it is; which host has the sources and where they go is all that the three differ in. */
#include "clients/cli/commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/copy_show.h"
#include "clients/cli/local_path.h"
#include "clients/cli/output.h"
#include "protocol/base/utf8.h"
#include "protocol/place.h"

const struct cli_option files_copy_options[] = {
    {"recursive", 'r', OPTION_FLAG, NULL, "folders, with all that is in them"},
    {"move", 0, OPTION_FLAG, NULL, "remove each source file when its copy is safe"},
    {"overwrite", 0, OPTION_FLAG, NULL, "replace files that are there and differ"},
    {"update", 0, OPTION_FLAG, NULL, "replace those that are older than their source"},
    {"verify", 0, OPTION_FLAG, NULL, "compare contents, not only size and time"},
    {"dry-run", 'n', OPTION_FLAG, NULL, "only say what would go, and how much of it is there"},
    {"exclude", 0, OPTION_LIST, "PATTERN", "leave out what fits it; again for more"},
    {"limit", 0, OPTION_SIZE, "SIZE", "send at most so many bytes a second (10M)"},
    {"compress", 0, OPTION_TEXT, "WHEN", "auto (where it pays), always or never"},
    {0},
};

/* ---- one copy ---- */

struct copying {
    struct cli *cli;
    struct copy_show show;
    gw_value errors; /* list of {path, code, reason} */
    gw_value done;   /* the last item; nil before */
    gw_err err;
};

static gw_err keep(gw_value *list, const gw_value *item)
{
    gw_value copy = gw_nil();
    GW_TRY(gw_value_copy(item, &copy));
    return gw_list_add(list, copy);
}

static void print_failure(struct copying *c, const gw_value *item)
{
    GW_AUTO(buf_free) struct buf text = {0};
    output_add_clean(gw_map_str(item, "path", ""), &text);
    buf_addf(&text, ": ");
    output_add_clean(gw_map_str(item, "reason", gw_map_str(item, "code", "failed")), &text);
    copy_show_wipe(&c->show);
    if (buf_ok(&text)) {
        fprintf(stderr, "godwit: %.*s\n", (int)text.len, (const char *)text.data);
    }
}

/* With --dry-run each entry that would go, one a line on standard output. */
static gw_err print_plan(const gw_value *item)
{
    GW_AUTO(buf_free) struct buf text = {0};
    output_add_clean(gw_map_str(item, "would", ""), &text);
    buf_addf(&text, " ");
    output_add_clean(gw_map_str(item, "path", ""), &text);
    buf_addf(&text, "\n");
    fwrite(text.data, 1, buf_ok(&text) ? text.len : 0, stdout);
    return buf_ok(&text) ? GW_OK : GW_ENOMEM;
}

static bool on_item(void *arg, const gw_value *item)
{
    struct copying *c = arg;
    if (gw_map_bool(item, "done", false)) {
        c->err = gw_value_copy(item, &c->done);
    } else if (gw_map_get(item, "code")) {
        c->err = keep(&c->errors, item);
        if (!c->cli->json) {
            print_failure(c, item);
        }
    } else if (gw_map_get(item, "would")) {
        c->err = c->cli->json || c->cli->quiet ? GW_OK : print_plan(item);
    } else {
        copy_show_item(&c->show, c->cli, item);
    }
    return c->err == GW_OK;
}

/* {bytes, sent_bytes, saved_bytes, seconds, hash, files, failed, from, to, errors} */
static gw_err print_json(struct copying *c, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    for (size_t i = 0; i < c->done.map.n; i++) {
        struct gw_member *m = &c->done.map.items[i];
        gw_value v = m->value;
        m->value = gw_nil();
        if (strcmp(m->key, "done") == 0) {
            gw_value_free(&v);
            continue;
        }
        GW_TRY(gw_map_set(&result, m->key, v));
    }
    gw_value errors = c->errors;
    c->errors = gw_nil();
    GW_TRY(gw_map_set(&result, "errors", errors));
    return output_json(&result, why);
}

static gw_err print_done(struct copying *c, struct gw_error *why)
{
    struct cli *cli = c->cli;
    GW_AUTO(buf_free) struct buf text = {0};
    int64_t failed = gw_map_int(&c->done, "failed", 0);
    cli->exit_code = failed > 0 ? gw_err_exit(GW_EFAIL) : 0;
    if (cli->json) {
        return print_json(c, why);
    }
    copy_line_summary(&c->done, option_given(&cli->options, "dry-run"), &text);
    buf_add(&text, "", 1);
    if (!buf_ok(&text)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    output_note(cli, "%s", (const char *)text.data);
    if (failed > 0) {
        fprintf(stderr, "godwit: %lld could not be copied%s\n", (long long)failed,
                failed > (int64_t)c->errors.list.n ? "; not all of them are named" : "");
    }
    return GW_OK;
}

static gw_err run_copy(struct cli *cli, const gw_value *args, struct gw_error *why)
{
    struct gw_client *client;
    struct copying c = {.cli = cli, .errors = {.kind = GW_LIST}};
    GW_TRY(cli_client(cli, &client, why));
    gw_err err =
        gw_client_stream(client, "files.copy", args,
                         cli->timeout_given ? cli->timeout_ms : GW_FOREVER, on_item, &c, why);
    copy_show_wipe(&c.show);
    if (err == GW_OK && (c.err != GW_OK || c.done.kind != GW_MAP)) {
        err =
            gw_fail(why, c.err != GW_OK ? c.err : GW_EFAIL, "the report of the copy is not whole");
    }
    if (err == GW_OK) {
        err = print_done(&c, why);
    } else if (!option_given(&cli->options, "dry-run") && why && !why->hint[0] &&
               (err == GW_ECANCELLED || err == GW_ETIMEOUT || err == GW_EUNREACHABLE ||
                err == GW_EDISK_FULL || err == GW_ESTOPPING)) {
        gw_hint(why, "what is there stays: the same command again goes on from there");
    }
    gw_value_free(&c.errors);
    gw_value_free(&c.done);
    return err;
}

/* ---- arguments ---- */

static gw_err set_strs(gw_value *args, const char *key, const gw_strs *list)
{
    gw_value v = {.kind = GW_LIST};
    for (size_t i = 0; i < list->len; i++) {
        gw_err err = gw_list_add(&v, gw_str(list->items[i]));
        if (err != GW_OK) {
            gw_value_free(&v);
            return err;
        }
    }
    return gw_map_set(args, key, v);
}

static gw_err read_options(const struct cli *cli, gw_value *args, struct gw_error *why)
{
    static const struct {
        const char *option, *arg;
    } flags[] = {{"recursive", "recursive"}, {"move", "move"},     {"overwrite", "overwrite"},
                 {"update", "update"},       {"verify", "verify"}, {"dry-run", "dry_run"}};
    const struct options *o = &cli->options;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (option_given(o, flags[i].option)) {
            GW_TRY(gw_map_set(args, flags[i].arg, gw_bool(true)));
        }
    }
    if (option_list(o, "exclude")->len > 0) {
        GW_TRY(set_strs(args, "exclude", option_list(o, "exclude")));
    }
    if (option_given(o, "limit")) {
        if (option_int(o, "limit", 0) == 0) {
            return gw_fail(why, GW_EARG, "--limit 0 would send nothing");
        }
        GW_TRY(gw_map_set(args, "limit", gw_int(option_int(o, "limit", 0))));
    }
    const char *when = option_text(o, "compress");
    if (when && strcmp(when, "auto") != 0 && strcmp(when, "always") != 0 &&
        strcmp(when, "never") != 0) {
        return gw_fail(why, GW_EARG, "--compress: \"%.60s\" is not auto, always or never", when);
    }
    return when ? gw_map_set(args, "compress", gw_str(when)) : GW_OK;
}

/* A path of the host that is asked: of this machine when it runs here. */
static gw_err own_path(struct cli *cli, const char *typed, bool is_source, char **ret,
                       struct gw_error *why)
{
    struct gw_client *client;
    struct place p = {0};
    GW_TRY(cli_client(cli, &client, why));
    if (gw_client_is_local(client)) {
        GW_TRY(local_path(typed, is_source, ret, why));
    } else if (!(*ret = strdup(typed))) {
        gw_fail(why, GW_ENOMEM, "out of memory");
        return GW_ENOMEM;
    }
    if (is_source && access(typed, F_OK) != 0 && place_parse(typed, &p, NULL) == GW_OK) {
        place_free(&p);
        output_note(cli,
                    "\"%s\" is taken for a path here; `godwit files copy` goes from host to host",
                    typed);
    }
    return GW_OK;
}

static gw_err path_value(const char *path, gw_value *ret, struct gw_error *why)
{
    if (!utf8_is_valid(path, strlen(path))) {
        gw_fail(why, GW_EARG, "a path is not UTF-8");
        gw_hint(why, "name the folder that it is in: the names in it may be any bytes");
        return GW_EARG;
    }
    gw_err err = gw_value_set_str(ret, path, strlen(path));
    return err ? gw_fail(why, err, "out of memory") : GW_OK;
}

static gw_err add_source(gw_value *list, const char *path, struct gw_error *why)
{
    gw_value v = gw_nil();
    GW_TRY(path_value(path, &v, why));
    gw_err err = gw_list_add(list, v);
    return err ? gw_fail(why, err, "out of memory") : GW_OK;
}

/* SEL:PATH sources, all of one host. */
static gw_err take_places(struct cli *cli, gw_value *args, gw_value *sources, struct gw_error *why)
{
    GW_AUTO(free_charp) char *from = NULL;
    for (int i = 0; i + 1 < cli->argc; i++) {
        struct place p = {0};
        GW_TRY(place_parse(cli->argv[i], &p, why));
        gw_err err = add_source(sources, p.path, why);
        if (err == GW_OK && from && strcmp(from, p.selector) != 0) {
            err = gw_fail(why, GW_EARG, "sources of two hosts: \"%.60s\" and \"%.60s\"", from,
                          p.selector);
            gw_hint(why, "copy from each host by a command of its own");
        }
        if (err == GW_OK && !from && !(from = strdup(p.selector))) {
            err = gw_fail(why, GW_ENOMEM, "out of memory");
        }
        place_free(&p);
        GW_TRY(err);
    }
    return gw_map_set(args, "from", gw_str(from));
}

static gw_err take_own(struct cli *cli, gw_value *sources, struct gw_error *why)
{
    for (int i = 0; i + 1 < cli->argc; i++) {
        GW_AUTO(free_charp) char *path = NULL;
        GW_TRY(own_path(cli, cli->argv[i], true, &path, why));
        GW_TRY(add_source(sources, path, why));
    }
    return GW_OK;
}

static gw_err set_path(gw_value *args, const char *key, const char *path, struct gw_error *why)
{
    gw_value v = gw_nil();
    GW_TRY(path_value(path, &v, why));
    gw_err err = gw_map_set(args, key, v);
    return err ? gw_fail(why, err, "out of memory") : GW_OK;
}

static gw_err take_destination(struct cli *cli, bool own, gw_value *args, struct gw_error *why)
{
    const char *typed = cli->argv[cli->argc - 1];
    if (own) {
        GW_AUTO(free_charp) char *path = NULL;
        GW_TRY(own_path(cli, typed, false, &path, why));
        return set_path(args, "dst", path, why);
    }
    struct place p = {0};
    GW_TRY(place_parse(typed, &p, why));
    gw_err err = set_path(args, "dst", p.path, why);
    err = err ? err : gw_map_set(args, "to", gw_str(p.selector));
    place_free(&p);
    return err;
}

static gw_err transfer(struct cli *cli, bool own_sources, bool own_destination,
                       struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    gw_value sources = {.kind = GW_LIST};
    GW_TRY(read_options(cli, &args, why));
    GW_TRY(take_destination(cli, own_destination, &args, why));
    gw_err err =
        own_sources ? take_own(cli, &sources, why) : take_places(cli, &args, &sources, why);
    if (err != GW_OK) {
        gw_value_free(&sources);
        return err;
    }
    GW_TRY(gw_map_set(&args, "sources", sources));
    return run_copy(cli, &args, why);
}

gw_err files_push_run(struct cli *cli, struct gw_error *why)
{
    return transfer(cli, true, false, why);
}

gw_err files_pull_run(struct cli *cli, struct gw_error *why)
{
    return transfer(cli, false, true, why);
}

gw_err files_copy_run(struct cli *cli, struct gw_error *why)
{
    return transfer(cli, false, false, why);
}

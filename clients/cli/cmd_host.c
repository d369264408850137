/* stop, status, metrics, hosts, types. */
#include "clients/cli/commands.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/output.h"
#include "clients/cli/table.h"
#include "protocol/base/buf.h"
#include "protocol/text.h"

#define STOP_TIMEOUT_MS 60000
#define STOP_STEP_MS    200 /* between two looks while progress is shown */

gw_err status_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value status = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "status", NULL, cli->timeout_ms, &status, why));
    const gw_value *uptime = gw_map_get(&status, "uptime_ms");
    if (!cli->json && uptime && uptime->kind == GW_INT) {
        char text[TEXT_SHORT_SIZE];
        gw_err err = gw_map_set(&status, "uptime_ms", gw_str(text_from_duration(uptime->i, text)));
        if (err != GW_OK) {
            return gw_fail(why, err, "out of memory");
        }
    }
    return output_result(cli, &status, why);
}

gw_err metrics_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "metrics", NULL, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    const char *line = gw_map_str(&result, "text", "");
    GW_AUTO(buf_free) struct buf out = {0};
    while (*line) {
        size_t n = strcspn(line, "\n");
        GW_AUTO(free_charp) char *one = strndup(line, n);
        output_add_clean(one ? one : "", &out);
        buf_addf(&out, "\n");
        line += n + (line[n] == '\n');
    }
    if (!buf_ok(&out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    fwrite(out.data, 1, out.len, stdout);
    return GW_OK;
}

gw_err hosts_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"NAME", "name", false},       {"STATE", "state", false},           {"URL", "url", false},
        {"TAGS", "tags", false},       {"PROPERTIES", "properties", false}, {"SELF", "self", false},
        {"HOST ID", "host_id", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value result = gw_nil();
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "hosts", NULL, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    return table_print(cli, gw_map_get(&result, "hosts"), columns,
                       sizeof columns / sizeof columns[0], why);
}

/* ---- types ---- */

/* The contract of a method: "increment(by: int = 1) -> (count: int)". */
static const char *method_text(const gw_value *method)
{
    const char *text = gw_map_str(method, "signature", NULL);
    text = text ? text : gw_map_str(method, "text", NULL);
    return text ? text : gw_map_str(method, "name", "?");
}

static void print_method(const gw_value *method)
{
    GW_AUTO(buf_free) struct buf line = {0};
    output_add_clean(method_text(method), &line);
    if (buf_ok(&line)) {
        printf("  %.*s%s\n", (int)line.len, (const char *)line.data,
               gw_map_bool(method, "read", false) ? "  (read only)" : "");
    }
}

static void print_type(const gw_value *type)
{
    const gw_value *fields = gw_map_get(type, "fields"), *methods = gw_map_get(type, "methods");
    for (size_t i = 0; i < type->map.n; i++) {
        const struct gw_member *m = &type->map.items[i];
        if (&m->value == fields || &m->value == methods) {
            continue;
        }
        GW_AUTO(free_charp) char *text = output_text(&m->value);
        printf("%s: %s\n", m->key, text[0] ? text : "-");
    }
    printf("fields:\n");
    for (size_t i = 0; fields && fields->kind == GW_LIST && i < fields->list.n; i++) {
        const gw_value *field = &fields->list.items[i];
        GW_AUTO(free_charp) char *name = output_text(gw_map_get(field, "name"));
        GW_AUTO(free_charp) char *kind = output_text(gw_map_get(field, "type"));
        printf("  %s: %s\n", name, kind);
    }
    printf("methods:\n");
    for (size_t i = 0; methods && methods->kind == GW_LIST && i < methods->list.n; i++) {
        print_method(&methods->list.items[i]);
    }
}

/* For the table: the names of the methods in place of their descriptions. */
static gw_err shorten_methods(gw_value *types)
{
    for (size_t i = 0; i < types->list.n; i++) {
        const gw_value *methods = gw_map_get(&types->list.items[i], "methods");
        gw_value names = {.kind = GW_LIST};
        for (size_t k = 0; methods && methods->kind == GW_LIST && k < methods->list.n; k++) {
            const char *text = method_text(&methods->list.items[k]);
            GW_TRY(gw_list_add(&names, gw_strf("%.*s", (int)strcspn(text, "("), text)));
        }
        if (types->list.items[i].kind == GW_MAP) {
            GW_TRY(gw_map_set(&types->list.items[i], "methods", names));
        } else {
            gw_value_free(&names);
        }
    }
    return GW_OK;
}

/* Plugins that could not be loaded. */
static void note_broken(const struct cli *cli, const gw_value *broken)
{
    for (size_t i = 0; broken && broken->kind == GW_LIST && i < broken->list.n; i++) {
        const gw_value *one = &broken->list.items[i];
        const char *hint = gw_map_str(one, "hint", "");
        output_note(cli, "not loaded: %s%s%s",
                    gw_map_str(one, "problem", gw_map_str(one, "plugin", "?")), hint[0] ? "\n" : "",
                    hint);
    }
}

gw_err types_run(struct cli *cli, struct gw_error *why)
{
    static const struct table_column columns[] = {
        {"TYPE", "name", false},
        {"VERSION", "version", true},
        {"DURABILITY", "durability", false},
        {"METHODS", "methods", false},
    };
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    if (cli->argc > 0) {
        GW_TRY(gw_map_set(&args, "name", gw_str(cli->argv[0])));
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "types", &args, cli->timeout_ms, &result, why));
    if (cli->json) {
        return output_json(&result, why);
    }
    note_broken(cli, gw_map_get(&result, "broken"));
    gw_value *types = (gw_value *)(uintptr_t)gw_map_get(&result, "types"); /* ours, in `result` */
    if (!types || types->kind != GW_LIST) {
        return output_card(&result, why);
    }
    if (cli->argc > 0) {
        for (size_t i = 0; i < types->list.n; i++) {
            if (types->list.items[i].kind == GW_MAP) {
                print_type(&types->list.items[i]);
            }
        }
        return GW_OK;
    }
    if (shorten_methods(types) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return table_print(cli, types, columns, sizeof columns / sizeof columns[0], why);
}

/* ---- stop ---- */

struct stop_wait {
    int64_t deadline_ms, began_ms;
    const char *name;
    bool shown;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One more look was in vain: go on, or say why not. */
static gw_err keep_waiting(struct cli *cli, struct stop_wait *w, struct gw_error *why)
{
    if (cli_interrupted()) {
        return gw_fail(why, GW_ECANCELLED, "interrupted; the host goes on stopping");
    }
    int64_t now = now_ms();
    if (now >= w->deadline_ms) {
        return gw_fail(why, GW_ETIMEOUT,
                       "host \"%s\" was asked to stop and is still there after %lld s", w->name,
                       (long long)(now - w->began_ms) / 1000);
    }
    if (cli->tty && !cli->quiet && !cli->json) {
        fprintf(stderr, "\rstopping %s … %lld s", w->name, (long long)(now - w->began_ms) / 1000);
        w->shown = true;
    }
    return GW_OK;
}

/* The link closes first, the process ends last. */
static gw_err wait_gone(struct cli *cli, struct gw_client *client, int pidfd, struct stop_wait *w,
                        struct gw_error *why)
{
    gw_err err;
    while ((err = gw_client_wait_closed(client, STOP_STEP_MS, NULL)) == GW_ETIMEOUT) {
        GW_TRY(keep_waiting(cli, w, why));
    }
    if (err == GW_ECANCELLED) {
        return gw_fail(why, err, "interrupted; the host goes on stopping");
    }
    struct pollfd process = {.fd = pidfd, .events = POLLIN};
    while (pidfd >= 0 && poll(&process, 1, STOP_STEP_MS) <= 0) {
        GW_TRY(keep_waiting(cli, w, why));
    }
    return GW_OK;
}

static gw_err stop_host(struct cli *cli, const gw_value *status, struct gw_error *why)
{
    struct gw_client *client;
    GW_TRY(cli_client(cli, &client, why));
    int64_t pid = gw_map_int(status, "pid", 0);
    int pidfd =
        gw_client_is_local(client) && pid > 1 && pid <= INT32_MAX ? pidfd_open((pid_t)pid, 0) : -1;
    int64_t timeout = cli->timeout_given ? cli->timeout_ms : STOP_TIMEOUT_MS;
    struct stop_wait w = {.began_ms = now_ms(), .name = gw_map_str(status, "name", "?")};
    w.deadline_ms = w.began_ms + timeout;
    gw_err err = gw_client_call(client, "stop", NULL, timeout, NULL, why);
    if (err == GW_OK || err == GW_ESTOPPING || err == GW_EUNREACHABLE) {
        err = wait_gone(cli, client, pidfd, &w, why); /* it may have gone before it answered */
    }
    if (w.shown) {
        fprintf(stderr, "\r\x1b[K");
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
    return err;
}

gw_err stop_run(struct cli *cli, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value status = gw_nil(), result = gw_nil();
    if (cli->argc > 0) {
        cli->host = cli->argv[0];
    }
    GW_TRY(cli_client(cli, &client, why));
    GW_TRY(gw_client_call(client, "status", NULL, cli->timeout_ms, &status, why));
    GW_TRY(stop_host(cli, &status, why));
    if (!cli->json) {
        GW_AUTO(free_charp) char *name = output_text(gw_map_get(&status, "name"));
        printf("host \"%s\" stopped\n", name);
        return GW_OK;
    }
    GW_TRY(gw_map_set(&result, "name", gw_str(gw_map_str(&status, "name", ""))));
    GW_TRY(gw_map_set(&result, "host_id", gw_str(gw_map_str(&status, "host_id", ""))));
    GW_TRY(gw_map_set(&result, "pid", gw_int(gw_map_int(&status, "pid", 0))));
    GW_TRY(gw_map_set(&result, "stopped", gw_bool(true)));
    return output_json(&result, why);
}

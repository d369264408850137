#include "clients/lib/find.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <godwit/client.h>

#include "protocol/base/id.h"

static gw_err local_target(const char *home, const char *name, struct find_target *ret,
                           struct gw_error *why)
{
    char folder[FILE_PATH_BYTES];
    GW_TRY(file_join(folder, why, home, "hosts"));
    GW_TRY(file_join(ret->dir, why, folder, name));
    ret->local = true;
    snprintf(ret->text, sizeof ret->text, "host \"%s\"", name);
    return GW_OK;
}

static gw_err url_target(const char *url, const char *name, struct find_target *ret,
                         struct gw_error *why)
{
    struct conn_url parts;
    GW_TRY(conn_parse_url(url, &parts, why));
    ret->local = false;
    snprintf(ret->url, sizeof ret->url, "%s", url);
    if (name) {
        snprintf(ret->text, sizeof ret->text, "host \"%s\"", name);
    } else {
        snprintf(ret->text, sizeof ret->text, "\"%s\"", url);
    }
    return GW_OK;
}

bool find_is_running(const char *home, const char *name)
{
    struct find_target target;
    struct conn c = CONN_CLOSED;
    bool running = local_target(home, name, &target, NULL) == GW_OK &&
                   conn_open_unix(&c, target.dir, NULL) == GW_OK;
    conn_close(&c);
    return running;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

gw_err find_names(const char *home, bool running, gw_strs *ret, struct gw_error *why)
{
    char folder[FILE_PATH_BYTES];
    GW_TRY(file_join(folder, why, home, "hosts"));
    DIR *dir = opendir(folder);
    if (!dir) {
        return errno == ENOENT || errno == ENOTDIR
                   ? GW_OK
                   : gw_fail(why, GW_EDENIED, "cannot read \"%s\": %s", folder, strerror(errno));
    }
    gw_err err = GW_OK;
    const struct dirent *entry;
    while (err == GW_OK && (entry = readdir(dir))) {
        if (name_is_valid(entry->d_name) && (!running || find_is_running(home, entry->d_name))) {
            err = gw_strs_add(ret, entry->d_name);
        }
    }
    closedir(dir);
    if (err != GW_OK) {
        return gw_fail(why, err, "out of memory");
    }
    if (ret->len > 0) {
        qsort(ret->items, ret->len, sizeof *ret->items, by_text);
    }
    return GW_OK;
}

/* "alpha, beta, gamma", cut at `cap`. */
static void join_names(const gw_strs *names, char *ret, size_t cap)
{
    size_t used = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < names->len; i++) {
        int n = snprintf(ret + used, cap - used, "%s%s", i ? ", " : "", names->items[i]);
        if (n < 0 || (size_t)n >= cap - used) {
            return;
        }
        used += (size_t)n;
    }
}

/* No host was named: there must be exactly one that runs. */
static gw_err find_only(const char *home, struct conn *c, struct find_target *ret,
                        struct gw_error *why)
{
    GW_AUTO(gw_strs_clear) gw_strs names = {0};
    GW_TRY(find_names(home, true, &names, why));
    if (names.len == 0) {
        gw_err err = gw_fail(why, GW_EUNREACHABLE, "no host runs under \"%s\"", home);
        gw_hint(why, "start one: godwit host --name NAME --detach");
        return err;
    }
    if (names.len > 1) {
        char text[160];
        join_names(&names, text, sizeof text);
        gw_err err = gw_fail(why, GW_EAMBIGUOUS, "more than one host runs here: %s", text);
        gw_hint(why, "name one: -H %s, or set GODWIT_HOST", names.items[0]);
        return err;
    }
    GW_TRY(local_target(home, names.items[0], ret, why));
    return conn_open_unix(c, ret->dir, why);
}

/* The URL of the member with this name or id, from an answer of `hosts`; NULL when there is none.
 */
static const char *url_of_member(const gw_value *answer, const char *spec)
{
    const gw_value *hosts = gw_map_get(answer, "hosts");
    for (size_t i = 0; hosts && hosts->kind == GW_LIST && i < hosts->list.n; i++) {
        const gw_value *host = &hosts->list.items[i];
        if (strcmp(gw_map_str(host, "name", ""), spec) == 0 ||
            strcasecmp(gw_map_str(host, "host_id", ""), spec) == 0) {
            return gw_map_str(host, "url", NULL);
        }
    }
    return NULL;
}

/* Ask the hosts that run here, one after the other, for a member of this name. */
static gw_err find_member(const char *home, const char *spec, struct find_target *ret,
                          int64_t deadline_ms, struct gw_error *why)
{
    GW_AUTO(gw_strs_clear) gw_strs names = {0};
    GW_TRY(find_names(home, true, &names, why));
    for (size_t i = 0; i < names.len; i++) {
        int64_t left = deadline_ms - conn_now_ms();
        struct gw_client_options o = {.host = names.items[i],
                                      .home = home,
                                      .connect_ms = left > 0 ? left : 1,
                                      .retry_ms = -1};
        struct gw_client *client;
        gw_value answer = gw_nil();
        if (gw_client_open(&o, &client, NULL) != GW_OK) {
            continue; /* it stopped just now; another may know */
        }
        gw_err err = gw_client_call(client, "hosts", NULL, left > 0 ? left : 1, &answer, NULL);
        gw_client_close(client);
        const char *url = err == GW_OK ? url_of_member(&answer, spec) : NULL;
        if (url) {
            err = url_target(url, spec, ret, why);
            gw_value_free(&answer);
            return err;
        }
        gw_value_free(&answer);
    }
    if (names.len == 0) {
        gw_err err = gw_fail(why, GW_EUNREACHABLE, "host \"%s\" does not run here", spec);
        gw_hint(why, "start it: godwit host --name %s --detach", spec);
        return err;
    }
    char text[160];
    join_names(&names, text, sizeof text);
    gw_err err =
        gw_fail(why, GW_EHOST_NOT_FOUND, "no host \"%s\" runs here or is known in the mesh", spec);
    gw_hint(why, "running here: %s; see \"godwit hosts\"", text);
    return err;
}

gw_err find_host(const char *home, const char *spec, struct conn *c, struct find_target *ret,
                 int64_t deadline_ms, struct gw_error *why)
{
    if (!spec || !spec[0]) {
        spec = getenv("GODWIT_HOST");
    }
    if (!spec || !spec[0]) {
        return find_only(home, c, ret, why);
    }
    if (strstr(spec, "://")) {
        return url_target(spec, NULL, ret, why);
    }
    if (!name_is_valid(spec)) {
        return gw_fail(why, GW_EARG, "\"%.80s\" is neither the name of a host nor a URL", spec);
    }
    GW_TRY(local_target(home, spec, ret, why));
    gw_err err = conn_open_unix(c, ret->dir, why);
    if (err != GW_EUNREACHABLE) {
        return err;
    }
    return find_member(home, spec, ret, deadline_ms, why);
}

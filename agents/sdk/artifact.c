/* Artifacts of agents: the host stores, fetches and removes them. */
#include <godwit/artifact.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agents/sdk/call.h"
#include "protocol/value.h"

/* ---- as text ---- */

static bool copy(const char *from, size_t n, char *ret, size_t cap)
{
    return span_text((struct span){(const uint8_t *)from, n}, ret, cap);
}

char *gw_artifact_text(const struct gw_artifact *a, char ret[GW_ARTIFACT_TEXT])
{
    snprintf(ret, GW_ARTIFACT_TEXT, "%s%s%s", a->hash, a->host[0] ? "@" : "", a->host);
    return ret;
}

gw_err gw_artifact_parse(const char *text, struct gw_artifact *ret)
{
    struct gw_artifact out = {.size = 0};
    const char *at = strchr(text, '@');
    size_t n = at ? (size_t)(at - text) : strlen(text);
    if (n != sizeof out.hash - 1 || strspn(text, "0123456789abcdefABCDEF") != n ||
        !copy(text, n, out.hash, sizeof out.hash)) {
        return GW_EARG;
    }
    if (at && (!at[1] || !copy(at + 1, strlen(at + 1), out.host, sizeof out.host))) {
        return GW_EARG;
    }
    for (char *p = out.hash; *p; p++) {
        *p = *p >= 'A' && *p <= 'F' ? (char)(*p - 'A' + 'a') : *p;
    }
    *ret = out;
    return GW_OK;
}

gw_value gw_artifact_value(const struct gw_artifact *a)
{
    char text[GW_ARTIFACT_TEXT];
    return gw_str(gw_artifact_text(a, text));
}

gw_err gw_arg_artifact(struct gw_call *call, const char *name, struct gw_artifact *ret)
{
    const char *text = gw_arg_str(call, name);
    return gw_artifact_parse(text, ret) == GW_OK
               ? GW_OK
               : gw_call_fail(call, GW_EARG, "\"%.64s\" is \"%.100s\", no artifact", name, text);
}

gw_err gw_reply_artifact(struct gw_call *call, const char *name, const struct gw_artifact *a)
{
    char text[GW_ARTIFACT_TEXT];
    return gw_reply_str(call, name, gw_artifact_text(a, text));
}

/* ---- asking the host ---- */

static gw_err no_memory(struct gw_call *call, gw_value *args)
{
    gw_value_free(args);
    return gw_call_fail(call, GW_ENOMEM, "out of memory for an artifact");
}

/* What the host says about one. */
static gw_err take_about(struct gw_call *call, const gw_value *about, const char *host,
                         struct gw_artifact *ret)
{
    const char *name = gw_map_str(about, "name", ""), *type = gw_map_str(about, "type", "");
    const gw_value *expires = gw_map_get(about, "expires");
    struct gw_artifact out;
    if (gw_artifact_parse(gw_map_str(about, "hash", ""), &out) != GW_OK ||
        !copy(host, strlen(host), out.host, sizeof out.host) ||
        !copy(name, strlen(name), out.name, sizeof out.name) ||
        !copy(type, strlen(type), out.type, sizeof out.type)) {
        return gw_call_fail(call, GW_EPROTO, "the answer of the host names no artifact");
    }
    out.size = (uint64_t)gw_map_int(about, "size", 0);
    out.expires = expires && expires->kind == GW_TIME ? expires->time : (gw_time){0};
    *ret = out;
    return GW_OK;
}

static gw_err ask_about(struct gw_call *call, const char *op, const struct gw_artifact *a,
                        bool path, gw_value *ret)
{
    gw_value args = {0};
    gw_err err = gw_map_set(&args, "artifact", gw_artifact_value(a));
    if (err == GW_OK && path) {
        err = gw_map_set(&args, "path", gw_bool(true));
    }
    return err != GW_OK ? no_memory(call, &args) : verbs_blocking(call, op, NULL, false, args, ret);
}

/* ---- put ---- */

gw_err gw_artifact_put(struct gw_call *call, const char *path, const struct gw_artifact_options *o,
                       struct gw_artifact *ret)
{
    gw_value args = {0}, answer = {0};
    gw_err err = gw_map_set(&args, "path", gw_str(path));
    if (o && o->ttl_ms < 0) {
        gw_value_free(&args);
        return gw_call_fail(call, GW_EARG, "a ttl of %lld ms is none", (long long)o->ttl_ms);
    }
    if (err == GW_OK && o && o->name) {
        err = gw_map_set(&args, "name", gw_str(o->name));
    }
    if (err == GW_OK && o && o->type) {
        err = gw_map_set(&args, "type", gw_str(o->type));
    }
    if (err == GW_OK && o && o->ttl_ms > 0) {
        err = gw_map_set(&args, "ttl", gw_int(o->ttl_ms));
    }
    if (err != GW_OK) {
        return no_memory(call, &args);
    }
    GW_TRY(verbs_blocking(call, "artifacts.import", NULL, false, args, &answer));
    err = take_about(call, &answer, gw_host_id(call), ret);
    gw_value_free(&answer);
    return err;
}

static gw_err write_file(struct gw_call *call, const char *path, const uint8_t *p, size_t n)
{
    (void)unlink(path); /* of a handler that was killed */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0;
    int fault = errno;
    while (good && n > 0) {
        ssize_t wrote = write(fd, p, n);
        good = wrote >= 0 || errno == EINTR;
        fault = errno;
        p += wrote > 0 ? wrote : 0;
        n -= wrote > 0 ? (size_t)wrote : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return good ? GW_OK
                : gw_call_fail(call, fault == ENOSPC ? GW_EDISK_FULL : GW_EIO,
                               "cannot write \"%s\": %s", path, strerror(fault));
}

gw_err gw_artifact_put_bytes(struct gw_call *call, const void *data, size_t len,
                             const struct gw_artifact_options *o, struct gw_artifact *ret)
{
    const char *folder;
    char path[1300];
    struct gw_artifact_options named = o ? *o : (struct gw_artifact_options){.name = NULL};
    named.name = named.name ? named.name : "";
    GW_TRY(gw_work_dir(call, &folder));
    snprintf(path, sizeof path, "%s/.artifact.new", folder);
    gw_err err = write_file(call, path, data, len);
    if (err == GW_OK) {
        err = gw_artifact_put(call, path, &named, ret);
    }
    (void)unlink(path); /* it need not be there */
    return err;
}

/* ---- the others ---- */

gw_err gw_artifact_fetch(struct gw_call *call, const struct gw_artifact *a, const char **ret_path)
{
    gw_value answer = {0};
    GW_TRY(ask_about(call, "artifacts.fetch", a, true, &answer));
    const char *path = gw_map_str(&answer, "path", "");
    gw_err err = GW_OK;
    if (path[0] != '/') {
        err = gw_call_fail(call, GW_EPROTO, "the answer of the host names no file");
    } else if (gw_strs_add(&call->texts, path) != GW_OK) {
        err = gw_call_fail(call, GW_ENOMEM, "out of memory for a path");
    } else {
        *ret_path = call->texts.items[call->texts.len - 1];
    }
    gw_value_free(&answer);
    return err;
}

gw_err gw_artifact_info(struct gw_call *call, const struct gw_artifact *a, struct gw_artifact *ret)
{
    gw_value answer = {0};
    GW_TRY(ask_about(call, "artifacts.find", a, false, &answer));
    const gw_value *hosts = gw_map_get(&answer, "hosts");
    const char *host = a->host;
    if (hosts && hosts->kind == GW_LIST && hosts->list.n > 0 &&
        hosts->list.items[0].kind == GW_STR) {
        host = hosts->list.items[0].s.p;
    }
    gw_err err = take_about(call, &answer, host, ret);
    gw_value_free(&answer);
    return err;
}

gw_err gw_artifact_drop(struct gw_call *call, const struct gw_artifact *a)
{
    gw_value answer = {0};
    GW_TRY(ask_about(call, "artifacts.release", a, false, &answer));
    gw_value_free(&answer);
    return GW_OK;
}

gw_err gw_send_artifact(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                        const char *arg, const char *path, const struct gw_artifact_options *o,
                        struct gw_artifact *ret, gw_value *ret_reply)
{
    struct gw_artifact a;
    gw_err err = gw_artifact_put(call, path, o, &a);
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    if (gw_map_set(&args, arg, gw_artifact_value(&a)) != GW_OK) {
        err = no_memory(call, &args);
    } else {
        err = gw_ask(call, agent, method, args, ret_reply);
    }
    if (err != GW_OK) {
        struct gw_error first = *gw_call_why(call);
        gw_err dropped = gw_artifact_drop(call, &a);
        if (dropped != GW_OK) {
            gw_log(call, GW_LOG_WARN, "artifact %s stays: %s", a.hash, gw_call_why(call)->text);
        }
        *gw_call_why(call) = first;
        return err;
    }
    if (ret) {
        *ret = a;
    }
    return GW_OK;
}

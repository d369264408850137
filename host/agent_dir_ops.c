/* Folders of agents: the operation by which handlers ask for them, and the thread of agent_dirs.h
 * on the loop. */
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "host/agent_dirs.h"
#include "host/core/op_handlers.h"
#include "host/host.h"
#include "protocol/base/log.h"
#include "protocol/value.h"

/* ---- the operation ---- */

static gw_err describe(const struct dirs_folder *folder, gw_value *ret)
{
    GW_TRY(gw_map_set(ret, "path", gw_str(folder->path)));
    GW_TRY(gw_map_set(ret, "bytes", gw_int((int64_t)folder->bytes)));
    return gw_map_set(ret, "quota", gw_int((int64_t)folder->quota));
}

static void folder_done(void *arg, gw_err err, const struct dirs_folder *folder,
                        const struct gw_error *why)
{
    struct op_call *call = arg;
    struct gw_error none;
    gw_value result = gw_nil();
    if (err == GW_OK && (err = describe(folder, &result)) != GW_OK) {
        gw_fail(&none, err, "out of memory for an answer");
        why = &none;
    }
    if (err == GW_OK) {
        op_ok(call, &result);
    } else {
        gw_value_free(&result);
        op_fail(call, why);
    }
}

const char *agent_dir_ops_who(struct node *n, const struct op_call *call, gw_id *ret,
                              struct gw_error *why)
{
    const gw_value *who = gw_map_get(&call->context, "agent");
    char text[GW_ID_TEXT];
    if (call->peer || !who || who->kind != GW_ID) {
        gw_fail(why, GW_EDENIED, "\"%s\" is for handlers of agents", call->op->name);
        return NULL;
    }
    const char *type = node_agent_type(n, &who->id);
    if (!type) {
        gw_fail(why, GW_EAGENT_NOT_FOUND, "agent %s does not live here",
                gw_id_text(&who->id, text));
        return NULL;
    }
    *ret = who->id;
    return type;
}

void op_folder(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct gw_error why;
    char text[GW_ID_TEXT];
    gw_id id;
    const char *type = agent_dir_ops_who(n, call, &id, &why);
    if (!type) {
        op_fail(call, &why);
        return;
    }
    bool storage = gw_map_bool(&call->args, "storage", false);
    agent_dirs_want(h->dirs, storage ? DIRS_STORAGE : DIRS_WORK,
                    storage ? type : gw_id_text(&id, text), gw_map_bool(&call->args, "look", false),
                    folder_done, call);
}

/* ---- the thread ---- */

static void wake(void *arg)
{
    const struct host *h = arg;
    uint64_t one = 1;
    ssize_t n = write(h->dirs_fd, &one, sizeof one);
    (void)n; /* full means awake */
}

static void woken(evutil_socket_t fd, short what, void *arg)
{
    const struct host *h = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n, (void)what;
    agent_dirs_complete(h->dirs);
}

static void on_over(void *arg, dirs_kind kind, const char *name, uint64_t bytes, uint64_t quota)
{
    struct host *h = arg;
    char text[200];
    gw_id id;
    bool work = kind == DIRS_WORK;
    snprintf(text, sizeof text, "its %s folder has %llu bytes, the quota is %llu bytes",
             work ? "work" : "storage", (unsigned long long)bytes, (unsigned long long)quota);
    log_warn("agent.quota", "%s=%s %s", work ? "agent" : "type", name, text);
    if (!work) {
        node_tell_over_quota(h->node, NULL, name, text);
    } else if (gw_id_parse(name, &id) == GW_OK && node_agent_type(h->node, &id)) {
        node_tell_over_quota(h->node, &id, NULL, text);
    }
}

gw_err agent_dir_ops_open(struct host *h, struct gw_error *why)
{
    struct dirs_config c = {.host_dir = h->dir,
                            .work_quota = h->config->work_quota,
                            .storage_quota = h->config->storage_quota,
                            .wake = wake,
                            .on_over = on_over,
                            .arg = h};
    h->dirs_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (h->dirs_fd < 0) {
        return gw_fail(why, GW_EIO, "cannot make an eventfd: %m");
    }
    h->dirs_wake = event_new(h->base, h->dirs_fd, EV_READ | EV_PERSIST, woken, h);
    if (!h->dirs_wake || event_add(h->dirs_wake, NULL) != 0) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the folders of agents");
    }
    return agent_dirs_open(&c, &h->dirs, why);
}

static bool holds(void *arg, const gw_id *agent)
{
    const struct host *h = arg;
    return node_holds_agent(h->node, agent);
}

void agent_dir_ops_sweep(struct host *h)
{
    agent_dirs_sweep(h->dirs, holds, h);
}

void agent_dir_ops_gone(void *host, const gw_id *agent)
{
    const struct host *h = host;
    agent_dirs_remove(h->dirs, agent);
}

void agent_dir_ops_close(struct host *h)
{
    agent_dirs_close(h->dirs);
    h->dirs = NULL;
    if (h->dirs_wake) {
        event_free(h->dirs_wake);
    }
    if (h->dirs_fd > 0) {
        close(h->dirs_fd);
    }
}

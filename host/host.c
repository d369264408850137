/* Life of the host process: open everything in order, serve, stop in order.
 *
 *   config -> trust (keys, certificates) -> store (locked) -> listener -> node boots, runners start
 * -> ready SIGTERM, SIGINT, operation stop -> node finishes what runs -> listener closed -> store
 * closed -> exit 0 */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <sodium.h>

#include "host/agent_files.h"
#include "host/artifacts.h"
#include "host/bulk_table.h"
#include "host/fetch.h"
#include "host/machine.h"
#include "protocol/base/log.h"
#include "protocol/json.h"
#include "protocol/text.h"

#define RENEWAL_SECONDS 3600
#define TRIM_SECONDS    20
#define FLUSH_TURNS_MS  200 /* so long may answers that are queued at the end leave */

/* ---- what the node tells ---- */

static void say_ready(struct host *h)
{
    char id[HOST_ID_TEXT], line[640];
    if (!h->config->json) {
        snprintf(line, sizeof line, "ready %s %s host_id=%s pid=%d", h->config->name,
                 server_url(h->server), host_id_text(&h->trust->id, id), (int)getpid());
        detach_ready(h->detach, line);
        return;
    }
    gw_value v = gw_nil();
    struct buf text = {0};
    if (gw_map_set(&v, "name", gw_str(h->config->name)) == GW_OK &&
        gw_map_set(&v, "host_id", gw_str(host_id_text(&h->trust->id, id))) == GW_OK &&
        gw_map_set(&v, "url", gw_str(server_url(h->server))) == GW_OK &&
        gw_map_set(&v, "pid", gw_int(getpid())) == GW_OK && json_write(&v, 0, &text) == GW_OK) {
        buf_add(&text, "", 1);
        detach_ready(h->detach, (const char *)text.data);
    }
    buf_free(&text);
    gw_value_free(&v);
}

static void on_ready(void *ctx, gw_err err, const struct gw_error *why)
{
    struct host *h = ctx;
    if (err != GW_OK) {
        h->exit_code = detach_failed(h->detach, why);
        event_base_loopbreak(h->base);
        return;
    }
    for (size_t i = 0; i < h->config->peers.len; i++) {
        links_seed(h, h->config->peers.items[i]);
    }
    agent_dir_ops_sweep(h);
    artifacts_start(h);
    malloc_trim(0); /* the rows that boot has read */
    log_info("host.ready", "url=%s", server_url(h->server));
    say_ready(h);
}

static void stop(struct host *h, const char *why)
{
    if (!h->stopping) {
        h->stopping = true;
        log_info("host.stop", "%s", why);
        file_ops_stop(h);
        fetch_stop(h);
        node_stop(h->node);
    }
}

static void on_stop_asked(void *ctx)
{
    stop(ctx, "asked to stop");
}

static void on_stopped(void *ctx)
{
    struct host *h = ctx;
    struct timeval tv = {.tv_usec = FLUSH_TURNS_MS * 1000};
    links_close(h);
    server_close(h->server);
    h->server = NULL;
    if (event_base_loopexit(h->base, &tv) != 0) { /* answers that are queued leave */
        event_base_loopbreak(h->base);
    }
}

/* Another process is this host: no orderly stop, whose last words would be those of a copy. Not
 * inside the callback of a link, which ends, too. */
static void on_fatal(void *ctx, const struct gw_error *why)
{
    struct host *h = ctx;
    if (!h->stopping) {
        h->stopping = true;
        h->exit_code = detach_failed(h->detach, why);
        h->env.defer(h, on_stopped, h);
    }
}

static gw_err add_artifacts(const struct host *h, gw_value *status)
{
    struct node_artifacts a;
    gw_value v = gw_nil();
    artifacts_sample(h, &a);
    GW_TRY(gw_map_set(&v, "broken", gw_bool(a.broken)));
    GW_TRY(gw_map_set(&v, "count", gw_uint(a.artifacts)));
    GW_TRY(gw_map_set(&v, "bytes", gw_uint(a.bytes)));
    GW_TRY(gw_map_set(&v, "stored_bytes", gw_uint(a.stored_bytes)));
    GW_TRY(gw_map_set(&v, "quota", gw_uint(a.quota_bytes)));
    return gw_map_set(status, "artifacts", v);
}

static gw_err add_status(void *ctx, gw_value *status)
{
    struct host *h = ctx;
    struct storage_stats s = storage_stats(h->storage);
    gw_value store = gw_nil();
    GW_TRY(gw_map_set(&store, "commits", gw_int((int64_t)s.commits)));
    GW_TRY(gw_map_set(&store, "groups", gw_int((int64_t)s.groups)));
    GW_TRY(gw_map_set(&store, "waiting", gw_int((int64_t)s.waiting)));
    GW_TRY(gw_map_set(status, "store", store));
    GW_TRY(add_artifacts(h, status));
    return gw_map_set(status, "cert_expires", gw_time_value((gw_time){h->trust->cert_expires_ms}));
}

static uint64_t resident_bytes(void)
{
    char text[64];
    uint64_t pages;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    char *second = strchr(text, ' ');
    if (!second || !strchr(second + 1, ' ')) {
        return 0;
    }
    *strchr(second + 1, ' ') = '\0'; /* "total resident shared …", in pages */
    return text_uint(second + 1, &pages) == GW_OK ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void sample(void *ctx, struct node_sample *ret)
{
    struct host *h = ctx;
    struct storage_stats s = storage_stats(h->storage);
    *ret = (struct node_sample){.fetched = h->fetched,
                                .fetched_count = h->fetched_count,
                                .store_groups = s.groups,
                                .store_waiting = s.waiting,
                                .client_links = links_client_count(h),
                                .rss_bytes = resident_bytes()};
    file_ops_sample(h, ret);
    artifacts_sample(h, &ret->artifacts);
}

/* ---- doors ---- */

static void on_request(void *arg, struct http_call *call)
{
    struct host *h = arg;
    api_http(h->node, call);
}

static void on_link(void *arg, struct link *link, api_role role)
{
    links_on_link(arg, link, role);
}

static gw_err wants(void *arg, const struct http_head *head, api_role role, bool *ret,
                    struct gw_error *why)
{
    const struct host *h = arg;
    return bulk_wants(h->bulk, head, role, ret, why);
}

static void on_handover(void *arg, struct handover *taken)
{
    struct host *h = arg;
    bulk_take(h->bulk, taken);
}

static const struct server_ops server_ops = {on_request, on_link, wants, on_handover};

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    stop(arg, sig == SIGTERM ? "signal TERM" : "signal INT");
}

static void on_trim(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    malloc_trim(1024 * 1024);
}

static void on_renewal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    trust_ops_renew(arg);
}

/* ---- life ---- */

/* Descriptors that clients may take: the others are for the store, runners and peers. */
static unsigned descriptors_for_clients(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 1000000) {
        return 1000000;
    }
    unsigned all = (unsigned)limit.rlim_cur, kept = all / 4;
    kept = kept < LIMIT_DESCRIPTORS_KEPT ? kept : LIMIT_DESCRIPTORS_KEPT;
    kept = kept > LIMIT_DESCRIPTORS_LEAST ? kept : LIMIT_DESCRIPTORS_LEAST;
    return all > kept + 4 ? all - kept : 4;
}

/* Links, runners and the store need descriptors: take all that the system grants. */
static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    mallopt(M_ARENA_MAX, 2);
    /* Fresh pages cost more than copying here: keep the memory of large frames from one to the
     * next, and give it back when nothing has happened for a while (on_trim). */
    mallopt(M_MMAP_THRESHOLD, 256 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
    signal(SIGPIPE, SIG_IGN);
}

static gw_err open_signals(struct host *h)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        h->signals[i] = evsignal_new(h->base, numbers[i], on_signal, h);
        if (!h->signals[i] || event_add(h->signals[i], NULL) != 0) {
            return GW_ENOMEM;
        }
    }
    struct timeval tv = {.tv_sec = RENEWAL_SECONDS};
    h->renewal = event_new(h->base, -1, EV_PERSIST, on_renewal, h);
    struct timeval trim = {.tv_sec = TRIM_SECONDS};
    h->trim = event_new(h->base, -1, EV_PERSIST, on_trim, h);
    return h->renewal && event_add(h->renewal, &tv) == 0 && h->trim &&
                   event_add(h->trim, &trim) == 0
               ? GW_OK
               : GW_ENOMEM;
}

static gw_err open_node(struct host *h, struct gw_error *why)
{
    uint8_t machine[MACHINE_BYTES];
    struct node_config c = {.name = h->config->name,
                            .key = h->trust->key,
                            .mesh_id = h->trust->mesh_id,
                            .url = server_url(h->server),
                            .tags = &h->config->tags,
                            .properties = &h->config->properties,
                            .plugins = (const char *const *)h->plugins.items,
                            .plugin_count = h->plugins.len,
                            .builtin_count = h->builtin_count,
                            .limits = {.mailbox = h->config->max_mailbox,
                                       .mailbox_bytes = h->config->max_mailbox_bytes,
                                       .agents = h->config->max_agents,
                                       .staged = h->config->max_staged,
                                       .events = h->config->max_events,
                                       .lost_ms = (int64_t)h->config->lost_after * 1000,
                                       .stuck_ms = (int64_t)h->config->stuck_after * 1000},
                            .agents_dir = agent_files_folder(h),
                            .machine = machine_id(machine) ? machine : NULL,
                            .moved_machine = h->config->moved_machine,
                            .restored = h->config->restored,
                            .on_ready = on_ready,
                            .on_stopped = on_stopped,
                            .on_stop_asked = on_stop_asked,
                            .on_fatal = on_fatal,
                            .add_status = add_status,
                            .sample = sample};
    h->builtin_rows = xcalloc(h->builtin_count + 1, sizeof *h->builtin_rows);
    for (size_t i = 0; i < h->builtin_count; i++) {
        h->builtin_rows[i] = h->builtins[i].about;
    }
    c.builtins = h->builtin_rows;
    gw_err err = node_new(&c, &h->env, &h->node);
    sodium_memzero(&c.key, sizeof c.key);
    if (err) {
        return gw_fail(why, err, "the host cannot be put together: %s", gw_err_text(err));
    }
    return GW_OK;
}

static gw_err open_all(struct host *h, const char *home, struct gw_error *why)
{
    char socket_path[1100];
    struct event_config *loop = event_config_new();
    if (loop && event_config_set_flag(loop, EVENT_BASE_FLAG_NOLOCK) == 0) {
        h->base = event_base_new_with_config(loop);
    }
    if (loop) {
        event_config_free(loop);
    }
    if (!h->base) {
        return gw_fail(why, GW_ENOMEM, "the event loop cannot be made");
    }
    GW_TRY(trust_open(home, h->config->name, &h->trust, why));
    memcpy(h->dir, h->trust->dir, strlen(h->trust->dir) + 1);
    GW_TRY(spawn_find_plugins(h, why));
    GW_TRY(inline_open(h, why));
    GW_TRY(real_env_open(h, why));
    GW_TRY(agent_dir_ops_open(h, why));
    GW_TRY(agent_files_open(h, why));
    GW_TRY(artifacts_open(h, why));
    snprintf(socket_path, sizeof socket_path, "%s/api.sock", h->dir);
    struct server_config sc = {.base = h->base,
                               .trust = h->trust,
                               .listen = h->config->listen,
                               .socket_path = socket_path,
                               .ops = &server_ops,
                               .arg = h,
                               .header_ms = (int64_t)h->config->head_timeout * 1000,
                               .body_ms = (int64_t)h->config->body_timeout * 1000,
                               .idle_ms = (int64_t)h->config->idle_timeout * 1000,
                               .max_connections = (unsigned)h->config->max_clients,
                               .descriptors = descriptors_for_clients()};
    struct bulk_config bc = {.base = h->base,
                             .trust = h->trust,
                             .services = bulk_services,
                             .routes = bulk_routes,
                             .ctx = h};
    GW_TRY(bulk_open(&bc, &h->bulk, why));
    GW_TRY(server_open(&sc, &h->server, why));
    ops_init();
    GW_TRY(open_node(h, why));
    GW_TRY(file_ops_open(h, why));
    return open_signals(h) == GW_OK ? GW_OK : gw_fail(why, GW_ENOMEM, "signals cannot be watched");
}

static void close_all(struct host *h)
{
    h->stopping = true;
    if (h->base) {
        links_close(h);
    }
    if (h->server) {
        server_close(h->server);
    }
    link_end_all(h->base); /* runners see it */
    spawn_close(h);
    fetch_stop(h);
    bulk_close(h->bulk);
    h->bulk = NULL; /* what ends below begins nothing new */
    file_ops_close(h);
    real_env_stop(h); /* completions that are under way still find their node */
    agent_dir_ops_close(h);
    node_free(h->node);
    fetch_close(h);
    agent_files_close(h);
    artifacts_close(h);
    free(h->builtin_rows);
    inline_close(h);
    real_env_close(h);
    for (size_t i = 0; i < 2; i++) {
        if (h->signals[i]) {
            event_free(h->signals[i]);
        }
    }
    if (h->renewal) {
        event_free(h->renewal);
    }
    if (h->trim) {
        event_free(h->trim);
    }
    trust_close(h->trust);
    if (h->base) {
        event_base_free(h->base);
    }
}

/* Turn by turn, so that the clock is read once in each (real_env.c). */
static int run_loop(struct host *h)
{
    int rc = 0;
    while (rc == 0 && !event_base_got_exit(h->base) && !event_base_got_break(h->base)) {
        h->turn_us = 0;
        rc = event_base_loop(h->base, EVLOOP_ONCE);
    }
    return rc;
}

int host_run(const struct host_config *config, const char *home, struct detach *d,
             const struct host_builtin *builtins, size_t builtin_count)
{
    struct host h = {.config = config,
                     .detach = d,
                     .exit_code = 1,
                     .builtins = builtins,
                     .builtin_count = builtin_count};
    struct gw_error why;
    raise_limits();
    log_name(config->name);
    gw_err err = open_all(&h, home, &why);
    if (err != GW_OK) {
        int code = detach_failed(d, &why);
        close_all(&h);
        return code;
    }
    node_start(h.node);
    h.exit_code = 0;
    if (run_loop(&h) < 0) {
        log_error("loop", "the event loop failed: %s", strerror(errno));
        h.exit_code = 1;
    }
    log_info("host.end", "code=%d", h.exit_code);
    close_all(&h);
    return h.exit_code;
}

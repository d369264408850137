/* The two listeners: addresses, ports, the socket file, accepting under the connection limits. */
#include "host/net/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/net/http_private.h"
#include "protocol/base/log.h"
#include "protocol/text.h"

#define PORT_DEFAULT 7420
#define PORT_LAST    7519
#define BACKLOG      512
#define ACCEPT_BATCH 32
#define RESUME_MS    200
#define TELL_MS      1000

/* --- accepting --- */

/* A flood must not become one of lines: true once in TELL_MS. */
static bool may_tell(int64_t *told_ms)
{
    int64_t now = link_now_ms();
    if (*told_ms != 0 && now - *told_ms < TELL_MS) {
        return false;
    }
    *told_ms = now;
    return true;
}

/* The oldest connection of nobody we know, without a request, gives its place back. */
static bool make_room(struct server *s, bool local)
{
    struct conn *c;
    int64_t newest_ms = link_now_ms() - s->timing.yield_ms;
    TAILQ_FOREACH (c, &s->conns, entry) {
        if (c->since_ms > newest_ms) {
            return false; /* they stand in the order of their accept */
        }
        if (c->local == local && c->role == ROLE_NONE && !c->call &&
            (c->state == CONN_HANDSHAKE || c->state == CONN_HEAD)) {
            conn_free(c);
            s->gave_way++;
            return true;
        }
    }
    return false;
}

/* Out of descriptors: or the loop would spin on a connection that it cannot take. */
static void pause_accepting(struct server *s)
{
    int err = errno;
    struct timeval tv = {.tv_usec = RESUME_MS * 1000};
    for (int i = 0; i < ACCEPT_BATCH && make_room(s, false); i++) {
    }
    if (may_tell(&s->lack_told_ms)) {
        log_warn("server.accept", "error=\"%s\" paused_ms=%d", strerror(err), RESUME_MS);
    }
    for (int i = 0; i < 2; i++) {
        if (s->ev_accept[i]) {
            event_del(s->ev_accept[i]);
        }
    }
    event_add(s->ev_resume, &tv);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct server *s = arg;
    for (int i = 0; i < 2; i++) {
        if (s->ev_accept[i]) {
            event_add(s->ev_accept[i], NULL);
        }
    }
}

static void accept_some(struct server *s, int listener, bool local)
{
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                pause_accepting(s);
            }
            return;
        }
        unsigned most = s->max_conns[local];
        bool full = s->counts->conns[local] >= most, surplus = full && !make_room(s, local);
        s->turned_away += surplus;
        if (full && may_tell(&s->told_ms)) {
            log_warn("server.full", "connections=%u turned_away=%u gave_way=%u",
                     s->counts->conns[local], s->turned_away, s->gave_way);
        }
        unsigned room = most / 4 < LIMIT_CLIENTS_SURPLUS ? most / 4 : LIMIT_CLIENTS_SURPLUS;
        if (surplus && s->counts->conns[local] >= most + room) {
            close(fd);
        } else {
            conn_new(s, fd, local, surplus);
        }
    }
}

static void on_accept_tcp(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    accept_some(arg, fd, false);
}

static void on_accept_local(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    accept_some(arg, fd, true);
}

/* --- TCP --- */

/* "127.0.0.1:7420", "[::1]:0", "127.0.0.1": host and port; port -1 when none is named. */
static gw_err split_listen(const char *listen, char host[256], int *ret_port, struct gw_error *why)
{
    const char *begin = listen, *end, *port = NULL;
    if (listen[0] == '[') {
        begin++;
        end = strchr(begin, ']');
        if (end && end[1] == ':') {
            port = end + 2;
        } else if (!end || end[1]) {
            return gw_fail(why, GW_EARG, "\"%s\" is not ADDR:PORT", listen);
        }
    } else {
        end = strchr(begin, ':');
        if (end && strchr(end + 1, ':')) {
            gw_fail(why, GW_EARG, "\"%s\" is not ADDR:PORT", listen);
            gw_hint(why, "write an IPv6 address in brackets: [%s]", listen);
            return GW_EARG;
        }
        port = end ? end + 1 : NULL;
        end = end ? end : begin + strlen(begin);
    }
    uint64_t number = 0;
    if (port && (text_uint(port, &number) != GW_OK || number > 65535)) {
        return gw_fail(why, GW_EARG, "\"%s\" is not a port (0 to 65535)", port);
    }
    if (end == begin ||
        !span_text((struct span){(const uint8_t *)begin, (size_t)(end - begin)}, host, 256)) {
        return gw_fail(why, GW_EARG, "\"%s\" is not ADDR:PORT", listen);
    }
    *ret_port = port ? (int)number : -1;
    return GW_OK;
}

static gw_err bind_error(const char *host, int port, struct gw_error *why)
{
    switch (errno) {
    case EADDRINUSE:
        gw_fail(why, GW_EEXISTS, "port %d on \"%s\" is in use", port, host);
        gw_hint(why,
                "`ss -ltnp 'sport = :%d'` shows by whom; choose another with --listen ADDR:PORT",
                port);
        return GW_EEXISTS;
    case EACCES: return gw_fail(why, GW_EDENIED, "port %d on \"%s\" needs more rights", port, host);
    case EADDRNOTAVAIL:
        return gw_fail(why, GW_EARG, "\"%s\" is not an address of this machine", host);
    default:
        return gw_fail(why, GW_EIO, "cannot listen on \"%s\" port %d: %s", host, port,
                       strerror(errno));
    }
}

/* A listening socket, or -1 with errno. */
static int listen_at(const struct addrinfo *a, int port)
{
    struct sockaddr_storage addr;
    memcpy(&addr, a->ai_addr, a->ai_addrlen);
    if (addr.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&addr)->sin6_port = htons((uint16_t)port);
    } else {
        ((struct sockaddr_in *)&addr)->sin_port = htons((uint16_t)port);
    }
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* The address that others can dial: for a wildcard the first address of this machine that is not
 * loopback. */
static void reachable(char ret[INET6_ADDRSTRLEN])
{
    struct ifaddrs *list = NULL;
    snprintf(ret, INET6_ADDRSTRLEN, "127.0.0.1");
    if (getifaddrs(&list) != 0) {
        return;
    }
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP) &&
            !(i->ifa_flags & IFF_LOOPBACK)) {
            const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)i->ifa_addr;
            (void)inet_ntop(AF_INET, &in->sin_addr, ret, INET6_ADDRSTRLEN);
            break;
        }
    }
    freeifaddrs(list);
}

static void make_url(struct server *s)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char text[INET6_ADDRSTRLEN] = "";
    if (getsockname(s->fd[0], (struct sockaddr *)&addr, &len) != 0) {
        return;
    }
    if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)&addr;
        if (IN6_IS_ADDR_UNSPECIFIED(&in->sin6_addr)) {
            reachable(text);
        } else {
            (void)inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
        }
        bool v6 = strchr(text, ':') != NULL;
        snprintf(s->url, sizeof s->url, v6 ? "https://[%s]:%u" : "https://%s:%u", text,
                 ntohs(in->sin6_port));
        return;
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&addr;
    if (in->sin_addr.s_addr == htonl(INADDR_ANY)) {
        reachable(text);
    } else {
        (void)inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    }
    snprintf(s->url, sizeof s->url, "https://%s:%u", text, ntohs(in->sin_port));
}

static gw_err open_tcp(struct server *s, const char *listen, struct gw_error *why)
{
    char host[256];
    int port = -1;
    GW_TRY(split_listen(listen, host, &port, why));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    int err = getaddrinfo(host, NULL, &hints, &found);
    if (err != 0) {
        return gw_fail(why, GW_EARG, "\"%s\" is not an address: %s", host, gai_strerror(err));
    }
    int first = port >= 0 ? port : PORT_DEFAULT, last = port >= 0 ? port : PORT_LAST;
    for (port = first; port <= last; port++) {
        s->fd[0] = listen_at(found, port);
        if (s->fd[0] >= 0 || errno != EADDRINUSE) {
            break;
        }
    }
    int saved = errno;
    freeaddrinfo(found);
    errno = saved;
    if (s->fd[0] >= 0) {
        make_url(s);
        return GW_OK;
    }
    if (port > last && first != last) {
        return gw_fail(why, GW_EEXISTS, "the ports %d to %d on \"%s\" are all in use", first, last,
                       host);
    }
    return bind_error(host, port > last ? last : port, why);
}

/* --- unix socket --- */

/* The address of a socket file in the folder `dir` (O_PATH): short, however long the path is. */
static void socket_address(int dir, const char *name, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", dir, name);
}

/* Remove a socket file that nobody listens on any more. */
static gw_err remove_stale(int dir, const char *name, const char *path, struct gw_error *why)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return GW_OK;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return gw_fail(why, GW_EEXISTS, "\"%s\" exists and is not a socket", path);
    }
    struct sockaddr_un addr;
    socket_address(dir, name, &addr);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool alive = probe >= 0 &&
                 (connect(probe, (struct sockaddr *)&addr, sizeof addr) == 0 || errno == EAGAIN);
    if (probe >= 0) {
        close(probe);
    }
    if (alive) {
        return gw_fail(why, GW_EEXISTS, "another host serves \"%s\"", path);
    }
    if (unlinkat(dir, name, 0) != 0 && errno != ENOENT) {
        return gw_fail(why, GW_EDENIED, "cannot replace \"%s\": %s", path, strerror(errno));
    }
    return GW_OK;
}

static gw_err bind_local(struct server *s, int dir, const char *name, const char *path,
                         struct gw_error *why)
{
    struct sockaddr_un addr;
    struct stat st;
    GW_TRY(remove_stale(dir, name, path, why));
    socket_address(dir, name, &addr);
    s->fd[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Nobody can connect before listen: the mode is right by then. */
    if (s->fd[1] < 0 || bind(s->fd[1], (struct sockaddr *)&addr, sizeof addr) != 0 ||
        fchmodat(dir, name, 0600, 0) != 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        listen(s->fd[1], BACKLOG) != 0) {
        gw_err code = errno == EACCES || errno == EPERM || errno == EROFS ? GW_EDENIED : GW_EIO;
        return gw_fail(why, code, "cannot make the socket \"%s\": %s", path, strerror(errno));
    }
    s->socket_dev = st.st_dev;
    s->socket_ino = st.st_ino;
    s->socket_path = xstrdup(path);
    return GW_OK;
}

/* Folder of `path` as O_PATH descriptor (-1 with errno) and the name in it. */
static int open_folder(const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    *ret_name = slash ? slash + 1 : path;
    if (!slash) {
        return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    GW_AUTO(free_charp) char *folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!folder) {
        errno = ENOMEM;
        return -1;
    }
    return open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static gw_err open_local(struct server *s, const char *path, struct gw_error *why)
{
    const char *name;
    int dir = open_folder(path, &name);
    if (dir < 0) {
        gw_err code = errno == EACCES ? GW_EDENIED : errno == ENOENT ? GW_ENOT_FOUND : GW_EIO;
        return gw_fail(why, code, "cannot open the folder of \"%s\": %s", path, strerror(errno));
    }
    gw_err err = *name && strlen(name) < 64
                     ? bind_local(s, dir, name, path, why)
                     : gw_fail(why, GW_EARG, "\"%s\" is not a name for a socket", path);
    close(dir);
    return err;
}

/* Only our own: another host may have replaced it. */
static void remove_socket(struct server *s)
{
    struct stat st;
    if (s->socket_path && lstat(s->socket_path, &st) == 0 && st.st_dev == s->socket_dev &&
        st.st_ino == s->socket_ino) {
        (void)unlink(s->socket_path);
    }
}

/* --- life --- */

static int64_t or_default(int64_t value, int64_t limit)
{
    return value > 0 ? value : limit;
}

static struct server *server_new(const struct server_config *config)
{
    struct server *s = xcalloc(1, sizeof *s);
    s->base = config->base;
    s->trust = config->trust;
    s->ops = *config->ops;
    s->arg = config->arg;
    s->timing.header_ms = or_default(config->header_ms, LIMIT_HTTP_HEADER_MS);
    s->timing.idle_ms = or_default(config->idle_ms, LIMIT_HTTP_IDLE_MS);
    s->timing.body_ms = or_default(config->body_ms, LIMIT_HTTP_BODY_MS);
    s->timing.write_ms = or_default(config->write_ms, LIMIT_HTTP_WRITE_MS);
    s->timing.yield_ms = or_default(config->yield_ms, LIMIT_HTTP_YIELD_MS);
    unsigned most = config->max_connections ? config->max_connections : LIMIT_CLIENTS;
    unsigned local = config->descriptors ? config->descriptors / 4 + 1 : most;
    unsigned tcp = config->descriptors ? config->descriptors - config->descriptors / 4 : most;
    s->max_conns[0] = tcp < most ? tcp : most;
    s->max_conns[1] = local < most ? local : most;
    s->counts = xcalloc(1, sizeof *s->counts);
    s->counts->refs = 1;
    s->fd[0] = s->fd[1] = -1;
    TAILQ_INIT(&s->conns);
    return s;
}

static gw_err watch_listeners(struct server *s, struct gw_error *why)
{
    s->ev_resume = evtimer_new(s->base, on_resume, s);
    s->ev_accept[0] = event_new(s->base, s->fd[0], EV_READ | EV_PERSIST, on_accept_tcp, s);
    if (s->fd[1] >= 0) {
        s->ev_accept[1] = event_new(s->base, s->fd[1], EV_READ | EV_PERSIST, on_accept_local, s);
    }
    if (!s->ev_resume || !s->ev_accept[0] || (s->fd[1] >= 0 && !s->ev_accept[1])) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    on_resume(-1, 0, s);
    return GW_OK;
}

gw_err server_open(const struct server_config *config, struct server **ret, struct gw_error *why)
{
    (void)signal(SIGPIPE, SIG_IGN);
    struct server *s = server_new(config);
    gw_err err = open_tcp(s, config->listen, why);
    if (err == GW_OK && config->socket_path) {
        err = open_local(s, config->socket_path, why);
    }
    if (err == GW_OK) {
        err = watch_listeners(s, why);
    }
    if (err != GW_OK) {
        server_close(s);
        return err;
    }
    *ret = s;
    return GW_OK;
}

const char *server_url(const struct server *s)
{
    return s->url;
}

void server_close(struct server *s)
{
    if (!s) {
        return;
    }
    remove_socket(s);
    for (int i = 0; i < 2; i++) {
        if (s->ev_accept[i]) {
            event_free(s->ev_accept[i]);
        }
        if (s->fd[i] >= 0) {
            close(s->fd[i]);
        }
    }
    if (s->ev_resume) {
        event_free(s->ev_resume);
    }
    struct conn *c;
    while ((c = TAILQ_FIRST(&s->conns))) {
        conn_free(c);
    }
    counts_drop(s->counts);
    free(s->socket_path);
    free(s);
}

#include "clients/lib/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_NAME  "api.sock"
#define DEFAULT_PORT "7420"

int64_t conn_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t conn_deadline(int64_t timeout_ms)
{
    if (timeout_ms < 0) {
        return CONN_NEVER;
    }
    int64_t now = conn_now_ms();
    return timeout_ms > CONN_NEVER - now ? CONN_NEVER : now + timeout_ms;
}

/* For poll(): [0 .. INT_MAX], -1 = no limit. */
static int poll_ms(int64_t deadline_ms)
{
    if (deadline_ms == CONN_NEVER) {
        return -1;
    }
    int64_t left = deadline_ms - conn_now_ms();
    return left < 0 ? 0 : left > 1000000000 ? 1000000000 : (int)left;
}

/* ---- unix ---- */

/* sun_path holds 107 characters; a longer path is reached through a descriptor of its folder. */
static gw_err unix_address(const char *dir, struct sockaddr_un *ret, int *ret_dir_fd,
                           struct gw_error *why)
{
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    *ret_dir_fd = -1;
    int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s/%s", dir, SOCKET_NAME);
    if (n > 0 && (size_t)n < sizeof ret->sun_path) {
        return GW_OK;
    }
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return gw_fail(why, errno == EACCES ? GW_EDENIED : GW_EUNREACHABLE,
                       "cannot reach \"%s\": %s", dir, strerror(errno));
    }
    snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", fd, SOCKET_NAME);
    *ret_dir_fd = fd;
    return GW_OK;
}

static gw_err connect_failed(const char *what, int code, struct gw_error *why)
{
    gw_err err = code == EACCES || code == EPERM ? GW_EDENIED
                 : code == EAGAIN                ? GW_EBUSY
                                                 : GW_EUNREACHABLE;
    return gw_fail(why, err, "cannot connect to \"%s\": %s", what, strerror(code));
}

gw_err conn_open_unix(struct conn *c, const char *dir, struct gw_error *why)
{
    struct sockaddr_un address;
    int dir_fd;
    GW_TRY(unix_address(dir, &address, &dir_fd, why));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof address);
    int code = errno;
    if (dir_fd >= 0) {
        close(dir_fd);
    }
    if (result < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return connect_failed(dir, code, why);
    }
    c->fd = fd;
    c->ssl = NULL;
    c->read_needs = POLLIN;
    c->write_needs = POLLOUT;
    return GW_OK;
}

/* ---- TCP and TLS ---- */

static bool port_is_valid(const char *text)
{
    unsigned long port = 0;
    size_t n = 0;
    for (; text[n]; n++) {
        if (text[n] < '0' || text[n] > '9' || n >= 5) {
            return false;
        }
        port = port * 10 + (unsigned long)(text[n] - '0');
    }
    return n > 0 && port > 0 && port < 65536;
}

gw_err conn_parse_url(const char *url, struct conn_url *ret, struct gw_error *why)
{
    static const char scheme[] = "https://";
    struct conn_url u = {.port = DEFAULT_PORT};
    char rest[300];
    bool ok = strncmp(url, scheme, sizeof scheme - 1) == 0 && strlen(url) < sizeof rest;
    if (ok) {
        snprintf(rest, sizeof rest, "%s", url + sizeof scheme - 1);
        size_t n = strlen(rest);
        if (n > 0 && rest[n - 1] == '/') {
            rest[--n] = '\0';
        }
        char *host = rest;
        char *after = rest[0] == '[' ? strchr(rest, ']') : strrchr(rest, ':');
        if (rest[0] == '[' && after) { /* [::1]:7420 */
            host = rest + 1;
            *after++ = '\0';
        }
        ok = rest[0] != '[' || after;
        if (ok && after && *after == ':') {
            *after = '\0';
            ok = port_is_valid(after + 1);
            snprintf(u.port, sizeof u.port, "%.5s", after + 1);
        } else if (ok && after && *after) {
            ok = false;
        }
        ok = ok && host[0] && strlen(host) < sizeof u.host && !strpbrk(host, "/@?# \t\r\n");
        snprintf(u.host, sizeof u.host, "%.255s", host);
    }
    if (!ok) {
        return gw_fail(why, GW_EARG, "\"%.100s\" is not a URL of the form https://address:port",
                       url);
    }
    *ret = u;
    return GW_OK;
}

static gw_err finish_connect(struct conn *c, int64_t deadline_ms, int *ret_code,
                             struct gw_error *why)
{
    c->write_needs = POLLOUT;
    c->read_needs = 0;
    GW_TRY(conn_wait(c, true, deadline_ms, why));
    socklen_t size = sizeof *ret_code;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, ret_code, &size) < 0) {
        *ret_code = errno;
    }
    return GW_OK;
}

/* Try the addresses one after the other. */
static gw_err connect_any(struct conn *c, const char *url, const struct addrinfo *list,
                          int64_t deadline_ms, struct gw_error *why)
{
    int code = EADDRNOTAVAIL;
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (c->fd < 0) {
            code = errno;
            continue;
        }
        gw_err err = GW_OK;
        code = connect(c->fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
        if (code == EINPROGRESS) {
            err = finish_connect(c, deadline_ms, &code, why);
        }
        if (err == GW_OK && code == 0) {
            int on = 1;
            setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            return GW_OK;
        }
        conn_close(c);
        if (err == GW_ECANCELLED) {
            return err;
        }
        if (err != GW_OK) {
            return gw_fail(why, err, "\"%s\" does not answer", url);
        }
    }
    return connect_failed(url, code, why);
}

static gw_err handshake(struct conn *c, const char *url, struct tls *tls, int64_t deadline_ms,
                        struct gw_error *why)
{
    GW_TRY(tls_start(tls, c->fd, &c->ssl, why));
    for (;;) {
        gw_err err = tls_handshake(tls, c->ssl, url, &c->read_needs, why);
        if (err != GW_EAGAIN) {
            return err;
        }
        GW_TRY(conn_wait(c, false, deadline_ms, why));
    }
}

gw_err conn_open_tls(struct conn *c, const char *url, struct tls *tls, int64_t deadline_ms,
                     struct gw_error *why)
{
    struct conn_url parts;
    GW_TRY(conn_parse_url(url, &parts, why));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    int code = getaddrinfo(parts.host, parts.port, &hints, &list);
    if (code != 0) {
        return gw_fail(why, GW_EUNREACHABLE, "cannot find the address of \"%s\": %s", parts.host,
                       gai_strerror(code));
    }
    gw_err err = connect_any(c, url, list, deadline_ms, why);
    freeaddrinfo(list);
    if (err == GW_OK) {
        err = handshake(c, url, tls, deadline_ms, why);
    }
    if (err != GW_OK) {
        conn_close(c);
        return err;
    }
    c->read_needs = POLLIN;
    c->write_needs = POLLOUT;
    return GW_OK;
}

void conn_close(struct conn *c)
{
    c->more = false;
    if (c->ssl) {
        tls_end(c->ssl);
        c->ssl = NULL;
    }
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

bool conn_is_open(const struct conn *c)
{
    return c->fd >= 0;
}

/* ---- bytes ---- */

gw_err conn_read(struct conn *c, struct buf *in, size_t most, struct gw_error *why)
{
    if (!buf_reserve(in, most)) {
        buf_reset(in);
        return gw_fail(why, GW_ENOMEM, "out of memory for the answer of the host");
    }
    if (c->ssl) {
        gw_err err = tls_read(c->ssl, in, &c->read_needs, why);
        c->more = err == GW_OK && in->len == in->cap;
        return err;
    }
    for (;;) {
        ssize_t n = recv(c->fd, in->data + in->len, in->cap - in->len, 0);
        if (n > 0) {
            in->len += (size_t)n;
            return GW_OK;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            c->read_needs = POLLIN;
            return GW_EAGAIN;
        }
        return gw_fail(why, GW_EUNREACHABLE, "the connection was lost: %s",
                       n == 0 ? "closed by the host" : strerror(errno));
    }
}

gw_err conn_write(struct conn *c, struct span data, size_t *ret_written, struct gw_error *why)
{
    if (c->ssl) {
        return tls_write(c->ssl, data, ret_written, &c->write_needs, why);
    }
    for (;;) {
        ssize_t n = send(c->fd, data.p, data.n, MSG_NOSIGNAL);
        if (n >= 0) {
            *ret_written = (size_t)n;
            return GW_OK;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            c->write_needs = POLLOUT;
            return GW_EAGAIN;
        }
        return gw_fail(why, GW_EUNREACHABLE, "the connection was lost: %s", strerror(errno));
    }
}

gw_err conn_wait(struct conn *c, bool write, int64_t deadline_ms, struct gw_error *why)
{
    if (c->more) { /* no event of the socket would tell */
        c->more = false;
        return GW_OK;
    }
    for (;;) {
        struct pollfd fds[2] = {
            {.fd = c->fd, .events = (short)(c->read_needs | (write ? c->write_needs : 0))},
            {.fd = c->wake_fd, .events = POLLIN},
        };
        int n = poll(fds, c->wake_fd >= 0 ? 2 : 1, poll_ms(deadline_ms));
        if (n < 0 && errno != EINTR) {
            return gw_fail(why, GW_EIO, "cannot wait for the host: %s", strerror(errno));
        }
        if (n > 0 && c->wake_fd >= 0 && fds[1].revents) {
            return gw_fail(why, GW_ECANCELLED, "interrupted");
        }
        if (n > 0) {
            return GW_OK;
        }
        if (conn_now_ms() >= deadline_ms) {
            return gw_fail(why, GW_ETIMEOUT, "no answer in time");
        }
    }
}

gw_err conn_sleep(const struct conn *c, int64_t deadline_ms, struct gw_error *why)
{
    struct pollfd wake = {.fd = c->wake_fd, .events = POLLIN};
    while (conn_now_ms() < deadline_ms) {
        if (poll(&wake, 1, poll_ms(deadline_ms)) > 0) { /* poll skips a descriptor of -1 */
            return gw_fail(why, GW_ECANCELLED, "interrupted");
        }
    }
    return GW_OK;
}

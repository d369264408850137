/* A host that is only a socket and a script: it upgrades a connection to a link and gives each CALL
 * to the test. One thread, one connection at a time. Included by the tests of clients/. */
#ifndef TESTS_FAKE_HOST_H
#define TESTS_FAKE_HOST_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/frame.h"
#include "protocol/limits.h"
#include "protocol/value.h"

struct fake;
struct fake_call {
    struct fake *fake;
    int fd;
    uint32_t kind; /* FRAME_CALL, or whatever came */
    uint64_t stream;
    char op[64];
    gw_value args;
};
/* false closes the connection. */
typedef bool fake_script(struct fake *f, struct fake_call *call);

struct fake {
    char dir[4096]; /* of the socket */
    int listen_fd, stop_pipe[2];
    pthread_t thread;
    fake_script *script;
    const char *upgrade_answer; /* instead of 101; NULL = 101 */
    struct span greeting;       /* sent in one piece with the 101 */
    void *arg;
    atomic_int connections, reads, calls, cancels;
    char keys[16][64]; /* of the first calls */
};

static inline void fake_write(int fd, const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n > 0) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
        if (done <= 0) {
            return;
        }
        p += done;
        n -= (size_t)done;
    }
}

static inline void fake_reply_error(struct fake_call *c, gw_err code, const gw_value *value,
                                    const struct gw_error *why)
{
    struct buf packed = {0}, out = {0};
    if (value) {
        value_pack(value, &packed);
    }
    frame_reply(&out, c->stream, code, buf_span(&packed), why);
    fake_write(c->fd, out.data, out.len);
    buf_free(&packed);
    buf_free(&out);
}

static inline void fake_reply(struct fake_call *c, gw_value value)
{
    fake_reply_error(c, GW_OK, &value, NULL);
    gw_value_free(&value);
}

static inline void fake_item(struct fake_call *c, gw_value value)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_ITEM, c->stream, 1);
    value_pack(&value, &out);
    frame_end(&out, at);
    fake_write(c->fd, out.data, out.len);
    buf_free(&out);
    gw_value_free(&value);
}

/* One received frame. */
static inline bool fake_on_frame(struct fake *f, int fd, struct frame *frame)
{
    struct fake_call c = {.fake = f, .fd = fd, .kind = frame->kind, .stream = frame->stream};
    f->cancels += frame->kind == FRAME_CANCEL;
    if (frame->kind == FRAME_CALL) {
        if (mp_read_text(&frame->rest, c.op, sizeof c.op) != GW_OK ||
            value_unpack(&frame->rest, &c.args) != GW_OK) {
            abort();
        }
        int n = f->calls++;
        if (n < 16) {
            snprintf(f->keys[n], sizeof f->keys[n], "%s", gw_map_str(&c.args, "key", ""));
        }
    }
    bool go_on = f->script ? f->script(f, &c) : true;
    gw_value_free(&c.args);
    return go_on;
}

/* More bytes; false when the connection or the fake ends. */
static inline bool fake_read(struct fake *f, int fd, struct buf *in)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
                            {.fd = f->stop_pipe[0], .events = POLLIN}};
    if (poll(fds, 2, -1) <= 0 || fds[1].revents || !buf_reserve(in, 65536)) {
        return false;
    }
    ssize_t n = recv(fd, in->data + in->len, in->cap - in->len, 0);
    if (n <= 0) {
        return false;
    }
    in->len += (size_t)n;
    return true;
}

static inline void fake_serve(struct fake *f, int fd)
{
    static const char hello[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                "Upgrade: godwit/1\r\n\r\n";
    struct buf in = {0}, out = {0};
    while (!(in.len > 0 && memmem(in.data, in.len, "\r\n\r\n", 4))) {
        if (!fake_read(f, fd, &in)) {
            buf_free(&in);
            return;
        }
    }
    f->connections++;
    if (f->upgrade_answer) {
        fake_write(fd, f->upgrade_answer, strlen(f->upgrade_answer));
        buf_free(&in);
        return;
    }
    buf_add(&out, hello, sizeof hello - 1);
    buf_add(&out, f->greeting.p, f->greeting.n);
    fake_write(fd, out.data, out.len);
    buf_free(&out);
    buf_drop(&in, (size_t)((uint8_t *)memmem(in.data, in.len, "\r\n\r\n", 4) - in.data) + 4);
    for (bool go_on = true; go_on;) {
        struct span left = buf_span(&in);
        struct frame frame;
        gw_err err;
        while (go_on && (err = frame_take(&left, 64u << 20, &frame)) == GW_OK) {
            go_on = fake_on_frame(f, fd, &frame);
        }
        buf_drop(&in, in.len - left.n);
        if (go_on) {
            go_on = fake_read(f, fd, &in);
            f->reads++;
        }
    }
    buf_free(&in);
}

static inline void *fake_main(void *arg)
{
    struct fake *f = arg;
    for (;;) {
        struct pollfd fds[2] = {{.fd = f->listen_fd, .events = POLLIN},
                                {.fd = f->stop_pipe[0], .events = POLLIN}};
        if (poll(fds, 2, -1) <= 0 || fds[1].revents) {
            return NULL;
        }
        int fd = accept(f->listen_fd, NULL, NULL);
        if (fd >= 0) {
            fake_serve(f, fd);
            close(fd);
        }
    }
}

static inline void fake_listen(struct fake *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dir_fd = open(f->dir, O_PATH | O_DIRECTORY);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/api.sock", dir_fd);
    unlink(address.sun_path);
    f->listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(f->listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(f->listen_fd, 16) < 0 || pipe(f->stop_pipe) < 0 ||
        pthread_create(&f->thread, NULL, fake_main, f) != 0) {
        perror("fake host");
        abort();
    }
    close(dir_fd);
}

/* Stop answering; the socket file stays, as after kill -9. */
static inline void fake_stop(struct fake *f)
{
    if (write(f->stop_pipe[1], "x", 1) != 1) {
        abort();
    }
    pthread_join(f->thread, NULL);
    close(f->listen_fd);
    close(f->stop_pipe[0]);
    close(f->stop_pipe[1]);
}

/* Serve as host NAME below `home`; set the script before. */
static inline void fake_start(struct fake *f, const char *home, const char *name)
{
    snprintf(f->dir, sizeof f->dir, "%s/hosts", home);
    mkdir(f->dir, 0700);
    snprintf(f->dir, sizeof f->dir, "%s/hosts/%s", home, name);
    mkdir(f->dir, 0700);
    fake_listen(f);
}

/* A fresh home in $GODWIT_HOME; fake_home_remove deletes it. */
static inline char *fake_home(void)
{
    static char home[64];
    snprintf(home, sizeof home, "/tmp/gwclientXXXXXX");
    if (!mkdtemp(home)) {
        abort();
    }
    setenv("GODWIT_HOME", home, 1);
    unsetenv("GODWIT_HOST");
    return home;
}

static inline void fake_home_remove(const char *home)
{
    char command[128];
    snprintf(command, sizeof command, "%s", home);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", command, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

#endif

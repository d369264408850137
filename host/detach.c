/* The word of the host is one packet, so it arrives whole or not at all:
 *     'R' ready line          'F' exit code (1 byte) text NUL hint NUL
 * The end of the connection without a word means that the host died on the way. A socket rather
 * than a pipe, because a host whose starter is gone must not get SIGPIPE. */
#include "host/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORD_BYTES 4096
#define TAIL_BYTES 2048 /* of the log, shown when a host died */

_Static_assert(sizeof(struct gw_error) < WORD_BYTES - 2, "an error fits one word");

static void print_error(const char *text, const char *hint)
{
    fprintf(stderr, "godwit: %s\n", text);
    if (*hint) {
        fprintf(stderr, "  %s\n", hint);
    }
}

static gw_err open_log(struct detach *d, const char *path, int *ret_fd, struct gw_error *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        gw_err err = errno == EACCES || errno == EROFS ? GW_EDENIED
                     : errno == ENOSPC                 ? GW_EDISK_FULL
                                                       : GW_EIO;
        gw_fail(why, err, "cannot open the log \"%s\": %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    d->log_at = st.st_size;
    snprintf(d->log, sizeof d->log, "%s", path);
    *ret_fd = fd;
    return GW_OK;
}

/* In the middle process: leave the session of the starter and become the parent of the host for a
 * moment, so that the host can never gain a terminal again. Only the host returns. */
static void leave(struct detach *d, int log_fd, int word_fd)
{
    if (setsid() < 0) {
        _exit(1);
    }
    pid_t pid = fork();
    if (pid != 0) {
        _exit(pid < 0 ? 1 : 0);
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
        dup2(log_fd, STDERR_FILENO) < 0) {
        _exit(1); /* the starter sees the end of the connection */
    }
    /* Whatever else the starter had open (a script's pipes) would stay open as long as the host. */
    if (word_fd > STDERR_FILENO + 1) {
        close_range(STDERR_FILENO + 1, (unsigned)word_fd - 1, 0);
    }
    close_range((unsigned)word_fd + 1, ~0u, 0);
    d->on = true;
    d->fd = word_fd;
}

gw_err detach_begin(struct detach *d, const char *log_path, struct gw_error *why)
{
    int log_fd, fds[2];
    *d = (struct detach){0};
    GW_TRY(open_log(d, log_path, &log_fd, why));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        gw_err err = gw_fail(why, GW_EFAIL, "cannot make a socket pair: %s", strerror(errno));
        close(log_fd);
        return err;
    }
    fflush(NULL); /* nothing that waits in a stream leaves twice */
    pid_t pid = fork();
    if (pid < 0) {
        gw_err err = gw_fail(why, GW_EFAIL, "cannot start a process: %s", strerror(errno));
        close(log_fd);
        close(fds[0]);
        close(fds[1]);
        return err;
    }
    if (pid == 0) {
        close(fds[0]);
        leave(d, log_fd, fds[1]);
        return GW_OK;
    }
    close(log_fd);
    close(fds[1]);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    d->starter = true;
    d->fd = fds[0];
    return GW_OK;
}

/* --- the starter --- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Read the word; its length, 0 when the pipe ended without one, -1 on time-out. */
static ssize_t read_word(int fd, char *word, size_t cap, int64_t timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    for (;;) {
        int64_t left = until - now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, left > 0 ? (int)left : 0);
        if (ready == 0) {
            return -1;
        }
        if (ready < 0) {
            continue; /* a signal that does not end the starter */
        }
        ssize_t n = read(fd, word, cap);
        if (n >= 0) {
            return n;
        }
        if (errno != EINTR) {
            return 0;
        }
    }
}

/* The end of what the host logged since it was started, from the begin of a line. */
static void print_log_end(const struct detach *d)
{
    char tail[TAIL_BYTES + 1];
    int fd = open(d->log, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    off_t from = st.st_size - TAIL_BYTES > d->log_at ? st.st_size - TAIL_BYTES : (off_t)d->log_at;
    ssize_t n = pread(fd, tail, TAIL_BYTES, from);
    close(fd);
    if (n <= 0) {
        return;
    }
    tail[n] = '\0';
    const char *start = tail;
    if (from > d->log_at && strchr(tail, '\n')) {
        start = strchr(tail, '\n') + 1;
    }
    fprintf(stderr, "the end of its log:\n%s%s", start, tail[n - 1] == '\n' ? "" : "\n");
}

int detach_wait(struct detach *d, int64_t timeout_ms)
{
    char word[WORD_BYTES + 1];
    ssize_t n = read_word(d->fd, word, WORD_BYTES, timeout_ms);
    close(d->fd);
    word[n > 0 ? n : 0] = '\0';
    if (n > 1 && word[0] == 'R') {
        printf("%s\n", word + 1);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (n > 2 && word[0] == 'F') {
        const char *text = word + 2, *hint = text + strlen(text) + 1;
        print_error(text, hint < word + n ? hint : "");
        return (unsigned char)word[1];
    }
    char text[1200];
    if (n < 0) {
        snprintf(text, sizeof text,
                 "the host does not serve after %lld s; it goes on starting, see \"%s\"",
                 (long long)(timeout_ms / 1000), d->log);
        print_error(text, "");
        return gw_err_exit(GW_ETIMEOUT);
    }
    snprintf(text, sizeof text, "the host ended before it served; its log is \"%s\"", d->log);
    print_error(text, "");
    print_log_end(d);
    return gw_err_exit(GW_EFAIL);
}

/* --- the host --- */

static void say(struct detach *d, const char *word, size_t n)
{
    /* A starter that was interrupted does not hear it; the host goes on all the same. */
    ssize_t done;
    do {
        done = send(d->fd, word, n, MSG_NOSIGNAL);
    } while (done < 0 && errno == EINTR);
    close(d->fd);
    d->fd = -1;
}

void detach_ready(struct detach *d, const char *line)
{
    if (!d->on) {
        printf("%s\n", line);
        fflush(stdout);
        return;
    }
    if (d->fd < 0) {
        return;
    }
    char word[WORD_BYTES];
    int n = snprintf(word, sizeof word, "R%s", line);
    say(d, word, n < WORD_BYTES ? (size_t)n : WORD_BYTES - 1);
}

int detach_failed(struct detach *d, const struct gw_error *why)
{
    int code = gw_err_exit(why->code);
    print_error(why->text, why->hint); /* detached: into the log */
    if (d->on && d->fd >= 0) {
        char word[WORD_BYTES];
        int n = snprintf(word + 2, sizeof word - 2, "%s%c%s%c", why->text, '\0', why->hint, '\0');
        word[0] = 'F';
        word[1] = (char)code;
        say(d, word, (size_t)n + 2);
    }
    return code;
}

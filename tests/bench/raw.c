/* Floors of this machine, measured in the same run: what one hop costs without Godwit. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define TURNS 2000

static double ping(int fd)
{
    struct samples s = {0};
    char buf[64] = {1};
    for (int i = 0; i < TURNS; i++) {
        double began = now_us();
        if (write(fd, buf, sizeof buf) != sizeof buf || read(fd, buf, sizeof buf) != sizeof buf) {
            perror("ping");
            exit(1);
        }
        if (i >= TURNS / 10) {
            sample_add(&s, now_us() - began);
        }
    }
    double p50 = sample_at(&s, 0.5);
    sample_free(&s);
    return p50;
}

static void pong(int fd)
{
    char buf[64];
    while (read(fd, buf, sizeof buf) > 0) {
        if (write(fd, buf, sizeof buf) < 0) {
            break;
        }
    }
    _exit(0);
}

static double over_pair(void)
{
    int p[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) != 0) {
        perror("socketpair");
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(p[0]);
        pong(p[1]);
    }
    close(p[1]);
    double us = ping(p[0]);
    close(p[0]);
    waitpid(pid, NULL, 0);
    return us;
}

static double over_tcp(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 1) ||
        getsockname(l, (struct sockaddr *)&a, &len)) {
        perror("tcp");
        exit(1);
    }
    pid_t pid = fork();
    if (pid == 0) {
        int s = accept(l, NULL, NULL);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pong(s);
    }
    int c = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c, (struct sockaddr *)&a, sizeof a)) {
        perror("connect");
        exit(1);
    }
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    double us = ping(c);
    close(c);
    close(l);
    waitpid(pid, NULL, 0);
    return us;
}

static double append_sync(const char *home)
{
    char path[300], row[256] = {7};
    struct samples s = {0};
    snprintf(path, sizeof path, "%s/floor", home);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    for (int i = 0; i < 500; i++) {
        double began = now_us();
        if (write(fd, row, sizeof row) < 0 || fdatasync(fd) != 0) {
            perror(path);
            exit(1);
        }
        sample_add(&s, now_us() - began);
    }
    close(fd);
    unlink(path);
    double p50 = sample_at(&s, 0.5);
    sample_free(&s);
    return p50;
}

/* Where the two ends run decides (one core or two), and differs from try to try. */
static double median_of(double (*measure)(void))
{
    struct samples s = {0};
    for (int i = 0; i < 5; i++) {
        sample_add(&s, measure());
    }
    double median = sample_at(&s, 0.5);
    sample_free(&s);
    return median;
}

void raw_hops(struct bench *b)
{
    b->raw_pair_us = b->raw_unix_us = median_of(over_pair);
    b->raw_tcp_us = median_of(over_tcp);
}

void raw_floors(struct bench *b)
{
    raw_hops(b);
    b->raw_sync_us = append_sync(b->dir);
    printf("floors of this run: unix socket %.1f us, tcp %.1f us a round trip, append+fdatasync "
           "%.1f us\n",
           b->raw_unix_us, b->raw_tcp_us, b->raw_sync_us);
}

/* A run of the command line inside a test: what it prints where, and its exit code. Included by
 * tests of clients/cli after cmocka.h. */
#ifndef TESTS_RUN_CLI_H
#define TESTS_RUN_CLI_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli.h"

static char out[65536], err[65536]; /* what the last run printed */

static inline void read_back(int fd, char *ret, size_t cap)
{
    ssize_t n = pread(fd, ret, cap - 1, 0);
    ret[n > 0 ? n : 0] = '\0';
}

static inline int run_words(const char **words, const struct cli_command *extra, size_t extra_count)
{
    char out_path[] = "/tmp/gwoutXXXXXX", err_path[] = "/tmp/gwerrXXXXXX";
    int argc = 0, saved[2] = {dup(1), dup(2)}, fds[2] = {mkstemp(out_path), mkstemp(err_path)};
    char *argv[32];
    for (; words[argc]; argc++) {
        argv[argc] = strdup(words[argc]);
    }
    argv[argc] = NULL;
    char *owned[32];
    memcpy(owned, argv, sizeof owned);
    fflush(NULL);
    dup2(fds[0], 1);
    dup2(fds[1], 2);
    int code = cli_main(argc, argv, extra, extra_count);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
    }
    read_back(fds[0], out, sizeof out);
    read_back(fds[1], err, sizeof err);
    close(fds[0]);
    close(fds[1]);
    unlink(out_path);
    unlink(err_path);
    for (int i = 0; i < argc; i++) {
        free(owned[i]);
    }
    return code;
}

#define PRINTS(stream, text)                                                                       \
    do {                                                                                           \
        if (!strstr((stream), (text))) {                                                           \
            fail_msg("\"%s\" is not in: %s", (text), (stream));                                    \
        }                                                                                          \
    } while (0)

#endif

/* Files that are sent, and what has become of them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/files.h"

#define STEP (1u << 20)

static void check(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static uint64_t rotated(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

/* xoshiro256** (Blackman, Vigna 2018). */
static void fill_random(uint64_t state[4], uint64_t *to, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        uint64_t t = state[1] << 17;
        to[i] = rotated(state[1] * 5, 7) * 9;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= t;
        state[3] = rotated(state[3], 45);
    }
}

static int create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    check(fd >= 0, path);
    return fd;
}

static void write_all(int fd, const void *from, size_t n, const char *path)
{
    const char *p = from;
    while (n > 0) {
        ssize_t did = write(fd, p, n);
        check(did > 0, path);
        p += did;
        n -= (size_t)did;
    }
}

void make_file(const char *path, uint64_t bytes, uint64_t seed)
{
    static uint64_t block[STEP / 8];
    uint64_t state[4] = {seed * 0x9E3779B97F4A7C15ULL + 1, seed ^ 0xBF58476D1CE4E5B9ULL, ~seed, 7};
    int fd = create(path);
    for (uint64_t at = 0; at < bytes;) {
        size_t n = bytes - at < STEP ? (size_t)(bytes - at) : STEP;
        fill_random(state, block, STEP / 8);
        write_all(fd, block, n, path);
        at += n;
    }
    check(fsync(fd) == 0, path);
    close(fd);
}

void make_small_files(const char *dir, int count, size_t bytes)
{
    char path[400];
    make_folder(dir);
    for (int i = 0; i < count; i++) {
        uint64_t block[512], state[4] = {(uint64_t)i + 1, 2, 3, 4};
        snprintf(path, sizeof path, "%s/%05d", dir, i);
        int fd = create(path);
        fill_random(state, block, 512);
        write_all(fd, block, bytes < sizeof block ? bytes : sizeof block, path);
        close(fd);
    }
    settle(dir);
}

static void copy_bytes(int from, int to, uint64_t n, const char *path)
{
    static char block[STEP];
    while (n > 0) {
        ssize_t got = read(from, block, n < STEP ? (size_t)n : STEP);
        check(got > 0, path);
        write_all(to, block, (size_t)got, path);
        n -= (uint64_t)got;
    }
}

void make_inserted(const char *path, const char *of)
{
    struct stat st;
    int from = open(of, O_RDONLY | O_CLOEXEC);
    check(from >= 0 && fstat(from, &st) == 0, of);
    int to = create(path);
    uint64_t half = (uint64_t)st.st_size / 2;
    copy_bytes(from, to, half, path);
    write_all(to, "!", 1, path);
    copy_bytes(from, to, (uint64_t)st.st_size - half, path);
    check(fsync(to) == 0, path);
    close(from);
    close(to);
}

void must_equal(const char *a, const char *b)
{
    char *argv[] = {(char *)"cmp", (char *)a, (char *)b, NULL};
    process_must(argv, NULL);
}

void remove_tree(const char *path)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", (char *)path, NULL};
    process_must(argv, NULL);
}

void make_folder(const char *path)
{
    check(mkdir(path, 0755) == 0 || access(path, W_OK) == 0, path);
}

/* ---- what does not stay behind ---- */

static char scratch[4][300];

static void remove_scratch(void)
{
    for (int i = 0; i < 4; i++) {
        if (scratch[i][0]) {
            remove_tree(scratch[i]);
        }
    }
}

void scratch_folder(const char *path)
{
    static int count;
    if (count == 0) {
        atexit(remove_scratch);
    }
    make_folder(path);
    snprintf(scratch[count++ % 4], sizeof scratch[0], "%s", path);
}

uint64_t folder_bytes(const char *dir)
{
    uint64_t sum = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            sum += (uint64_t)st.st_blocks * 512;
        }
    }
    if (d) {
        closedir(d);
    }
    return sum;
}

void settle(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(fd >= 0 && syncfs(fd) == 0, dir);
    close(fd);
}

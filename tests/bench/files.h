/* What the cases of files and artifacts share: files to send, and others that send them. */
#ifndef TESTS_BENCH_FILES_H
#define TESTS_BENCH_FILES_H

#include <stdint.h>

#include "tests/bench/bench.h"
#include "tests/bench/process.h"

#define MIB (1024.0 * 1024.0)

/* ---- peers (file_peers.c) ---- */
struct file_peers {
    char dir[300];
    struct process rsync, nginx;
    bool has_rsync, has_nginx;
    int rsync_port, nginx_port;
};
/* rsync writes to folder `to`, nginx serves folder `from`. */
void file_peers_open(struct file_peers *p, const char *dir, const char *from, const char *to);
void file_peers_close(struct file_peers *p);
/* Seconds; 0 when the peer is not there. */
double peer_rsync(struct file_peers *p, const char *options, const char *from, const char *name);
double peer_rsync_synced(struct file_peers *p, const char *from, const char *name); /* --fsync */
double peer_curl(struct file_peers *p, const char *name, const char *to);

/* ---- files (file_make.c) ---- */
/* A file that does not compress, by the seed; on the disk when this returns. */
void make_file(const char *path, uint64_t bytes, uint64_t seed);
void make_small_files(const char *dir, int count, size_t bytes);
/* A copy with one byte inserted in the middle. */
void make_inserted(const char *path, const char *of);
void must_equal(const char *a, const char *b);
void remove_tree(const char *path);
void make_folder(const char *path);
/* The same for gibibytes that go when the bench ends, however it does. */
void scratch_folder(const char *path);
/* Bytes that the files of one folder take. */
uint64_t folder_bytes(const char *dir);
/* What others have written is on the disk: so that it is not we who write it. */
void settle(const char *dir);

#endif

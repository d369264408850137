/* A mesh of real hosts in a temporary home, for `godwit selftest` and tests: child processes that
 * end with this one, whatever happens to it. One thread. */
#ifndef CLIENTS_CLI_SELFTEST_MESH_H
#define CLIENTS_CLI_SELFTEST_MESH_H

#include <sys/types.h>

#include <godwit/client.h>

#define MESH_HOSTS 3

struct mesh_host {
    char name[8];
    char listen[64];          /* address:port of its first start, kept for the next ones */
    pid_t pid;                /* 0 = not running */
    int ready;                /* its pipe, until it has said that it is; -1 */
    const char *plugin;       /* borrowed; NULL = those that it finds */
    const char *fail;         /* borrowed; its $GODWIT_FAIL; NULL = none */
    struct gw_client *client; /* NULL = not dialled */
};

struct selftest_mesh {
    char home[256];
    const char *program; /* whose hosts they are; NULL = this one's */
    struct mesh_host hosts[MESH_HOSTS];
};

/* Make the home and start every host; the caller closes the mesh also after an error. What it has
 * set in `mesh` stays, the rest is all-zero. GW_EIO, GW_ETIMEOUT a host is not ready in time (its
 * log, NAME.log, is in the home). */
gw_err mesh_open(struct selftest_mesh *mesh, struct gw_error *why) GW_MUST_USE;
/* Start a host that does not run, on its old address. mesh_begin returns when there is a process;
 * mesh_is_ready waits at most so long until it serves: GW_ETIMEOUT not yet, GW_EUNREACHABLE it has
 * ended, or closed its output. mesh_start does both. */
gw_err mesh_start(struct selftest_mesh *mesh, size_t host, struct gw_error *why) GW_MUST_USE;
gw_err mesh_begin(struct selftest_mesh *mesh, size_t host, struct gw_error *why) GW_MUST_USE;
gw_err mesh_is_ready(struct selftest_mesh *mesh, size_t host, int64_t wait_ms) GW_MUST_USE;
/* The process has been waited for by somebody else, or does not answer: drop pipe and client. */
void mesh_hang_up(struct selftest_mesh *mesh, size_t host);
/* SIGKILL, and wait until it is gone. */
void mesh_kill(struct selftest_mesh *mesh, size_t host);
/* SIGSTOP and SIGCONT. */
void mesh_pause(struct selftest_mesh *mesh, size_t host, bool pause);
/* The client of a host that runs, dialled when needed; borrowed until the host is killed. */
gw_err mesh_client(struct selftest_mesh *mesh, size_t host, struct gw_client **ret,
                   struct gw_error *why) GW_MUST_USE;
/* Kill what runs; remove the home unless it is to be kept. */
void mesh_close(struct selftest_mesh *mesh, bool keep);

#endif

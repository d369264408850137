/* The host process around the node: loop, real environment, processes of runners, links of peers
 * and clients.
 *
 * Files: host.c (life), real_env.c (clock, timers, store), spawn.c (runners), inline.c (the runner
 * of the built-in types), agent_dir_ops.c (folders of agents), links.c (peers), trust_ops.c
 * (operations on trust), file_ops.c (operations on files), artifacts.c (artifacts), fetch.c (those
 * of other hosts), bulk.c (threads of the data plane). All but what these threads run is on the
 * loop thread. */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <sys/queue.h>

#include <event2/event.h>

#include "host/api.h"
#include "host/bulk.h"
#include "host/config.h"
#include "host/core/env.h"
#include "host/core/node.h"
#include "host/detach.h"
#include "host/net/link.h"
#include "host/net/server.h"

struct host;

/* One runner process. */
struct runner_process {
    struct host *host;
    size_t index;
    struct link *link;
    struct api_link *api; /* calls that handlers make */
    int pid;
    struct event *failed; /* tells of a spawn that failed, in a later turn */
};

/* A type that runs in the host itself; the table is made by host/main.c. */
struct gw_type;
struct host_builtin {
    const struct gw_type *def;
    struct node_builtin about;
};

struct inline_runner; /* inline.c */

struct file_ops;
struct agent_dirs;
struct artifacts;
struct chunk_store;
struct fetch;
struct agent_files; /* agent_files.c: files that travel with agents */
struct remote;      /* links.c: one other host, or an address of one */

struct host {
    struct event_base *base;
    struct trust *trust;
    struct server *server;
    struct bulk *bulk;
    struct store *store;
    struct storage *storage;
    struct event *storage_wake; /* on storage_fd */
    int storage_fd;
    struct event *signals[2];
    struct event *renewal;
    struct event *trim;
    struct gw_env env;
    int64_t turn_us; /* mono_us of this turn of the loop; 0 = not read yet */
    unsigned turn_reads;
    uint8_t random[512]; /* supply of real_env.c */
    size_t random_left;
    struct node *node;
    struct detach *detach;
    const struct host_config *config;
    char dir[1024]; /* $GODWIT_HOME/hosts/NAME */
    gw_strs plugins;
    struct runner_process *runners;
    const struct host_builtin *builtins;
    size_t builtin_count;
    struct node_builtin *builtin_rows; /* the same as the node takes them */
    struct inline_runner *inline_runner;
    struct file_ops *files;
    struct agent_files *agent_files;
    struct agent_dirs *dirs;
    struct event *dirs_wake; /* on dirs_fd */
    int dirs_fd;
    struct artifacts *artifacts;          /* artifacts.c */
    struct chunk_store *chunks;           /* any thread; NULL: broken (artifacts_store) */
    LIST_HEAD(fetch_list, fetch) fetches; /* fetch.c */
    unsigned fetch_count;
    struct node_fetched *fetched; /* owned; what came from whom, for metrics */
    size_t fetched_count;
    struct remote *remotes;
    struct client_link *clients;
    bool stopping;
    int exit_code;
};

/* Run a host until it is stopped. Returns the exit code. `d` has begun (detach.h). `builtins` is
 * borrowed. */
int host_run(const struct host_config *config, const char *home, struct detach *d,
             const struct host_builtin *builtins, size_t builtin_count);

/* real_env.c: fill host->env; open and close what it stands on. */
gw_err real_env_open(struct host *h, struct gw_error *why) GW_MUST_USE;
void real_env_stop(
    struct host *h); /* ends the storage thread; what is asked of the store later is dropped */
void real_env_close(struct host *h);

/* spawn.c */
gw_err spawn_find_plugins(struct host *h, struct gw_error *why) GW_MUST_USE;
void spawn_start(void *host, size_t index);
void spawn_send(void *host, size_t index, struct buf *frame);
void spawn_kill(void *host, size_t index);
void spawn_close(struct host *h);

/* inline.c: open after the plugins have been found, close after the node has ended */
gw_err inline_open(struct host *h, struct gw_error *why) GW_MUST_USE;
void inline_start(struct host *h);
void inline_send(struct host *h, struct buf *frame); /* taken */
void inline_run(void *host, struct inline_run *in, struct inline_done *done);
void inline_close(struct host *h);

/* agent_dir_ops.c: folders of agents (agent_dirs.h). Sweep once all agents are known; stop while
 * the node still lives: calls are answered. */
gw_err agent_dir_ops_open(struct host *h, struct gw_error *why) GW_MUST_USE;
void agent_dir_ops_sweep(struct host *h);
void agent_dir_ops_gone(void *host, const gw_id *agent); /* of gw_env */
void agent_dir_ops_close(struct host *h);
/* The agent whose handler makes this call, and its type; NULL: no handler does, or its agent does
 * not live here. */
const char *agent_dir_ops_who(struct node *n, const struct op_call *call, gw_id *ret,
                              struct gw_error *why);

/* links.c */
void links_seed(struct host *h, const char *url); /* --peer */
void links_on_link(struct host *h, struct link *link, api_role role);
void links_send(void *host, const struct host_id *to, struct buf *frame);
void links_want(void *host, const struct host_id *id, const char *url);
void links_drop(void *host, const struct host_id *id, const char *reason);
void links_rival(void *host, const struct host_id *id, bool take, struct buf *last_word,
                 const char *reason);
/* Where to dial a host for the data plane; NULL: not known. Valid for this turn. */
const char *links_url(struct host *h, const struct host_id *id);
void links_close(struct host *h);
size_t links_client_count(const struct host *h);

/* file_ops.c: files of this host (file_ops.h). Open after the node; stop calls off what runs, close
 * after the threads have ended. */
gw_err file_ops_open(struct host *h, struct gw_error *why) GW_MUST_USE;
void file_ops_run(void *host, struct op_call *call, const struct env_host *to); /* of gw_env */
void file_ops_sample(struct host *h, struct node_sample *ret);
void file_ops_stop(struct host *h);
void file_ops_close(struct host *h);

/* trust_ops.c: ask for a new certificate, or make one, when this host's is due. */
void trust_ops_renew(struct host *h);

#endif

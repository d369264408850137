/* Shared by agent_files.c (the loop), agent_files_out.c and agent_files_in.c (threads). */
#ifndef HOST_AGENT_FILES_INNER_H
#define HOST_AGENT_FILES_INNER_H

#include <pthread.h>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <uthash.h>

#include "host/agent_files.h"
#include "host/files/roots.h"
#include "protocol/limits.h"

#define CARRIED_SERVICE    "carried"
#define CARRIED_BLOCK      (1024u * 1024) /* bytes that are read, hashed and written at once */
#define CARRIED_TAG_BYTES  16             /* stands for the state of a file at its source */
#define CARRIED_WIRE_BYTES 2048           /* of one record: a name and some numbers */

/* ---- the folders that something may come into (agent_files_in.c); any thread ---- */
struct incoming;
/* quota: bytes that may come into one folder, 0 = any number. */
gw_err incoming_open(const char *dir, uint64_t quota, struct incoming **ret,
                     struct gw_error *why) GW_MUST_USE;
void incoming_close(struct incoming *in);
gw_err incoming_expect(struct incoming *in, const struct host_id *from, const gw_id *ticket,
                       const gw_id *agent, uint64_t bytes, struct gw_error *why) GW_MUST_USE;
/* ret_from: the host that it is expected from, where it is. */
bool incoming_comes(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                    struct host_id *ret_from);
/* Nothing more comes into it, from now on. over: nor is anything asked about what has come. */
void incoming_shut(struct incoming *in, const gw_id *ticket, const gw_id *agent, bool over);
/* Absolute; the caller frees it. */
char *incoming_path(const struct incoming *in, const gw_id *ticket, const gw_id *agent);
/* Behind incoming_shut; they block. Whether exactly these lie there; remove the folder; list all.
 */
struct wanted_file {
    char name[LIMIT_CARRIED_NAME_BYTES + 1];
    uint64_t size;
    uint8_t hash[ENV_FILE_HASH_BYTES];
};
gw_err incoming_verify(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                       const struct wanted_file *files, size_t n, struct gw_error *why) GW_MUST_USE;
gw_err incoming_drop(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                     struct gw_error *why) GW_MUST_USE;
/* ret: of malloc. */
gw_err incoming_list(struct incoming *in, struct env_folder **ret, size_t *ret_n) GW_MUST_USE;

/* One who writes into a folder: a session, or a copy that stays on this host. */
struct incoming_visit;
gw_err incoming_enter(struct incoming *in, const struct host_id *from, const gw_id *ticket,
                      const gw_id *agent, struct incoming_visit **ret,
                      struct gw_error *why) GW_MUST_USE;
void incoming_leave(struct incoming_visit *v); /* a file that is not ended waits for another try */
struct incoming_meta {
    char name[LIMIT_CARRIED_NAME_BYTES + 1];
    uint64_t size;
    int64_t mtime_ns;
    uint32_t perm;
    uint8_t tag[CARRIED_TAG_BYTES];
};
/* Begin the next file. ret_have: so many bytes of this very state of it are there already. GW_EBUSY
 * another visit writes it; GW_EDISK_FULL, GW_ECANCELLED the folder is shut. */
gw_err incoming_begin(struct incoming_visit *v, const struct incoming_meta *meta,
                      uint64_t *ret_have, struct gw_error *why) GW_MUST_USE;
/* Bytes of it that are still to come. */
uint64_t incoming_left(const struct incoming_visit *v);
gw_err incoming_write(struct incoming_visit *v, const void *data, size_t n,
                      struct gw_error *why) GW_MUST_USE;
/* All bytes are there: it is flushed and whole. GW_EPROTO: their hash is another; it is not kept.
 */
gw_err incoming_end(struct incoming_visit *v, const uint8_t hash[ENV_FILE_HASH_BYTES],
                    struct gw_error *why) GW_MUST_USE;

/* A session, from its first record. */
gw_err agent_files_take(struct incoming *in, struct bulk_request *request, struct bulk_io *io);

/* ---- agent_files_out.c: threads ---- */
struct carried_file {
    char name[LIMIT_CARRIED_NAME_BYTES + 1];
    char path[LIMIT_CARRIED_PATH_BYTES + 1];
    struct env_fact fact; /* what became of it */
    struct env_fact was;  /* what it was, for a removal */
};
struct carried_job {
    const struct roots *roots; /* immutable */
    struct incoming *incoming; /* any thread */
    char folder[PATH_MAX];     /* the work folder of its agent */
    struct host_id self;       /* of a copy that stays here */
    gw_id ticket, agent;
    struct carried_file *files;
    size_t count;
};
/* Each is a bulk_work with a struct carried_job; the facts are filled. */
gw_err carried_check(struct bulk_io *io, void *job, struct gw_error *why);
gw_err carried_send(struct bulk_io *io, void *job, struct gw_error *why);
gw_err carried_copy(struct bulk_io *io, void *job, struct gw_error *why);
gw_err carried_remove(struct bulk_io *io, void *job, struct gw_error *why);

/* ---- both: one record, u32 length | msgpack ---- */
gw_err carried_put(struct bulk_io *io, struct buf *record) GW_MUST_USE; /* taken */
/* GW_ENOT_FOUND: the other end has ended instead. buf_free */
gw_err carried_get(struct bulk_io *io, struct buf *ret) GW_MUST_USE;
gw_err carried_read(struct bulk_io *io, void *to, size_t n, bool begun) GW_MUST_USE;
/* [code, text, number] */
gw_err carried_put_answer(struct bulk_io *io, gw_err code, const struct gw_error *why,
                          uint64_t number) GW_MUST_USE;
gw_err carried_get_answer(struct bulk_io *io, uint64_t *ret_number,
                          struct gw_error *why) GW_MUST_USE;
gw_err carried_hash_end(EVP_MD_CTX *ctx, uint8_t ret[ENV_FILE_HASH_BYTES]) GW_MUST_USE;

#endif

/* What the files of the chunk store share: chunk_index.c (rows), chunk_pack.c (bytes),
 * chunk_commit.c (batches, group commit), chunk_collect.c, chunk_verify.c, artifact_*.c.
 *
 * One mutex guards everything here, the database included: a statement or transaction runs under
 * it, reading, hashing and writing of chunks and flushes of packs do not. What must not go away
 * meanwhile is counted: packs have `users`, and `unnamed` chunks that no row names yet; chunks that
 * a batch relies on are pinned; artifacts that are read or written stand in lists. */
#ifndef PERSISTENCE_CHUNK_INNER_H
#define PERSISTENCE_CHUNK_INNER_H

#include <pthread.h>
#include <sys/queue.h>

#include "persistence/artifact.h"
#include "persistence/chunk_store.h"
#include "persistence/db.h"
#include "persistence/sha_run.h"

#define PACK_BYTES  (64u * 1024 * 1024) /* a new pack is begun instead of growing beyond this */
#define BATCH_ITEMS 256                 /* chunks of one batch */
#define PIN_BUCKETS 1024

/* Pages in the log of artifacts.db: with so many it is moved into the database; where the disk is
 * too full for that, nothing new is taken from INDEX_LOG_FULL on, so that removing still has room
 * in what is set aside for the log. */
#define INDEX_LOG_PAGES 256
#define INDEX_LOG_FULL  512
#define INDEX_LOG_BYTES (4u * 1024 * 1024)

/* --- packs --- */
struct pack {
    LIST_ENTRY(pack) link;
    uint32_t id;        /* 1, 2, ...; the file is packs/<8 hex>.pack */
    int fd;             /* -1: not open */
    unsigned users;     /* threads that read or write it now */
    unsigned unnamed;   /* chunks in it that no row names yet */
    uint64_t end;       /* bytes, those that are being written included */
    uint64_t live;      /* bytes that rows name */
    uint64_t named_end; /* at opening: behind the last of them */
    bool dirty;         /* written since its last flush */
    bool moved;         /* collect writes what is left of it anew */
    gw_err failed;      /* a flush failed: what was not flushed before is lost */
};

/* --- chunks that a batch relies on --- */
struct pinned {
    LIST_ENTRY(pinned) pin;
    struct chunk_hash hash;
    uint32_t len;
    bool written;      /* by this batch, into `pack` at `at`; else it was here before */
    struct pack *pack; /* NULL: not written */
    uint64_t at;
    uint64_t counted; /* bytes of the quota that it has reserved */
    uint32_t from;    /* of a batch that moves: the pack that it leaves */
    int64_t row;      /* of the chunk, in the transaction and after it */
};
LIST_HEAD(pin_list, pinned);

struct chunk_batch {
    struct chunk_store *s;
    struct pinned *items; /* BATCH_ITEMS of them */
    size_t count;
    uint64_t bytes; /* written by it */
    bool moving;    /* collect: the chunks have rows, which get a new place */
};

/* --- transactions --- */
/* What a transaction changes in memory once it is committed. */
struct effect {
    struct pack *pack; /* NULL: none */
    int64_t live, used, chunks, artifacts, uploads, artifact_bytes;
};

struct commit {
    STAILQ_ENTRY(commit) link;
    struct chunk_batch *batch; /* NULL: none */
    /* Rows of the caller, in the transaction, under the mutex; NULL: none. */
    gw_err (*apply)(struct chunk_store *s, void *arg, struct gw_error *why);
    void *arg;
    gw_err err;
    struct gw_error why;
    bool done;
};

typedef enum artifact_state {
    ARTIFACT_UPLOAD = 0,
    ARTIFACT_WHOLE = 1,
    ARTIFACT_REMOVED = 2, /* nobody sees it; its rows go by and by */
} artifact_state;

struct chunk_row {
    int64_t id;
    struct chunk_hash hash;
    uint32_t len, pack; /* pack 0: its bytes are nowhere */
    uint64_t at;
    int64_t refs;
    bool bad;
};

struct artifact_row {
    int64_t id;
    artifact_state state;
    struct artifact_info info;
    bool resumable;
    int64_t ttl_ms;
    uint64_t tail_at;   /* an upload: where the chunk that is not at its end yet begins */
    struct sha_run sha; /* and the hash of everything before it */
};

/* One per open reader or writer. */
struct artifact_use {
    LIST_ENTRY(artifact_use) link;
    int64_t row;
    bool writes;
};

typedef enum chunk_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SAVEPOINT,
    SQL_RELEASE,
    SQL_BACK,
    SQL_CHUNK_FIND,
    SQL_CHUNK_ADD,
    SQL_CHUNK_PLACE,
    SQL_CHUNK_REFS,
    SQL_CHUNK_BAD,
    SQL_CHUNK_LOOSE,
    SQL_CHUNK_DROP,
    SQL_CHUNK_NEXT,
    SQL_CHUNK_OF_PACK,
    SQL_CHUNK_SUMS,
    SQL_RECIPE_ADD,
    SQL_RECIPE_AT,
    SQL_RECIPE_FROM,
    SQL_RECIPE_DROP,
    SQL_RECIPE_USERS,
    SQL_ARTIFACT_ADD,
    SQL_ARTIFACT_SET,
    SQL_ARTIFACT_STATE,
    SQL_ARTIFACT_DROP,
    SQL_ARTIFACT_GET,
    SQL_ARTIFACT_BY_HASH,
    SQL_ARTIFACT_LIST,
    SQL_ARTIFACT_LIST_OWNER,
    SQL_ARTIFACT_OF_STATE,
    SQL_ARTIFACT_EXPIRED,
    SQL_ARTIFACT_SUMS,
    SQL_COUNT
} chunk_sql;

struct chunk_store {
    pthread_mutex_t lock;
    pthread_cond_t committed; /* a commit is done, or its leader */
    struct chunk_options options;
    char *dir; /* owned, absolute */
    int lock_fd, packs_fd;
    struct db db;
    sqlite3_stmt *stmts[SQL_COUNT];
    LIST_HEAD(, pack) packs;
    struct pack *active; /* that chunks are appended to; NULL: the next one makes one */
    uint32_t next_pack;
    unsigned open_packs;
    bool unsynced; /* a pack was made since the last fsync of the folder */
    struct pin_list pins[PIN_BUCKETS];
    LIST_HEAD(, artifact_use) uses;
    STAILQ_HEAD(, commit) waiting;
    bool leading; /* a thread runs commits for all */
    struct effect *effects;
    size_t effect_count, effect_cap;
    struct chunk_stats sums;         /* packs, pack_bytes and quota_bytes: not kept here */
    int64_t clock_apart, calm_since; /* wall - mono at the last look; mono ms */
};

/* --- chunk_index.c: rows; under the mutex. Errors: GW_ENOMEM, GW_ECORRUPT, GW_EDISK_FULL --- */
extern const struct schema chunk_schema;
gw_err index_prepare(struct chunk_store *s) GW_MUST_USE;
void index_finalize(struct chunk_store *s);
gw_err index_run(struct chunk_store *s, chunk_sql which) GW_MUST_USE; /* without parameters */
/* Packs get their `live`, the store its sums. `on_pack`: pack, live bytes, end of the last chunk.
 */
gw_err index_sums(struct chunk_store *s,
                  gw_err (*on_pack)(struct chunk_store *, uint32_t, uint64_t, uint64_t),
                  struct chunk_stats *ret) GW_MUST_USE;

gw_err index_chunk_find(struct chunk_store *s, const struct chunk_hash *hash,
                        struct chunk_row *ret) GW_MUST_USE; /* GW_ENOT_FOUND */
gw_err index_chunk_add(struct chunk_store *s, const struct pinned *p, int64_t since_ms,
                       int64_t *ret_row) GW_MUST_USE;
/* New place, and whole again. */
gw_err index_chunk_place(struct chunk_store *s, int64_t row, uint32_t pack,
                         uint64_t at) GW_MUST_USE;
gw_err index_chunk_bad(struct chunk_store *s, int64_t row, bool bad, bool nowhere) GW_MUST_USE;
/* `since` of one that nobody needs any more is 0: it can go at once. */
gw_err index_chunk_refs(struct chunk_store *s, int64_t row, int by) GW_MUST_USE;
/* Unneeded ones with since <= `since_ms`, from row `after` on; *ret_count < room: that was all. */
gw_err index_chunk_loose(struct chunk_store *s, int64_t since_ms, int64_t after,
                         struct chunk_row *ret, size_t room, size_t *ret_count) GW_MUST_USE;
gw_err index_chunk_drop(struct chunk_store *s, int64_t row) GW_MUST_USE;
gw_err index_chunk_next(struct chunk_store *s, int64_t after,
                        struct chunk_row *ret) GW_MUST_USE; /* needed ones; GW_ENOT_FOUND */
/* By their place, from `at` on. */
gw_err index_chunks_of_pack(struct chunk_store *s, uint32_t pack, uint64_t at,
                            struct chunk_row *ret, size_t room, size_t *ret_count) GW_MUST_USE;

gw_err index_recipe_add(struct chunk_store *s, int64_t artifact, uint64_t at,
                        int64_t chunk) GW_MUST_USE;
/* The chunk that holds offset `at`, and where it begins. GW_ENOT_FOUND. */
gw_err index_recipe_at(struct chunk_store *s, int64_t artifact, uint64_t at, uint64_t *ret_at,
                       struct chunk_row *ret) GW_MUST_USE;
/* Chunks that begin at `at` or behind it. */
gw_err index_recipe_from(struct chunk_store *s, int64_t artifact, uint64_t at, uint64_t *ret_ats,
                         struct chunk_row *ret, size_t room, size_t *ret_count) GW_MUST_USE;
gw_err index_recipe_drop(struct chunk_store *s, int64_t artifact, uint64_t at) GW_MUST_USE;
gw_err index_recipe_users(struct chunk_store *s, int64_t chunk, gw_id *ret, size_t room,
                          size_t *ret_count) GW_MUST_USE;

gw_err index_artifact_add(struct chunk_store *s,
                          struct artifact_row *row) GW_MUST_USE; /* sets id */
gw_err index_artifact_set(struct chunk_store *s, const struct artifact_row *row,
                          int64_t now_ms) GW_MUST_USE;
gw_err index_artifact_state(struct chunk_store *s, int64_t id, artifact_state state) GW_MUST_USE;
gw_err index_artifact_drop(struct chunk_store *s, int64_t id) GW_MUST_USE;
gw_err index_artifact_get(struct chunk_store *s, const gw_id *id,
                          struct artifact_row *ret) GW_MUST_USE; /* GW_ENOT_FOUND */
gw_err index_artifact_by_hash(struct chunk_store *s, const struct chunk_hash *hash, int64_t now_ms,
                              struct artifact_row *ret) GW_MUST_USE;
gw_err index_artifact_list(struct chunk_store *s, const gw_id *after, const gw_id *owner,
                           int64_t now_ms, struct artifact_info *ret, size_t room,
                           size_t *ret_count) GW_MUST_USE;
/* Of that state, untouched since `before_ms` (uploads that are not resumable: whenever), with a row
 * above `after`. */
gw_err index_artifact_next(struct chunk_store *s, artifact_state state, int64_t before_ms,
                           int64_t after, struct artifact_row *ret) GW_MUST_USE;
gw_err index_artifact_expired(struct chunk_store *s, int64_t now_ms, int64_t after,
                              struct artifact_row *ret) GW_MUST_USE;

/* --- chunk_pack.c: bytes --- */
/* Open or make the folder, and know its files. */
gw_err pack_open_all(struct chunk_store *s, struct gw_error *why) GW_MUST_USE;
/* At opening: what rows say of a pack. Then remove what they do not name. */
gw_err pack_known(struct chunk_store *s, uint32_t id, uint64_t live, uint64_t end) GW_MUST_USE;
void pack_trim_all(struct chunk_store *s);
void pack_close_all(struct chunk_store *s);
struct pack *pack_find(struct chunk_store *s, uint32_t id); /* under the mutex; NULL: none */
/* Under the mutex: room for len bytes in the active pack, which gets a user and an unnamed chunk.
 * GW_EDISK_FULL, GW_EBUSY, GW_ENOMEM. */
gw_err pack_reserve(struct chunk_store *s, uint32_t len, struct pack **ret, uint64_t *ret_at,
                    struct gw_error *why) GW_MUST_USE;
/* Without the mutex. GW_EDISK_FULL. */
gw_err pack_write(struct chunk_store *s, struct pack *p, uint64_t at, struct span bytes,
                  struct gw_error *why) GW_MUST_USE;
/* Under the mutex: give room back that was not written, if nothing is behind it. */
void pack_unreserve(struct chunk_store *s, struct pack *p, uint64_t at, uint32_t len);
/* Under the mutex: a user for the pack. GW_ECORRUPT: there is none; GW_EBUSY. */
gw_err pack_hold(struct chunk_store *s, uint32_t id, struct pack **ret,
                 struct gw_error *why) GW_MUST_USE;
void pack_drop(struct chunk_store *s, struct pack *p); /* under the mutex */
/* Without the mutex: read and hash. GW_ECORRUPT, GW_EIO, GW_ENOMEM. */
gw_err pack_read(struct chunk_store *s, const struct pack *p, const struct chunk_row *row,
                 struct buf *ret, struct gw_error *why) GW_MUST_USE;
/* Flush all packs that were written; called with the mutex, which is given up meanwhile. A pack
 * that could not be is `failed`. GW_EDISK_FULL: the folder could not be. */
gw_err pack_flush(struct chunk_store *s, struct gw_error *why) GW_MUST_USE;
void pack_remove(struct chunk_store *s, struct pack *p); /* under the mutex; nobody uses it */
/* Under the mutex: give the disk back what lies between `kept` extents, n of them by their place,
 * and behind them. Where the file system cannot, only the end. */
struct extent {
    uint64_t at;
    uint32_t len;
};
void pack_punch(struct chunk_store *s, struct pack *p, const struct extent *kept, size_t n);

/* --- chunk_commit.c --- */
bool pin_is_set(struct chunk_store *s, const struct chunk_hash *hash);
/* As chunk_batch_put; the item, valid until the batch is committed or dropped. */
gw_err batch_put(struct chunk_batch *b, struct span bytes, const struct chunk_hash *hash,
                 size_t *ret_item, struct gw_error *why) GW_MUST_USE;
/* Rely on a chunk that is here. GW_ENOT_FOUND: it is not, or damaged; GW_EBUSY. */
gw_err batch_pin(struct chunk_batch *b, const struct chunk_hash *hash, size_t *ret_item,
                 struct gw_error *why) GW_MUST_USE;
void batch_reset(struct chunk_batch *b);
/* One transaction, grouped with those of other threads. Without the mutex. The batch is empty
 * afterwards. */
gw_err commit_run(struct chunk_store *s, struct chunk_batch *batch,
                  gw_err (*apply)(struct chunk_store *s, void *arg, struct gw_error *why),
                  void *arg, struct gw_error *why) GW_MUST_USE;
/* The same alone and at once, under the mutex, without a batch. */
gw_err commit_now(struct chunk_store *s,
                  gw_err (*apply)(struct chunk_store *s, void *arg, struct gw_error *why),
                  void *arg, struct gw_error *why) GW_MUST_USE;
/* In `apply`: what to change in memory when it is committed. GW_ENOMEM. */
gw_err commit_effect(struct chunk_store *s, struct effect e) GW_MUST_USE;

/* --- chunk_store.c --- */
int64_t store_wall_ms(const struct chunk_store *s);
uint64_t chunk_counted(uint32_t len);      /* what it takes of the quota */
bool store_is_calm(struct chunk_store *s); /* under the mutex: the wall clock can be believed */
/* Read the chunk where `row` says, without the mutex; a result other than GW_OK is of that place.
 */
gw_err store_read_row(struct chunk_store *s, const struct chunk_row *row, struct buf *ret,
                      struct gw_error *why) GW_MUST_USE;
/* What was read at that place is not the chunk, or is (`bad` false): mark it so, unless it has got
 * another place meanwhile. False: it has, look again. Without the mutex. */
bool store_mark(struct chunk_store *s, const struct chunk_row *row, bool bad);
bool chunk_is_damage(gw_err err); /* of store_read_row: the bytes, not our means */

/* --- chunk_collect.c --- */
/* Under the mutex, which it keeps: a part of what is to be done without moving chunks. */
gw_err collect_rows(struct chunk_store *s, bool *ret_more, struct gw_error *why) GW_MUST_USE;
/* Under the mutex: the disk is full: make room where nothing has to be written for it. */
void collect_room(struct chunk_store *s);

/* --- artifact_rows.c --- */
/* Under the mutex. GW_ENOT_FOUND: none, removed or expired. */
gw_err artifact_row_get(struct chunk_store *s, const gw_id *id, struct artifact_row *ret,
                        struct gw_error *why) GW_MUST_USE;
struct artifact_use *artifact_use_find(struct chunk_store *s, int64_t row);

#endif

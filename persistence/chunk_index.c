/* The rows of the chunk store. `recipe` says which chunks an artifact is made of, by their offset
 * in it; `chunk.refs` is how many of these rows name the chunk, changed in the transaction that
 * changes them. */
#include "persistence/chunk_inner.h"

#include <string.h>

#include "persistence/schema.h"
#include "persistence/seal.h"
#include "protocol/base/log.h"

static const struct schema_step steps[] = {
    {"first layout",
     /* state: artifact_state; hash, tail_at, sha: of uploads the running state, of whole ones NULL
      * or the hash; touched: last change; ttl: ms until the end of one that is not finished yet */
     "CREATE TABLE artifact(id INTEGER PRIMARY KEY, uid BLOB NOT NULL UNIQUE,"
     " state INTEGER NOT NULL, owner BLOB NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,"
     " size INTEGER NOT NULL, hash BLOB, created INTEGER NOT NULL, expires INTEGER NOT NULL,"
     " ttl INTEGER NOT NULL, resumable INTEGER NOT NULL, touched INTEGER NOT NULL,"
     " tail_at INTEGER NOT NULL, sha BLOB);"
     "CREATE INDEX artifact_hash ON artifact(hash, uid);"
     "CREATE INDEX artifact_owner ON artifact(owner, uid);"
     "CREATE INDEX artifact_expires ON artifact(expires) WHERE expires > 0;"
     "CREATE INDEX artifact_state ON artifact(state, id) WHERE state <> 1;"
     /* pack 0: its bytes are nowhere; since: when it was put without an artifact, 0: collect it at
      * once when refs is 0 */
     "CREATE TABLE chunk(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, pack INTEGER NOT NULL,"
     " at INTEGER NOT NULL, len INTEGER NOT NULL, refs INTEGER NOT NULL, since INTEGER NOT NULL,"
     " bad INTEGER NOT NULL);"
     "CREATE INDEX chunk_pack ON chunk(pack, at, len);"
     "CREATE INDEX chunk_loose ON chunk(id, since) WHERE refs = 0;"
     /* id: of the artifact; at: offset in it */
     "CREATE TABLE recipe(id INTEGER NOT NULL, at INTEGER NOT NULL, chunk INTEGER NOT NULL,"
     " PRIMARY KEY(id, at)) WITHOUT ROWID;"
     "CREATE INDEX recipe_chunk ON recipe(chunk);"},
};
static const char *const tables[] = {"artifact", "chunk", "recipe"};

const struct schema chunk_schema = {
    .what = "a Godwit chunk store",
    .application = SCHEMA_CHUNKS_ID,
    .steps = steps,
    .step_count = sizeof steps / sizeof steps[0],
    .sealed_since = 1,
    .tables = tables,
    .table_count = sizeof tables / sizeof tables[0],
    .key = "id",
};

#define CHUNK_COLUMNS "chunk.id, chunk.hash, chunk.len, chunk.pack, chunk.at, chunk.refs, chunk.bad"
#define ARTIFACT_COLUMNS                                                                           \
    "id, state, uid, owner, name, type, size, hash, created, expires, ttl, resumable, tail_at, "   \
    "sha"

static const char *const sql[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_SAVEPOINT] = "SAVEPOINT one",
    [SQL_RELEASE] = "RELEASE one",
    [SQL_BACK] = "ROLLBACK TO one",
    [SQL_CHUNK_FIND] = "SELECT " CHUNK_COLUMNS " FROM chunk WHERE hash = ?1",
    [SQL_CHUNK_ADD] = "INSERT INTO chunk(hash, pack, at, len, refs, since, bad)"
                      " VALUES(?1, ?2, ?3, ?4, 0, ?5, 0)",
    [SQL_CHUNK_PLACE] = "UPDATE chunk SET pack = ?2, at = ?3, bad = 0 WHERE id = ?1",
    [SQL_CHUNK_REFS] = "UPDATE chunk SET refs = refs + ?2, since = 0 WHERE id = ?1",
    [SQL_CHUNK_BAD] = "UPDATE chunk SET bad = ?2, pack = CASE ?3 WHEN 0 THEN pack ELSE 0 END"
                      " WHERE id = ?1",
    [SQL_CHUNK_LOOSE] = "SELECT " CHUNK_COLUMNS " FROM chunk WHERE refs = 0 AND since <= ?1"
                        " AND id > ?2 ORDER BY id LIMIT ?3",
    [SQL_CHUNK_DROP] = "DELETE FROM chunk WHERE id = ?1",
    [SQL_CHUNK_NEXT] =
        "SELECT " CHUNK_COLUMNS " FROM chunk WHERE id > ?1 AND refs > 0 ORDER BY id LIMIT 1",
    [SQL_CHUNK_OF_PACK] =
        "SELECT " CHUNK_COLUMNS " FROM chunk WHERE pack = ?1 AND at >= ?2 ORDER BY at LIMIT ?3",
    [SQL_CHUNK_SUMS] = "SELECT pack, count(*), sum(len), max(at + len), sum(max(len, ?1))"
                       " FROM chunk GROUP BY pack",
    [SQL_RECIPE_ADD] = "INSERT INTO recipe(id, at, chunk) VALUES(?1, ?2, ?3)",
    [SQL_RECIPE_AT] = "SELECT " CHUNK_COLUMNS ", recipe.at FROM recipe JOIN chunk"
                      " ON chunk.id = recipe.chunk WHERE recipe.id = ?1 AND recipe.at <= ?2"
                      " ORDER BY recipe.at DESC LIMIT 1",
    [SQL_RECIPE_FROM] = "SELECT " CHUNK_COLUMNS ", recipe.at FROM recipe JOIN chunk"
                        " ON chunk.id = recipe.chunk WHERE recipe.id = ?1 AND recipe.at >= ?2"
                        " ORDER BY recipe.at LIMIT ?3",
    [SQL_RECIPE_DROP] = "DELETE FROM recipe WHERE id = ?1 AND at = ?2",
    [SQL_RECIPE_USERS] =
        "SELECT DISTINCT artifact.uid FROM recipe JOIN artifact"
        " ON artifact.id = recipe.id WHERE recipe.chunk = ?1 AND artifact.state < 2"
        " LIMIT ?2",
    [SQL_ARTIFACT_ADD] =
        "INSERT INTO artifact(uid, state, owner, name, type, size, created, expires, ttl,"
        " resumable, touched, tail_at) VALUES(?1, 0, ?2, ?3, ?4, 0, ?5, 0, ?6, ?7, ?5, 0)",
    [SQL_ARTIFACT_SET] =
        "UPDATE artifact SET state = ?2, size = ?3, hash = ?4, created = ?5, expires = ?6,"
        " touched = ?7, tail_at = ?8, sha = ?9 WHERE id = ?1",
    [SQL_ARTIFACT_STATE] = "UPDATE artifact SET state = ?2 WHERE id = ?1",
    [SQL_ARTIFACT_DROP] = "DELETE FROM artifact WHERE id = ?1",
    [SQL_ARTIFACT_GET] = "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE uid = ?1",
    [SQL_ARTIFACT_BY_HASH] = "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE hash = ?1"
                             " AND state = 1 AND (expires = 0 OR expires > ?2)"
                             " ORDER BY uid DESC LIMIT 1",
    [SQL_ARTIFACT_LIST] = "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE uid > ?1 AND state = 1"
                          " AND (expires = 0 OR expires > ?2) ORDER BY uid LIMIT ?3",
    [SQL_ARTIFACT_LIST_OWNER] =
        "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE uid > ?1 AND state = 1"
        " AND (expires = 0 OR expires > ?2) AND owner = ?4 ORDER BY uid LIMIT ?3",
    [SQL_ARTIFACT_OF_STATE] = "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE state = ?1"
                              " AND (touched <= ?2 OR resumable = 0) AND id > ?3"
                              " ORDER BY id LIMIT 1",
    [SQL_ARTIFACT_EXPIRED] = "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE expires > 0"
                             " AND expires <= ?1 AND state = 1 AND id > ?2 ORDER BY id LIMIT 1",
    [SQL_ARTIFACT_SUMS] = "SELECT state, count(*), sum(size) FROM artifact GROUP BY state",
};

/* --- statements --- */
gw_err index_prepare(struct chunk_store *s)
{
    for (int i = 0; i < SQL_COUNT; i++) {
        GW_TRY(db_prepare(&s->db, sql[i], &s->stmts[i]));
    }
    return GW_OK;
}

void index_finalize(struct chunk_store *s)
{
    for (int i = 0; i < SQL_COUNT; i++) {
        sqlite3_finalize(s->stmts[i]);
        s->stmts[i] = NULL;
    }
}

/* Binding a number, or bytes that stay where they are, allocates nothing. */
static void bind_int(sqlite3_stmt *q, int at, int64_t value)
{
    int rc = sqlite3_bind_int64(q, at, value);
    gw_assert(rc == SQLITE_OK);
}

static void bind_bytes(sqlite3_stmt *q, int at, const void *p, size_t n)
{
    int rc = sqlite3_bind_blob64(q, at, p, n, SQLITE_STATIC);
    gw_assert(rc == SQLITE_OK);
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    int rc = sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
    gw_assert(rc == SQLITE_OK);
}

/* GW_OK: a row; GW_ENOT_FOUND: no further one. */
static gw_err next_row(struct chunk_store *s, sqlite3_stmt *q)
{
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        return GW_OK;
    }
    return rc == SQLITE_DONE ? GW_ENOT_FOUND : db_error(&s->db, rc, sqlite3_sql(q));
}

static gw_err end(sqlite3_stmt *q, gw_err err)
{
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return err;
}

/* A statement that yields no rows. */
static gw_err run(struct chunk_store *s, sqlite3_stmt *q)
{
    gw_err err = next_row(s, q);
    return end(q, err == GW_ENOT_FOUND ? GW_OK : err);
}

gw_err index_run(struct chunk_store *s, chunk_sql which)
{
    return run(s, s->stmts[which]);
}

static gw_err damaged(const struct chunk_store *s, const char *what)
{
    log_error("artifacts.damaged", "file=\"%s\" %s; restore the folder from a backup", s->db.path,
              what);
    return GW_ECORRUPT;
}

/* --- chunks --- */
static gw_err read_chunk(const struct chunk_store *s, sqlite3_stmt *q, struct chunk_row *ret)
{
    const void *hash = sqlite3_column_blob(q, 1);
    int64_t len = sqlite3_column_int64(q, 2), pack = sqlite3_column_int64(q, 3);
    int64_t at = sqlite3_column_int64(q, 4);
    if (!hash || sqlite3_column_bytes(q, 1) != CHUNK_HASH_BYTES || len < 1 || len > CHUNK_MAX ||
        pack < 0 || pack > UINT32_MAX || at < 0) {
        return damaged(s, "a row of its table \"chunk\" is not valid");
    }
    *ret = (struct chunk_row){.id = sqlite3_column_int64(q, 0),
                              .len = (uint32_t)len,
                              .pack = (uint32_t)pack,
                              .at = (uint64_t)at,
                              .refs = sqlite3_column_int64(q, 5),
                              .bad = sqlite3_column_int(q, 6) != 0};
    memcpy(ret->hash.b, hash, CHUNK_HASH_BYTES);
    return GW_OK;
}

static gw_err one_chunk(struct chunk_store *s, sqlite3_stmt *q, struct chunk_row *ret)
{
    gw_err err = next_row(s, q);
    return end(q, err ? err : read_chunk(s, q, ret));
}

/* ret_ats: column 7 of each row; NULL: it has none. */
static gw_err many_chunks(struct chunk_store *s, sqlite3_stmt *q, uint64_t *ret_ats,
                          struct chunk_row *ret, size_t room, size_t *ret_count)
{
    gw_err err = GW_OK;
    size_t n = 0;
    while (!err && n < room && !(err = next_row(s, q))) {
        err = read_chunk(s, q, &ret[n]);
        if (ret_ats) {
            ret_ats[n] = (uint64_t)sqlite3_column_int64(q, 7);
        }
        n += !err;
    }
    if (!err || err == GW_ENOT_FOUND) {
        *ret_count = n;
        err = GW_OK;
    }
    return end(q, err);
}

gw_err index_chunk_find(struct chunk_store *s, const struct chunk_hash *hash, struct chunk_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_FIND];
    bind_bytes(q, 1, hash->b, CHUNK_HASH_BYTES);
    return one_chunk(s, q, ret);
}

gw_err index_chunk_add(struct chunk_store *s, const struct pinned *p, int64_t since_ms,
                       int64_t *ret_row)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_ADD];
    bind_bytes(q, 1, p->hash.b, CHUNK_HASH_BYTES);
    bind_int(q, 2, p->pack->id);
    bind_int(q, 3, (int64_t)p->at);
    bind_int(q, 4, p->len);
    bind_int(q, 5, since_ms);
    GW_TRY(run(s, q));
    *ret_row = sqlite3_last_insert_rowid(s->db.handle);
    return GW_OK;
}

gw_err index_chunk_place(struct chunk_store *s, int64_t row, uint32_t pack, uint64_t at)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_PLACE];
    bind_int(q, 1, row);
    bind_int(q, 2, pack);
    bind_int(q, 3, (int64_t)at);
    return run(s, q);
}

gw_err index_chunk_bad(struct chunk_store *s, int64_t row, bool bad, bool nowhere)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_BAD];
    bind_int(q, 1, row);
    bind_int(q, 2, bad);
    bind_int(q, 3, nowhere);
    return run(s, q);
}

gw_err index_chunk_refs(struct chunk_store *s, int64_t row, int by)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_REFS];
    bind_int(q, 1, row);
    bind_int(q, 2, by);
    return run(s, q);
}

gw_err index_chunk_loose(struct chunk_store *s, int64_t since_ms, int64_t after,
                         struct chunk_row *ret, size_t room, size_t *ret_count)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_LOOSE];
    bind_int(q, 1, since_ms);
    bind_int(q, 2, after);
    bind_int(q, 3, (int64_t)room);
    return many_chunks(s, q, NULL, ret, room, ret_count);
}

gw_err index_chunk_drop(struct chunk_store *s, int64_t row)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_DROP];
    bind_int(q, 1, row);
    return run(s, q);
}

gw_err index_chunk_next(struct chunk_store *s, int64_t after, struct chunk_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_NEXT];
    bind_int(q, 1, after);
    return one_chunk(s, q, ret);
}

gw_err index_chunks_of_pack(struct chunk_store *s, uint32_t pack, uint64_t at,
                            struct chunk_row *ret, size_t room, size_t *ret_count)
{
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_OF_PACK];
    bind_int(q, 1, pack);
    bind_int(q, 2, (int64_t)at);
    bind_int(q, 3, (int64_t)room);
    return many_chunks(s, q, NULL, ret, room, ret_count);
}

/* --- recipes --- */
gw_err index_recipe_add(struct chunk_store *s, int64_t artifact, uint64_t at, int64_t chunk)
{
    sqlite3_stmt *q = s->stmts[SQL_RECIPE_ADD];
    bind_int(q, 1, artifact);
    bind_int(q, 2, (int64_t)at);
    bind_int(q, 3, chunk);
    return run(s, q);
}

gw_err index_recipe_at(struct chunk_store *s, int64_t artifact, uint64_t at, uint64_t *ret_at,
                       struct chunk_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_RECIPE_AT];
    size_t n = 0;
    bind_int(q, 1, artifact);
    bind_int(q, 2, (int64_t)at);
    GW_TRY(many_chunks(s, q, ret_at, ret, 1, &n));
    return n == 1 ? GW_OK : GW_ENOT_FOUND;
}

gw_err index_recipe_from(struct chunk_store *s, int64_t artifact, uint64_t at, uint64_t *ret_ats,
                         struct chunk_row *ret, size_t room, size_t *ret_count)
{
    sqlite3_stmt *q = s->stmts[SQL_RECIPE_FROM];
    bind_int(q, 1, artifact);
    bind_int(q, 2, (int64_t)at);
    bind_int(q, 3, (int64_t)room);
    return many_chunks(s, q, ret_ats, ret, room, ret_count);
}

gw_err index_recipe_drop(struct chunk_store *s, int64_t artifact, uint64_t at)
{
    sqlite3_stmt *q = s->stmts[SQL_RECIPE_DROP];
    bind_int(q, 1, artifact);
    bind_int(q, 2, (int64_t)at);
    return run(s, q);
}

gw_err index_recipe_users(struct chunk_store *s, int64_t chunk, gw_id *ret, size_t room,
                          size_t *ret_count)
{
    sqlite3_stmt *q = s->stmts[SQL_RECIPE_USERS];
    gw_err err = GW_OK;
    size_t n = 0;
    bind_int(q, 1, chunk);
    bind_int(q, 2, (int64_t)room);
    while (n < room && !(err = next_row(s, q))) {
        const void *uid = sqlite3_column_blob(q, 0);
        if (uid && sqlite3_column_bytes(q, 0) == GW_ID_BYTES) {
            memcpy(ret[n++].b, uid, GW_ID_BYTES);
        }
    }
    *ret_count = n;
    return end(q, err == GW_ENOT_FOUND ? GW_OK : err);
}

/* --- artifacts --- */
static bool column_bytes(sqlite3_stmt *q, int at, void *ret, int n)
{
    const void *p = sqlite3_column_blob(q, at);
    if (p && sqlite3_column_bytes(q, at) == n) {
        memcpy(ret, p, (size_t)n);
        return true;
    }
    return false;
}

static bool column_text(sqlite3_stmt *q, int at, char *ret, size_t cap)
{
    const char *p = (const char *)sqlite3_column_text(q, at);
    size_t n = p ? (size_t)sqlite3_column_bytes(q, at) : 0;
    return p && span_text((struct span){(const uint8_t *)p, n}, ret, cap);
}

static gw_err read_artifact(const struct chunk_store *s, sqlite3_stmt *q, struct artifact_row *ret)
{
    struct artifact_row row = {.id = sqlite3_column_int64(q, 0)};
    struct artifact_info *i = &row.info;
    int64_t size = sqlite3_column_int64(q, 6), tail_at = sqlite3_column_int64(q, 12);
    int state = sqlite3_column_int(q, 1);
    bool whole = state != ARTIFACT_UPLOAD;
    const void *sha = sqlite3_column_blob(q, 13);
    sha_run_init(&row.sha);
    if (state < 0 || state > ARTIFACT_REMOVED || size < 0 || tail_at < 0 || tail_at > size ||
        !column_bytes(q, 2, i->id.b, GW_ID_BYTES) || !column_bytes(q, 3, i->owner.b, GW_ID_BYTES) ||
        !column_text(q, 4, i->name, sizeof i->name) ||
        !column_text(q, 5, i->type, sizeof i->type) ||
        (state == ARTIFACT_WHOLE && !column_bytes(q, 7, i->hash.b, CHUNK_HASH_BYTES)) ||
        (!whole && sha && !sha_run_unpack(&row.sha, sha, (size_t)sqlite3_column_bytes(q, 13)))) {
        return damaged(s, "a row of its table \"artifact\" is not valid");
    }
    row.state = (artifact_state)state;
    row.resumable = sqlite3_column_int(q, 11) != 0;
    row.ttl_ms = sqlite3_column_int64(q, 10);
    row.tail_at = (uint64_t)tail_at;
    i->size = (uint64_t)size;
    i->created_ms = sqlite3_column_int64(q, 8);
    i->expires_ms = sqlite3_column_int64(q, 9);
    i->upload = !whole;
    *ret = row;
    return GW_OK;
}

static gw_err one_artifact(struct chunk_store *s, sqlite3_stmt *q, struct artifact_row *ret)
{
    gw_err err = next_row(s, q);
    return end(q, err ? err : read_artifact(s, q, ret));
}

gw_err index_artifact_add(struct chunk_store *s, struct artifact_row *row)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_ADD];
    const struct artifact_info *i = &row->info;
    bind_bytes(q, 1, i->id.b, GW_ID_BYTES);
    bind_bytes(q, 2, i->owner.b, GW_ID_BYTES);
    bind_text(q, 3, i->name);
    bind_text(q, 4, i->type);
    bind_int(q, 5, i->created_ms);
    bind_int(q, 6, row->ttl_ms);
    bind_int(q, 7, row->resumable);
    GW_TRY(run(s, q));
    row->id = sqlite3_last_insert_rowid(s->db.handle);
    return GW_OK;
}

gw_err index_artifact_set(struct chunk_store *s, const struct artifact_row *row, int64_t now_ms)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_SET];
    const struct artifact_info *i = &row->info;
    uint8_t sha[SHA_RUN_PACK_BYTES];
    bind_int(q, 1, row->id);
    bind_int(q, 2, row->state);
    bind_int(q, 3, (int64_t)i->size);
    if (row->state == ARTIFACT_WHOLE) {
        bind_bytes(q, 4, i->hash.b, CHUNK_HASH_BYTES);
    } else {
        sha_run_pack(&row->sha, sha);
        bind_bytes(q, 9, sha, sizeof sha);
    }
    bind_int(q, 5, i->created_ms);
    bind_int(q, 6, i->expires_ms);
    bind_int(q, 7, now_ms);
    bind_int(q, 8, (int64_t)row->tail_at);
    return run(s, q);
}

gw_err index_artifact_state(struct chunk_store *s, int64_t id, artifact_state state)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_STATE];
    bind_int(q, 1, id);
    bind_int(q, 2, state);
    return run(s, q);
}

gw_err index_artifact_drop(struct chunk_store *s, int64_t id)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_DROP];
    bind_int(q, 1, id);
    return run(s, q);
}

gw_err index_artifact_get(struct chunk_store *s, const gw_id *id, struct artifact_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_GET];
    bind_bytes(q, 1, id->b, GW_ID_BYTES);
    return one_artifact(s, q, ret);
}

gw_err index_artifact_by_hash(struct chunk_store *s, const struct chunk_hash *hash, int64_t now_ms,
                              struct artifact_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_BY_HASH];
    bind_bytes(q, 1, hash->b, CHUNK_HASH_BYTES);
    bind_int(q, 2, now_ms);
    return one_artifact(s, q, ret);
}

gw_err index_artifact_list(struct chunk_store *s, const gw_id *after, const gw_id *owner,
                           int64_t now_ms, struct artifact_info *ret, size_t room,
                           size_t *ret_count)
{
    sqlite3_stmt *q = s->stmts[owner ? SQL_ARTIFACT_LIST_OWNER : SQL_ARTIFACT_LIST];
    struct artifact_row row;
    gw_err err = GW_OK;
    size_t n = 0;
    bind_bytes(q, 1, after->b, GW_ID_BYTES);
    bind_int(q, 2, now_ms);
    bind_int(q, 3, (int64_t)room);
    if (owner) {
        bind_bytes(q, 4, owner->b, GW_ID_BYTES);
    }
    while (!err && n < room && !(err = next_row(s, q))) {
        err = read_artifact(s, q, &row);
        if (!err) {
            ret[n++] = row.info;
        }
    }
    *ret_count = n;
    return end(q, err == GW_ENOT_FOUND ? GW_OK : err);
}

gw_err index_artifact_next(struct chunk_store *s, artifact_state state, int64_t before_ms,
                           int64_t after, struct artifact_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_OF_STATE];
    bind_int(q, 1, state);
    bind_int(q, 2, before_ms);
    bind_int(q, 3, after);
    return one_artifact(s, q, ret);
}

gw_err index_artifact_expired(struct chunk_store *s, int64_t now_ms, int64_t after,
                              struct artifact_row *ret)
{
    sqlite3_stmt *q = s->stmts[SQL_ARTIFACT_EXPIRED];
    bind_int(q, 1, now_ms);
    bind_int(q, 2, after);
    return one_artifact(s, q, ret);
}

/* --- sums --- */
gw_err index_sums(struct chunk_store *s,
                  gw_err (*on_pack)(struct chunk_store *, uint32_t, uint64_t, uint64_t),
                  struct chunk_stats *ret)
{
    struct chunk_stats sums = {0};
    sqlite3_stmt *q = s->stmts[SQL_CHUNK_SUMS];
    gw_err err = GW_OK;
    bind_int(q, 1, LIMIT_CHUNK_COUNTED_BYTES);
    while (!err && !(err = next_row(s, q))) {
        sums.chunks += (uint64_t)sqlite3_column_int64(q, 1);
        sums.used_bytes += (uint64_t)sqlite3_column_int64(q, 4);
        err = on_pack(s, (uint32_t)sqlite3_column_int64(q, 0), (uint64_t)sqlite3_column_int64(q, 2),
                      (uint64_t)sqlite3_column_int64(q, 3));
    }
    GW_TRY(end(q, err == GW_ENOT_FOUND ? GW_OK : err));
    q = s->stmts[SQL_ARTIFACT_SUMS];
    while (!(err = next_row(s, q))) {
        int state = sqlite3_column_int(q, 0);
        if (state == ARTIFACT_WHOLE) {
            sums.artifacts = (uint64_t)sqlite3_column_int64(q, 1);
            sums.artifact_bytes = (uint64_t)sqlite3_column_int64(q, 2);
        } else if (state == ARTIFACT_UPLOAD) {
            sums.uploads = (uint64_t)sqlite3_column_int64(q, 1);
        }
    }
    GW_TRY(end(q, err == GW_ENOT_FOUND ? GW_OK : err));
    *ret = sums;
    return GW_OK;
}

/* The engine on SQLite: tables (k, v), large values as files (blob.h).
 *
 * Files and rows stay together because of the order: a file is whole and named before the commit
 * that names it in `blobs`, and goes after the commit that drops its name. So a crash leaves files
 * that nobody names (swept at open), never names without a file. `made` and `dropped` hold what the
 * open group has done; undoing a batch cuts both back to where the batch began.
 *
 * A full disk undoes the whole group: SQLite then has no consistent pages to roll one batch back
 * with. `lost` keeps the error until commit gives it to everyone. */
#include "persistence/store_sqlite.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "persistence/schema.h"
#include "protocol/base/log.h"

/* Pages of 4 KiB in the log. A commit never checkpoints by itself up to the hard limit, which only
 * a caller reaches that never calls store_idle. */
#define LOG_IDLE_PAGES 128
#define LOG_LONG_PAGES 900
#define LOG_HARD_PAGES 8192

static const char *const stmt_sql[STMT_COUNT] = {
    [STMT_PUT] = "INSERT OR REPLACE INTO %s(k, v) VALUES(?1, ?2)",
    [STMT_DEL] = "DELETE FROM %s WHERE k = ?1",
    [STMT_DEL_RANGE] = "DELETE FROM %s WHERE k >= ?1 AND k < ?2",
    [STMT_GET] = "SELECT k, v FROM %s WHERE k = ?1",
    [STMT_SCAN] = "SELECT k, v FROM %s WHERE k >= ?1 AND k < ?2 ORDER BY k LIMIT ?3",
    [STMT_SCAN_BACK] = "SELECT k, v FROM %s WHERE k >= ?1 AND k < ?2 ORDER BY k DESC LIMIT ?3",
};

static const char *const fixed_sql[FIXED_COUNT] = {
    [FIXED_BEGIN] = "BEGIN IMMEDIATE",
    [FIXED_COMMIT] = "COMMIT",
    [FIXED_ROLLBACK] = "ROLLBACK",
    [FIXED_SAVEPOINT] = "SAVEPOINT batch",
    [FIXED_RELEASE] = "RELEASE batch",
    [FIXED_BACK] = "ROLLBACK TO batch",
    [FIXED_BLOB_PUT] = "INSERT OR REPLACE INTO blobs(k, t, f, n, h) VALUES(?1, ?2, ?3, ?4, ?5)",
    [FIXED_BLOB_GET] = "SELECT f, n, h FROM blobs WHERE k = ?1 AND t = ?2",
    [FIXED_BLOB_RANGE] = "SELECT f FROM blobs WHERE k >= ?1 AND k < ?2 AND t = ?3",
    [FIXED_BLOB_DEL_RANGE] = "DELETE FROM blobs WHERE k >= ?1 AND k < ?2 AND t = ?3",
};

/* --- lists of files --- */
static gw_err names_add(struct names *list, const char *name)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        void *items = realloc(list->items, cap * sizeof list->items[0]);
        if (!items) {
            return GW_ENOMEM;
        }
        list->items = items;
        list->cap = cap;
    }
    snprintf(list->items[list->count++], sizeof list->items[0], "%s", name);
    return GW_OK;
}

/* Remove the files from number `from` on, and forget them. */
static void names_remove(struct sqlite_store *s, struct names *list, size_t from)
{
    while (list->count > from) {
        blob_remove(&s->blobs, list->items[--list->count]);
    }
}

/* --- statements --- */
static gw_err statement(struct sqlite_store *s, store_table table, stmt_kind kind,
                        sqlite3_stmt **ret)
{
    sqlite3_stmt **slot = &s->stmts[table][kind];
    if (!*slot) {
        char sql[128];
        snprintf(sql, sizeof sql, stmt_sql[kind], schema_tables[table]);
        GW_TRY(db_prepare(&s->db, sql, slot));
    }
    *ret = *slot;
    return GW_OK;
}

/* Never NULL: an empty span binds as an empty blob. The caller keeps the bytes until reset. */
static int bind(sqlite3_stmt *stmt, int at, struct span bytes)
{
    if (bytes.n == 0) {
        return sqlite3_bind_zeroblob(stmt, at, 0);
    }
    return sqlite3_bind_blob64(stmt, at, bytes.p, bytes.n, SQLITE_STATIC);
}

/* Step a statement that yields no rows, and reset it. `rc`: result of the binds. */
static gw_err run(struct sqlite_store *s, sqlite3_stmt *stmt, int rc, const char *what)
{
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }
    gw_err err = rc == SQLITE_DONE || rc == SQLITE_ROW ? GW_OK : db_error(&s->db, rc, what);
    sqlite3_reset(stmt);
    return err;
}

static gw_err run_fixed(struct sqlite_store *s, fixed_kind kind)
{
    return run(s, s->fixed[kind], SQLITE_OK, fixed_sql[kind]);
}

/* --- rows that are files --- */
bool store_sqlite_name(sqlite3_stmt *stmt, char ret[BLOB_NAME_BYTES + 1])
{
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    size_t len = text ? (size_t)sqlite3_column_bytes(stmt, 0) : 0;
    if (!blob_name_is_valid(text ? text : "", len)) {
        return false;
    }
    memcpy(ret, text, len + 1);
    return true;
}

static gw_err bad_name(const struct sqlite_store *s, store_table table)
{
    log_error("store.damaged", "file=\"%s\" table=%s the name of a file is not valid or missing",
              s->db.path, schema_tables[table]);
    return GW_ECORRUPT;
}

/* The file of a key; GW_ENOT_FOUND when it has none. */
static gw_err find_blob(struct sqlite_store *s, store_table table, struct span key,
                        struct blob_ref *ret)
{
    sqlite3_stmt *stmt = s->fixed[FIXED_BLOB_GET];
    int rc = bind(stmt, 1, key) | sqlite3_bind_int(stmt, 2, (int)table);
    gw_err err = GW_OK;
    rc = rc == SQLITE_OK ? sqlite3_step(stmt) : SQLITE_NOMEM;
    if (rc == SQLITE_ROW) {
        struct blob_ref ref = {.size = (uint64_t)sqlite3_column_int64(stmt, 1),
                               .hash = (uint64_t)sqlite3_column_int64(stmt, 2)};
        err = store_sqlite_name(stmt, ref.name) ? GW_OK : bad_name(s, table);
        *ret = ref;
    } else {
        err = rc == SQLITE_DONE ? GW_ENOT_FOUND : db_error(&s->db, rc, "blobs");
    }
    sqlite3_reset(stmt);
    return err;
}

static gw_err name_blob(struct sqlite_store *s, store_table table, struct span key,
                        const struct blob_ref *ref)
{
    sqlite3_stmt *stmt = s->fixed[FIXED_BLOB_PUT];
    int rc = bind(stmt, 1, key) | sqlite3_bind_int(stmt, 2, (int)table) |
             sqlite3_bind_text(stmt, 3, ref->name, BLOB_NAME_BYTES, SQLITE_STATIC) |
             sqlite3_bind_int64(stmt, 4, (sqlite3_int64)ref->size) |
             sqlite3_bind_int64(stmt, 5, (sqlite3_int64)ref->hash);
    return run(s, stmt, rc == SQLITE_OK ? SQLITE_OK : SQLITE_NOMEM, "blobs");
}

/* Drop the files of all keys in [lo, hi). */
static gw_err drop_blobs(struct sqlite_store *s, store_table table, struct span lo, struct span hi)
{
    if (!s->has_blobs[table]) {
        return GW_OK;
    }
    sqlite3_stmt *stmt = s->fixed[FIXED_BLOB_RANGE];
    int rc = bind(stmt, 1, lo) | bind(stmt, 2, hi) | sqlite3_bind_int(stmt, 3, (int)table);
    rc = rc == SQLITE_OK ? sqlite3_step(stmt) : SQLITE_NOMEM;
    size_t before = s->dropped.count;
    gw_err err = GW_OK;
    for (; rc == SQLITE_ROW && !err; rc = err ? rc : sqlite3_step(stmt)) {
        char name[BLOB_NAME_BYTES + 1];
        err = store_sqlite_name(stmt, name) ? names_add(&s->dropped, name) : bad_name(s, table);
    }
    if (!err && rc != SQLITE_DONE) {
        err = db_error(&s->db, rc, "blobs");
    }
    sqlite3_reset(stmt);
    if (err || s->dropped.count == before) {
        return err;
    }
    stmt = s->fixed[FIXED_BLOB_DEL_RANGE];
    rc = bind(stmt, 1, lo) | bind(stmt, 2, hi) | sqlite3_bind_int(stmt, 3, (int)table);
    return run(s, stmt, rc == SQLITE_OK ? SQLITE_OK : SQLITE_NOMEM, "blobs");
}

/* The range of one key alone: [key, key + 0x00). */
static gw_err drop_blob(struct sqlite_store *s, store_table table, struct span key)
{
    if (!s->has_blobs[table]) {
        return GW_OK;
    }
    uint8_t next[LIMIT_STORE_KEY_BYTES + 1];
    memcpy(next, key.p, key.n);
    next[key.n] = 0;
    return drop_blobs(s, table, key, (struct span){next, key.n + 1});
}

/* --- operations --- */
/* `value` NULL: the value is the file that `blobs` names. */
static gw_err put_row(struct sqlite_store *s, store_table table, struct span key,
                      const struct span *value)
{
    sqlite3_stmt *stmt;
    GW_TRY(statement(s, table, STMT_PUT, &stmt));
    int rc = bind(stmt, 1, key);
    rc |= value ? bind(stmt, 2, *value) : sqlite3_bind_null(stmt, 2);
    return run(s, stmt, rc == SQLITE_OK ? SQLITE_OK : SQLITE_NOMEM, schema_tables[table]);
}

static gw_err put_file(struct sqlite_store *s, store_table table, struct span key,
                       const struct blob_ref *ref)
{
    gw_err err = names_add(&s->made, ref->name);
    if (err) {
        blob_remove(&s->blobs, ref->name);
        return err;
    }
    s->has_blobs[table] = true;
    GW_TRY(name_blob(s, table, key, ref));
    return put_row(s, table, key, NULL);
}

static gw_err put(struct sqlite_store *s, store_table table, struct span key, struct span value)
{
    GW_TRY(drop_blob(s, table, key));
    if (value.n <= LIMIT_STORE_INLINE_BYTES) {
        return put_row(s, table, key, &value);
    }
    struct blob_ref ref;
    GW_TRY(blob_write(&s->blobs, value, &ref));
    return put_file(s, table, key, &ref);
}

static gw_err del(struct sqlite_store *s, store_table table, struct span key)
{
    GW_TRY(drop_blob(s, table, key));
    sqlite3_stmt *stmt;
    GW_TRY(statement(s, table, STMT_DEL, &stmt));
    return run(s, stmt, bind(stmt, 1, key), schema_tables[table]);
}

static gw_err del_range(struct sqlite_store *s, store_table table, struct span lo, struct span hi)
{
    GW_TRY(drop_blobs(s, table, lo, hi));
    sqlite3_stmt *stmt;
    GW_TRY(statement(s, table, STMT_DEL_RANGE, &stmt));
    int rc = bind(stmt, 1, lo) | bind(stmt, 2, hi);
    return run(s, stmt, rc == SQLITE_OK ? SQLITE_OK : SQLITE_NOMEM, schema_tables[table]);
}

/* The rows to copy are gathered first: a scan does not go on while its table changes. */
struct copy {
    struct store_batch *rows; /* puts under the new keys; empty where the row is a file */
    struct span to;
    bool ok;
};

static bool gather(void *arg, struct span key, struct span value)
{
    struct copy *c = arg;
    uint8_t moved[LIMIT_STORE_KEY_BYTES];
    if (key.n > sizeof moved) {
        c->ok = false;
        return false;
    }
    memcpy(moved, key.p, key.n);
    memcpy(moved, c->to.p, c->to.n);
    store_batch_put(c->rows, 0, (struct span){moved, key.n}, value);
    return true;
}

/* One gathered row: `from` is its old prefix. */
static gw_err copy_row(struct sqlite_store *s, store_table table, struct span from, struct span key,
                       struct span value)
{
    struct blob_ref old, new;
    uint8_t old_key[LIMIT_STORE_KEY_BYTES];
    memcpy(old_key, key.p, key.n);
    memcpy(old_key, from.p, from.n);
    gw_err err = GW_ENOT_FOUND;
    if (value.n == 0 && s->has_blobs[table]) {
        err = find_blob(s, table, (struct span){old_key, key.n}, &old);
    }
    if (err == GW_ENOT_FOUND) {
        return put(s, table, key, value);
    }
    GW_TRY(err);
    GW_TRY(drop_blob(s, table, key));
    GW_TRY(blob_link(&s->blobs, &old, &new));
    return put_file(s, table, key, &new);
}

static gw_err scan_rows(struct sqlite_store *s, const struct store_range *range, bool read_files,
                        store_visit visit, void *arg);

static void free_batch(struct store_batch **batch)
{
    store_batch_free(*batch);
}

static gw_err copy_prefix(struct sqlite_store *s, store_table table, struct span from,
                          struct span to)
{
    if (store_compare(from, to) == 0) {
        return GW_OK;
    }
    GW_AUTO(free_batch) struct store_batch *rows = store_batch_new();
    if (!rows) {
        return GW_ENOMEM;
    }
    struct copy c = {.rows = rows, .to = to, .ok = true};
    struct store_range range = {.table = table, .prefix = from};
    GW_TRY(scan_rows(s, &range, false, gather, &c));
    if (!c.ok || rows->failed) {
        return c.ok ? rows->failed : GW_ECORRUPT;
    }
    for (size_t i = 0; i < rows->count; i++) {
        const struct store_op *op = &rows->ops[i];
        GW_TRY(copy_row(s, table, from, store_op_key(rows, op), store_op_value(rows, op)));
    }
    return GW_OK;
}

static gw_err apply_op(struct sqlite_store *s, const struct store_batch *b,
                       const struct store_op *op)
{
    struct span key = store_op_key(b, op), value = store_op_value(b, op);
    struct store_bound room;
    switch (op->kind) {
    case OP_PUT: return put(s, op->table, key, value);
    case OP_DEL: return del(s, op->table, key);
    case OP_DEL_PREFIX: return del_range(s, op->table, key, store_after_prefix(key, &room));
    case OP_DEL_BELOW: return del_range(s, op->table, (struct span){0}, key);
    case OP_COPY_PREFIX: return copy_prefix(s, op->table, key, value);
    }
    return GW_EFAIL;
}

/* --- groups --- */
/* Undo the whole group. */
static void lose(struct sqlite_store *s, gw_err err)
{
    s->lost = err;
    if (!sqlite3_get_autocommit(s->db.handle)) {
        (void)run_fixed(s, FIXED_ROLLBACK);
    }
    if (!sqlite3_get_autocommit(s->db.handle)) {
        log_die("store.failed",
                "file=\"%s\" cannot roll back; stopping. Start the host again: it "
                "goes on from its last commit",
                s->db.path);
    }
    names_remove(s, &s->made, 0);
    s->dropped.count = 0;
}

static void begin(struct store *base, size_t batches)
{
    struct sqlite_store *s = (struct sqlite_store *)base;
    if (s->db.log_pages > LOG_HARD_PAGES) {
        db_checkpoint(&s->db);
    }
    s->savepoints = batches > 1;
    s->lost = run_fixed(s, FIXED_BEGIN);
}

static gw_err apply_ops(struct sqlite_store *s, const struct store_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        GW_TRY(apply_op(s, batch, &batch->ops[i]));
    }
    return GW_OK;
}

static gw_err apply(struct store *base, const struct store_batch *batch)
{
    struct sqlite_store *s = (struct sqlite_store *)base;
    if (s->lost) {
        return s->lost;
    }
    size_t made = s->made.count, dropped = s->dropped.count;
    gw_err err = s->savepoints ? run_fixed(s, FIXED_SAVEPOINT) : GW_OK;
    bool saved = s->savepoints && !err;
    if (!err) {
        err = apply_ops(s, batch);
    }
    if (!err && saved) {
        err = run_fixed(s, FIXED_RELEASE);
    }
    if (!err) {
        return GW_OK;
    }
    /* After a full disk or want of memory SQLite may have undone the whole group by itself. */
    if (saved && !sqlite3_get_autocommit(s->db.handle) && run_fixed(s, FIXED_BACK) == GW_OK &&
        run_fixed(s, FIXED_RELEASE) == GW_OK) {
        names_remove(s, &s->made, made);
        s->dropped.count = dropped;
    } else {
        lose(s, err);
    }
    return err;
}

/* Only a full disk is sure to leave nothing: its write failed before the frame that commits was
 * whole. Any other error may come after that frame is on the disk. */
static gw_err commit_rows(struct sqlite_store *s)
{
    gw_err err = run_fixed(s, FIXED_COMMIT);
    if (err && err != GW_EDISK_FULL) {
        log_die("store.failed",
                "file=\"%s\" cannot commit: %s; stopping, because it is not known what is on the "
                "disk. Start the host again: it goes on from its last commit",
                s->db.path, gw_err_text(err));
    }
    return err;
}

/* Once when it begins and once when it is over, not for each commit. */
static void say_whether_full(struct sqlite_store *s, bool full)
{
    if (full && !s->full) {
        log_error("store.full",
                  "file=\"%s\" the disk is full: what was to be stored was undone and refused. "
                  "Nothing stored before is lost; make room, the host goes on by itself",
                  s->db.path);
    } else if (!full && s->full) {
        log_info("store.room", "file=\"%s\" the disk has room again", s->db.path);
    }
    s->full = full;
}

static gw_err commit(struct store *base)
{
    struct sqlite_store *s = (struct sqlite_store *)base;
    if (!s->lost) {
        gw_err err = blob_sync(&s->blobs);
        if (!err) {
            err = commit_rows(s);
        }
        if (err) {
            lose(s, err);
        }
    }
    gw_err err = s->lost;
    s->lost = GW_OK;
    say_whether_full(s, err == GW_EDISK_FULL);
    if (err == GW_EDISK_FULL) {
        db_checkpoint(&s->db); /* room in the log, perhaps: its pages are written over again */
    }
    if (err) {
        return err;
    }
    s->made.count = 0;
    names_remove(s, &s->dropped, 0);
    return GW_OK;
}

/* --- reading --- */
static struct span column(sqlite3_stmt *stmt, int at)
{
    const void *p = sqlite3_column_blob(stmt, at);
    return (struct span){p, (size_t)sqlite3_column_bytes(stmt, at)};
}

/* The value of the current row, from its file if need be (read into `file`). */
static gw_err row_value(struct sqlite_store *s, store_table table, sqlite3_stmt *stmt,
                        bool read_files, struct buf *file, struct span *ret)
{
    if (sqlite3_column_type(stmt, 1) != SQLITE_NULL) {
        *ret = column(stmt, 1);
        return ret->n > 0 && !ret->p ? GW_ENOMEM : GW_OK;
    }
    *ret = (struct span){0};
    if (!read_files) {
        return GW_OK;
    }
    struct blob_ref ref;
    gw_err err = find_blob(s, table, column(stmt, 0), &ref);
    if (err) {
        return err == GW_ENOT_FOUND ? bad_name(s, table) : err;
    }
    GW_TRY(blob_read(&s->blobs, &ref, file));
    *ret = buf_span(file);
    return GW_OK;
}

static gw_err get(struct store *base, store_table table, struct span key, struct buf *ret)
{
    struct sqlite_store *s = (struct sqlite_store *)base;
    sqlite3_stmt *stmt;
    GW_TRY(statement(s, table, STMT_GET, &stmt));
    gw_err err;
    int rc = bind(stmt, 1, key);
    rc = rc == SQLITE_OK ? sqlite3_step(stmt) : rc;
    if (rc == SQLITE_ROW) {
        GW_AUTO(buf_free) struct buf file = {0};
        struct span value;
        err = row_value(s, table, stmt, true, &file, &value);
        if (!err && file.data) {
            buf_free(ret);
            *ret = buf_take(&file);
        } else if (!err) {
            buf_reset(ret);
            buf_add(ret, value.p, value.n);
            err = buf_ok(ret) ? GW_OK : GW_ENOMEM;
        }
    } else {
        err = rc == SQLITE_DONE ? GW_ENOT_FOUND : db_error(&s->db, rc, schema_tables[table]);
    }
    sqlite3_reset(stmt);
    return err;
}

static gw_err scan_rows(struct sqlite_store *s, const struct store_range *range, bool read_files,
                        store_visit visit, void *arg)
{
    struct store_bound room;
    struct span lo, hi;
    store_range_bounds(range, &room, &lo, &hi);
    store_table table = range->table;
    sqlite3_stmt *stmt;
    GW_TRY(statement(s, table, range->backwards ? STMT_SCAN_BACK : STMT_SCAN, &stmt));
    sqlite3_int64 limit = range->limit == 0 || range->limit > INT_MAX ? -1 : (int)range->limit;
    int rc = bind(stmt, 1, lo) | bind(stmt, 2, hi) | sqlite3_bind_int64(stmt, 3, limit);
    rc = rc == SQLITE_OK ? sqlite3_step(stmt) : SQLITE_NOMEM;
    GW_AUTO(buf_free) struct buf file = {0};
    gw_err err = GW_OK;
    while (rc == SQLITE_ROW && !err) {
        struct span value;
        err = row_value(s, table, stmt, read_files, &file, &value);
        if (!err && !visit(arg, column(stmt, 0), value)) {
            rc = SQLITE_DONE;
        } else if (!err) {
            rc = sqlite3_step(stmt);
        }
    }
    if (!err && rc != SQLITE_DONE) {
        err = db_error(&s->db, rc, schema_tables[table]);
    }
    sqlite3_reset(stmt);
    return err;
}

static gw_err scan(struct store *base, const struct store_range *range, store_visit visit,
                   void *arg)
{
    return scan_rows((struct sqlite_store *)base, range, true, visit, arg);
}

/* --- life --- */
static bool wants_idle(const struct store *base)
{
    return ((const struct sqlite_store *)base)->db.log_pages >= LOG_LONG_PAGES;
}

static void idle(struct store *base)
{
    struct sqlite_store *s = (struct sqlite_store *)base;
    if (s->db.log_pages >= LOG_IDLE_PAGES) {
        db_checkpoint(&s->db);
    }
}

gw_err store_sqlite_prepare(struct sqlite_store *s)
{
    for (int i = 0; i < FIXED_COUNT; i++) {
        GW_TRY(db_prepare(&s->db, fixed_sql[i], &s->fixed[i]));
    }
    return GW_OK;
}

static void close_store(struct store *base)
{
    store_sqlite_free((struct sqlite_store *)base, false);
}

const struct store_engine store_sqlite_engine = {
    .name = "sqlite",
    .begin = begin,
    .apply = apply,
    .commit = commit,
    .get = get,
    .scan = scan,
    .wants_idle = wants_idle,
    .idle = idle,
    .close = close_store,
};

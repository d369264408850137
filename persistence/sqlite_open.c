/* Opening and closing the SQLite engine: lock, checks before anything is written, schema, sweep. */
#include "persistence/store_sqlite.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "persistence/folder.h"
#include "persistence/lock.h"
#include "persistence/schema.h"
#include "protocol/base/log.h"

void store_sqlite_free(struct sqlite_store *s, bool untouched)
{
    for (int i = 0; i < TABLE_COUNT * STMT_COUNT; i++) {
        sqlite3_finalize(s->stmts[i / STMT_COUNT][i % STMT_COUNT]);
    }
    for (int i = 0; i < FIXED_COUNT; i++) {
        sqlite3_finalize(s->fixed[i]);
    }
    db_close(&s->db, untouched);
    blob_dir_close(&s->blobs);
    if (s->lock_fd >= 0) {
        lock_release(s->lock_fd);
    }
    free(s->made.items);
    free(s->dropped.items);
    free(s);
}

/* Learn which tables have files, and remove the files that no row names. */
static gw_err sweep(struct sqlite_store *s, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf names = {0};
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(s->db.handle, "SELECT f, t FROM blobs ORDER BY f", -1, &stmt, NULL);
    bool valid = true;
    if (rc == SQLITE_OK) {
        while (valid && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
            char name[BLOB_NAME_BYTES + 1];
            int table = sqlite3_column_int(stmt, 1);
            valid = store_sqlite_name(stmt, name) && table >= 0 && table < TABLE_COUNT;
            if (valid) {
                s->has_blobs[table] = true;
                buf_add(&names, name, BLOB_NAME_BYTES);
            }
        }
    }
    gw_err err = GW_OK;
    bool damaged = (rc & 0xff) == SQLITE_CORRUPT;
    if (damaged) {
        for (int t = 0; t < TABLE_COUNT; t++) {
            s->has_blobs[t] = true;
        }
        log_error("store.damaged",
                  "file=\"%s\" table=blobs cannot be read whole: no file is removed, and the large "
                  "values whose names are lost are not served",
                  s->db.path);
    } else if (!valid) {
        err = db_damaged(&s->db, "the name of a file in its table \"blobs\" is not valid", why);
    } else if (rc != SQLITE_DONE) {
        err = db_open_error(&s->db, rc, why);
    } else if (!buf_ok(&names)) {
        err = gw_fail(why, GW_ENOMEM, "out of memory");
    }
    sqlite3_finalize(stmt);
    if (err || damaged) {
        return err;
    }
    size_t removed = 0, missing = 0;
    GW_TRY(blob_sweep(&s->blobs, (const char *)names.data, names.len / BLOB_NAME_BYTES, &removed,
                      &missing, why));
    if (removed > 0) {
        log_info("store.swept", "folder=\"%s\" files=%zu left by an end in mid-write",
                 s->blobs.path, removed);
    }
    if (missing > 0) {
        log_error("store.blob_missing",
                  "folder=\"%s\" files=%zu are gone: the records that name "
                  "them cannot be read; restore them from a backup",
                  s->blobs.path, missing);
    }
    return GW_OK;
}

/* The file may be new only where no large value is: otherwise somebody lost store.db, and the sweep
 * would throw away what is left. */
static gw_err check_new(struct sqlite_store *s, struct gw_error *why)
{
    bool used;
    GW_TRY(blob_dir_used(&s->blobs, &used, why));
    if (!used) {
        return GW_OK;
    }
    gw_fail(why, GW_ECORRUPT, "\"%s\" is empty, but \"%s\" holds files of a store", s->db.path,
            s->blobs.path);
    gw_hint(why, "restore \"store.db\" from a backup, or move the folder \"blobs\" away to start "
                 "empty");
    return GW_ECORRUPT;
}

static gw_err open_all(struct sqlite_store *s, const char *dir, bool *ret_ours,
                       struct gw_error *why)
{
    char path[PATH_MAX];
    int version = 0;
    GW_TRY(folder_join(path, dir, "store.lock", why));
    GW_TRY(lock_take(path, &s->lock_fd, why));
    GW_TRY(folder_join(path, dir, "store.db", why));
    GW_TRY(db_open(&s->db, path, why));
    GW_TRY(schema_check(&s->db, &schema_store, &version, why));
    GW_TRY(folder_join(path, dir, "blobs", why));
    GW_TRY(blob_dir_open(&s->blobs, path, why));
    if (version == 0) {
        GW_TRY(check_new(s, why));
    }
    *ret_ours = true;
    GW_TRY(db_tune(&s->db, why));
    GW_TRY(schema_upgrade(&s->db, &schema_store, version, why));
    /* Also a new log, whose folder SQLite does fsync but without looking at the result. */
    GW_TRY(folder_sync(dir, why));
    gw_err err = store_sqlite_prepare(s);
    if (err) {
        return gw_fail(why, err, "cannot use \"%s\": %s", s->db.path, gw_err_text(err));
    }
    GW_TRY(sweep(s, why));
    db_watch_log(&s->db);
    return GW_OK;
}

gw_err store_open_sqlite(const char *dir, struct store **ret, struct gw_error *why)
{
    /* Absolute: SQLite takes some relative names for something else ("file:..."). */
    GW_AUTO(free_charp) char *real = realpath(dir, NULL);
    if (!real) {
        gw_fail(why, GW_EIO, "cannot open the folder \"%s\": %s", dir, strerror(errno));
        gw_hint(why, "make the folder, or see that this user can reach it");
        return GW_EIO;
    }
    struct sqlite_store *s = calloc(1, sizeof *s);
    if (!s) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    s->base.engine = &store_sqlite_engine;
    s->lock_fd = -1;
    s->blobs.fd = -1;
    bool ours = false;
    gw_err err = open_all(s, real, &ours, why);
    if (err) {
        store_sqlite_free(s, !ours);
        return err;
    }
    *ret = &s->base;
    return GW_OK;
}

#include "persistence/db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "persistence/failpoint.h"
#include "persistence/seal.h"
#include "persistence/wal.h"
#include "protocol/base/log.h"

/* Kept at this size and written over again: an overwrite flushes faster than an append, and a full
 * disk still has room for deletes. */
#define LOG_KEPT "4194304"

static int layer; /* how its registration ended */

/* Once per process, before SQLite starts: no bookkeeping of its memory under a global lock. */
static void configure(void)
{
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    layer = seal_register();
}

static int on_commit(void *arg, sqlite3 *handle, const char *name, int pages)
{
    (void)handle;
    (void)name;
    ((struct db *)arg)->log_pages = pages;
    return SQLITE_OK;
}

gw_err db_damaged(const struct db *db, const char *what, struct gw_error *why)
{
    gw_fail(why, GW_ECORRUPT, "\"%s\" is damaged: %s", db->path, what);
    gw_hint(why, "restore it and the folder \"blobs\" beside it from a backup, or move both, "
                 "\"store.db-wal\" and \"store.db-mark\" away to start empty");
    return GW_ECORRUPT;
}

static gw_err not_a_database(const struct db *db, struct gw_error *why)
{
    gw_fail(why, GW_ECORRUPT, "\"%s\" is not a database", db->path);
    gw_hint(why, "restore it from a backup, or move it and \"store.db-mark\" away to start empty");
    return GW_ECORRUPT;
}

gw_err db_open_error(struct db *db, int rc, struct gw_error *why)
{
    const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);
    int error = db->handle ? sqlite3_system_errno(db->handle) : 0;
    switch (rc & 0xff) {
    case SQLITE_NOTADB: return not_a_database(db, why);
    case SQLITE_CORRUPT: return db_damaged(db, text, why);
    case SQLITE_NOMEM: return gw_fail(why, GW_ENOMEM, "out of memory");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        gw_fail(why, GW_ELOCKED, "\"%s\" is in use by another program", db->path);
        gw_hint(why, "close the program that has the file open");
        return GW_ELOCKED;
    case SQLITE_FULL:
        gw_fail(why, GW_EDISK_FULL, "no room to write \"%s\"", db->path);
        gw_hint(why, "make room on that disk and start again");
        return GW_EDISK_FULL;
    default: break;
    }
    if (error != 0) {
        text = strerror(error);
    }
    gw_fail(why, GW_EIO, "cannot open \"%s\": %s", db->path, text);
    gw_hint(why, "see that this user can read and write it, and that the disk is healthy");
    return GW_EIO;
}

/* The first transaction of a new file was cut off: SQLite undoes it with this. */
static bool has_journal(const struct db *db)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s-journal", db->path);
    return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0 && st.st_size > 0;
}

/* Make the file, or see that it begins like a database: SQLite takes a file shorter than a page for
 * an empty one and writes over it. */
static gw_err check_file(const struct db *db, struct gw_error *why)
{
    char head[16];
    int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* SQLite would make it 0644 */
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
    if (n < 0) {
        gw_err code = errno == ENOSPC || errno == EDQUOT ? GW_EDISK_FULL : GW_EIO;
        gw_fail(why, code, "cannot open \"%s\": %s", db->path, strerror(errno));
        gw_hint(why, "this user must be able to read and write it");
        if (fd >= 0) {
            close(fd);
        }
        return code;
    }
    close(fd);
    bool ours = n == 0 || (n == sizeof head && memcmp(head, "SQLite format 3", 16) == 0);
    return ours || has_journal(db) ? GW_OK : not_a_database(db, why);
}

static gw_err connect_file(struct db *db, struct gw_error *why)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = layer == SQLITE_OK ? sqlite3_open_v2(db->path, &db->handle, flags, SEAL_VFS) : layer;
    if (rc != SQLITE_OK) {
        return db_open_error(db, rc, why);
    }
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    /* Exclusive before the first access: the index of the log then lives in our memory, not in a
     * file, and no lock is taken per transaction. */
    return db_run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA mmap_size=0; PRAGMA cell_size_check=1",
                  why);
}

/* A connection keeps the form of the first page that it finds, also when it is undone then: that of
 * an earlier build has no room for checksums. */
static gw_err undo_first(struct db *db, struct gw_error *why)
{
    GW_TRY(connect_file(db, why));
    GW_TRY(db_run(db, "SELECT count(*) FROM sqlite_schema", why));
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    int rc = sqlite3_close(db->handle);
    db->handle = NULL;
    return rc == SQLITE_OK ? GW_OK : db_open_error(db, rc, why);
}

gw_err db_open(struct db *db, const char *path, struct gw_error *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure);
    *db = (struct db){.path = strdup(path)};
    if (!db->path) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(wal_check(path, why));
    GW_TRY(seal_check_head(path, why));
    GW_TRY(check_file(db, why));
    if (has_journal(db)) {
        GW_TRY(undo_first(db, why));
    }
    return connect_file(db, why);
}

gw_err db_tune(struct db *db, struct gw_error *why)
{
    sqlite3_wal_hook(db->handle, on_commit, db);
    return db_run(db,
                  "PRAGMA journal_mode=WAL;"
                  "PRAGMA synchronous=FULL;"
                  "PRAGMA cache_size=-1024;"
                  "PRAGMA temp_store=MEMORY;"
                  "PRAGMA journal_size_limit=" LOG_KEPT,
                  why);
}

/* ---- failpoints: the log fails as a file of the system would ---- */

static const sqlite3_io_methods *log_real; /* one store in a process that has failpoints */
static sqlite3_io_methods log_shim;

static int log_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    int error = failpoint_write_errno();
    if (error != 0) {
        errno = error;
        return error == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    return log_real->xWrite(file, data, n, at);
}

static int log_flush(sqlite3_file *file, int flags)
{
    if (failpoint_place(PLACE_STORE_FLUSH)) {
        return SQLITE_IOERR_FSYNC;
    }
    int rc = log_real->xSync(file, flags);
    (void)failpoint_place(PLACE_STORE_FLUSHED);
    return rc;
}

void db_watch_log(struct db *db)
{
    sqlite3_file *log = NULL;
    if (!failpoint_on) {
        return;
    }
    int rc = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    gw_assert(rc == SQLITE_OK && log && log->pMethods);
    log_real = log->pMethods;
    log_shim = *log_real;
    log_shim.xWrite = log_write;
    log_shim.xSync = log_flush;
    log->pMethods = &log_shim;
}

void db_close(struct db *db, bool untouched)
{
    if (db->handle) {
        if (untouched) {
            sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        }
        int rc = sqlite3_close(db->handle);
        if (rc != SQLITE_OK) {
            log_error("store.close", "file=\"%s\" %s", db->path, sqlite3_errstr(rc));
        }
    }
    free(db->path);
    *db = (struct db){0};
}

gw_err db_run(struct db *db, const char *sql, struct gw_error *why)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? GW_OK : db_open_error(db, rc, why);
}

gw_err db_number(struct db *db, const char *sql, int64_t *ret, struct gw_error *why)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }
    if (rc == SQLITE_ROW) {
        *ret = sqlite3_column_int64(stmt, 0);
        sqlite3_finalize(stmt);
        return GW_OK;
    }
    gw_err err = db_open_error(db, rc, why);
    sqlite3_finalize(stmt);
    return err;
}

static bool is_full(struct db *db, int rc)
{
    int error = sqlite3_system_errno(db->handle);
    if (rc == SQLITE_IOERR_WRITE) {
        return error == EDQUOT; /* SQLite itself tells only ENOSPC from a failed write */
    }
    return (rc & 0xff) == SQLITE_FULL;
}

gw_err db_error(struct db *db, int rc, const char *what)
{
    if (is_full(db, rc)) {
        return GW_EDISK_FULL;
    }
    if ((rc & 0xff) == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM) {
        return GW_ENOMEM;
    }
    if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB) {
        log_error("store.damaged", "file=\"%s\" table=%s %s; restore it from a backup", db->path,
                  what, sqlite3_errmsg(db->handle));
        return GW_ECORRUPT;
    }
    int error = sqlite3_system_errno(db->handle);
    log_die("store.failed",
            "file=\"%s\" at=%s sqlite=%d %s%s%s; stopping, because it is not known what is on the "
            "disk. Check the disk, then start the host again: it goes on from its last commit",
            db->path, what, rc, sqlite3_errstr(rc), error ? ": " : "",
            error ? strerror(error) : "");
}

gw_err db_prepare(struct db *db, const char *sql, sqlite3_stmt **ret)
{
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    return rc == SQLITE_OK ? GW_OK : db_error(db, rc, sql);
}

void db_checkpoint(struct db *db)
{
    int logged = 0, moved = 0;
    int rc =
        sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &logged, &moved);
    if (rc != SQLITE_OK) {
        gw_err err = db_error(db, rc, "checkpoint");
        log_debug("store.checkpoint", "file=\"%s\" put off: %s", db->path, gw_err_text(err));
        return;
    }
    db->log_pages = logged - moved;
}

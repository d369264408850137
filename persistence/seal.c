#include "persistence/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "persistence/schema.h"
#include "persistence/wal.h"
#include "protocol/base/buf.h"
#include "protocol/base/log.h"

#define PAGE         WAL_PAGE_BYTES
#define CONTENT      (PAGE - SEAL_BYTES)
#define TRIES        64         /* pages that are searched for the one bit: 10 ms each */
#define BEGIN_OPCODE 0x67640001 /* of file_control: seal_begin */

/* A file of SQLite's with ours around it: the database, or its log. */
struct seal_file {
    sqlite3_file base;
    bool is_log;
    char path[512]; /* for what is said; cut off */
    /* the database */
    bool sealed;
    unsigned tries_left;
    /* the log */
    struct wal_mark mark;
    uint8_t salts[8];
    uint32_t frames;    /* up to the last commit that was written whole */
    uint32_t pending;   /* up to the one that is to be flushed */
    uint32_t ending;    /* the last frame of a commit, whose page is still to be written */
    sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *system_vfs;

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct seal_file *)f)->real;
}

/* --- one page --- */
static bool page_is_whole(uint64_t number, const uint8_t *page)
{
    return load_u64(page + CONTENT) == XXH3_64bits_withSeed(page, CONTENT, number);
}

/* Turn the one bit after which the page is whole: with a checksum of 64 bits no page fits that was
 * not written. False: there is none, and the page is as it was. */
static bool heal_page(uint8_t *page, uint64_t number, size_t *ret_at)
{
    for (size_t i = 0; i < PAGE * 8; i++) {
        page[i / 8] ^= (uint8_t)(1u << i % 8);
        if (page_is_whole(number, page)) {
            *ret_at = i / 8;
            return true;
        }
        page[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    return false;
}

static void say_healed(const char *path, long long at)
{
    log_warn("store.healed",
             "file=\"%s\" at=%lld one bit was wrong and has been put right; see to "
             "the disk",
             path, at);
}

static bool says_sealed(const uint8_t *page1)
{
    return page1[20] == SEAL_BYTES && page1[16] == PAGE >> 8 && page1[17] == 0;
}

/* SQLITE_OK: the page is as it was written, or is now. */
static int check_page(struct seal_file *f, uint8_t *page, uint64_t number)
{
    size_t at;
    if (page_is_whole(number, page)) {
        return SQLITE_OK;
    }
    if (f->tries_left == 0) {
        return SQLITE_CORRUPT;
    }
    f->tries_left--;
    sqlite3_int64 start = (sqlite3_int64)(number - 1) * PAGE;
    if (!heal_page(page, number, &at)) {
        log_error("store.page_damaged",
                  "file=\"%s\" at=%lld bytes=%d are not as they were written; what is stored there "
                  "is not served. Restore a backup, and see to the disk",
                  f->path, (long long)start, PAGE);
        return SQLITE_CORRUPT;
    }
    say_healed(f->path, start + (long long)at);
    int rc = f->real->pMethods->xWrite(f->real, page + at, 1, start + (sqlite3_int64)at);
    if (rc != SQLITE_OK) {
        log_warn("store.healed", "file=\"%s\" the right bit could not be written", f->path);
    }
    return SQLITE_OK;
}

/* --- the database --- */
/* The head of page 1 is read alone, before the page is: then it may still be in the log only. */
static int db_read(sqlite3_file *base, void *data, int n, sqlite3_int64 at)
{
    struct seal_file *f = (struct seal_file *)base;
    int rc = f->real->pMethods->xRead(f->real, data, n, at);
    if (!f->sealed || n != PAGE || at % PAGE != 0) {
        return rc;
    }
    if (rc == SQLITE_IOERR_SHORT_READ) {
        return SQLITE_CORRUPT; /* SQLite would take what is missing for zeros */
    }
    return rc == SQLITE_OK ? check_page(f, data, (uint64_t)(at / PAGE) + 1) : rc;
}

static int db_write(sqlite3_file *base, const void *data, int n, sqlite3_int64 at)
{
    struct seal_file *f = (struct seal_file *)base;
    uint8_t page[PAGE];
    if (f->sealed && n == PAGE && at % PAGE == 0) {
        memcpy(page, data, CONTENT);
        store_u64(page + CONTENT, XXH3_64bits_withSeed(page, CONTENT, (uint64_t)(at / PAGE) + 1));
        data = page;
    }
    return f->real->pMethods->xWrite(f->real, data, n, at);
}

/* --- the log --- */
static int log_read(sqlite3_file *base, void *data, int n, sqlite3_int64 at)
{
    return real_of(base)->pMethods->xRead(real_of(base), data, n, at);
}

static uint32_t frame_of(sqlite3_int64 at)
{
    return (uint32_t)((at - WAL_HEADER_BYTES) / WAL_FRAME_BYTES) + 1;
}

static int log_write(sqlite3_file *base, const void *data, int n, sqlite3_int64 at)
{
    struct seal_file *f = (struct seal_file *)base;
    const uint8_t *p = data;
    int rc = f->real->pMethods->xWrite(f->real, data, n, at);
    if (rc != SQLITE_OK) {
        f->pending = f->frames;
        f->ending = 0;
    } else if (at == 0 && n >= WAL_HEADER_BYTES) {
        memcpy(f->salts, p + 16, sizeof f->salts);
        f->frames = f->pending = 0;
    } else if (n == WAL_FRAME_HEADER_BYTES) { /* then its page */
        f->ending = load_u32(p + 4) != 0 ? frame_of(at) : 0;
    } else if (n == PAGE && f->ending > 0 && frame_of(at) == f->ending) {
        f->pending = f->ending;
    }
    return rc;
}

static int log_sync(sqlite3_file *base, int flags)
{
    struct seal_file *f = (struct seal_file *)base;
    int rc = f->real->pMethods->xSync(f->real, flags);
    if (rc == SQLITE_OK) {
        f->frames = f->pending;
        wal_mark_set(&f->mark, f->salts, f->frames);
    }
    return rc;
}

/* --- what goes through as it is --- */
static int file_close(sqlite3_file *base)
{
    struct seal_file *f = (struct seal_file *)base;
    if (f->is_log) {
        wal_mark_close(&f->mark);
    }
    return f->real->pMethods->xClose(f->real);
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int file_sync(sqlite3_file *f, int flags)
{
    return real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int file_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), ret);
}

static int file_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int file_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int file_check_lock(sqlite3_file *f, int *ret)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    struct seal_file *f = (struct seal_file *)base;
    if (op == BEGIN_OPCODE) {
        f->sealed = true;
        return SQLITE_OK;
    }
    return f->real->pMethods->xFileControl(f->real, op, arg);
}

static int file_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int file_traits(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

/* Version 1: neither shared memory nor mapped pages, of which the store uses none. */
static const sqlite3_io_methods db_methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = db_read,
    .xWrite = db_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};
static sqlite3_io_methods log_methods; /* the same, but for three */

/* --- opening --- */
static void begin_log(struct seal_file *f, const char *path)
{
    uint8_t header[WAL_HEADER_BYTES];
    char db[PATH_MAX];
    size_t len = strlen(path) - strlen("-wal");
    snprintf(db, sizeof db, "%.*s", (int)len, path);
    wal_mark_open(&f->mark, db);
    if (f->real->pMethods->xRead(f->real, header, sizeof header, 0) == SQLITE_OK) {
        memcpy(f->salts, header + 16, sizeof f->salts);
    }
    if (memcmp(f->salts, f->mark.salts, sizeof f->salts) == 0) {
        f->frames = f->pending = f->mark.frames;
    }
}

static void begin_db(struct seal_file *f)
{
    uint8_t head[32];
    f->tries_left = TRIES;
    f->sealed =
        f->real->pMethods->xRead(f->real, head, sizeof head, 0) == SQLITE_OK && says_sealed(head);
}

static int seal_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *ret)
{
    (void)vfs;
    if (!path || !(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL))) {
        return system_vfs->xOpen(system_vfs, path, base, flags, ret);
    }
    struct seal_file *f = (struct seal_file *)base;
    memset(f, 0, sizeof *f);
    f->real = (sqlite3_file *)(f + 1);
    f->mark.fd = -1;
    int rc = system_vfs->xOpen(system_vfs, path, f->real, flags, ret);
    if (rc != SQLITE_OK) {
        return rc; /* base.pMethods is NULL: there is nothing to close */
    }
    snprintf(f->path, sizeof f->path, "%s", path);
    f->is_log = (flags & SQLITE_OPEN_WAL) != 0;
    f->base.pMethods = f->is_log ? &log_methods : &db_methods;
    if (f->is_log) {
        begin_log(f, path);
    } else {
        begin_db(f);
    }
    return SQLITE_OK;
}

/* The log goes when all of it is in the database: from then on none is missed. */
static int seal_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
    (void)vfs;
    size_t len = strlen(path);
    char db[PATH_MAX];
    if (len > 4 && len < sizeof db && strcmp(path + len - 4, "-wal") == 0) {
        struct wal_mark m;
        snprintf(db, sizeof db, "%.*s", (int)(len - 4), path);
        wal_mark_open(&m, db);
        bool failed = m.fd < 0 ? errno != ENOSPC && errno != EDQUOT : wal_mark_clear(&m) != 0;
        wal_mark_close(&m);
        if (failed) {
            return SQLITE_IOERR_DELETE;
        }
    }
    return system_vfs->xDelete(system_vfs, path, sync_dir);
}

int seal_register(void)
{
    static sqlite3_vfs vfs;
    system_vfs = sqlite3_vfs_find(NULL);
    if (!system_vfs) {
        return SQLITE_ERROR;
    }
    log_methods = db_methods;
    log_methods.xRead = log_read;
    log_methods.xWrite = log_write;
    log_methods.xSync = log_sync;
    vfs = *system_vfs; /* its other calls do not look at which one they are called for */
    vfs.pNext = NULL;
    vfs.zName = SEAL_VFS;
    vfs.szOsFile += (int)sizeof(struct seal_file);
    vfs.xOpen = seal_open;
    vfs.xDelete = seal_delete;
    return sqlite3_vfs_register(&vfs, 0);
}

/* --- from outside --- */
/* Page 1 has no seal that fits, nor would with one other bit. It may be of a store without seals,
 * or half written by a checkpoint that was cut off, in which case it is in the log, and its first
 * sector is either old or new. */
static bool head_may_be(const uint8_t *page)
{
    bool without = page[20] == 0 && load_u32(page + 60) < SEAL_VERSION;
    return page[16] == PAGE >> 8 && page[17] == 0 && (without || page[20] == SEAL_BYTES);
}

static bool is_ours(const uint8_t *page)
{
    uint32_t application = load_u32(page + 68);
    return application == SCHEMA_STORE_ID || application == SCHEMA_CHUNKS_ID;
}

static gw_err look_at_head(int fd, const char *db_path, struct gw_error *why)
{
    uint8_t page[PAGE];
    size_t at;
    if (pread(fd, page, PAGE, 0) != PAGE || page_is_whole(1, page)) {
        return GW_OK; /* too short: others say so */
    }
    if (heal_page(page, 1, &at)) {
        say_healed(db_path, (long long)at);
        if (pwrite(fd, page + at, 1, (off_t)at) != 1) {
            return gw_fail(why, GW_EIO, "cannot write \"%s\": %s", db_path, strerror(errno));
        }
    } else if (memcmp(page, "SQLite format 3", 16) == 0 && is_ours(page) && !head_may_be(page)) {
        gw_fail(why, GW_ECORRUPT, "\"%s\" is damaged: its first page is not as it was written",
                db_path);
        gw_hint(why, "restore the folder of this host from a backup");
        return GW_ECORRUPT;
    }
    return GW_OK;
}

gw_err seal_check_head(const char *db_path, struct gw_error *why)
{
    int fd = open(db_path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return GW_OK; /* there is none yet, or the open that follows says why not */
    }
    gw_err err = look_at_head(fd, db_path, why);
    close(fd);
    return err;
}

int seal_reserved(sqlite3 *handle)
{
    int n = -1;
    return sqlite3_file_control(handle, "main", SQLITE_FCNTL_RESERVE_BYTES, &n) == SQLITE_OK ? n
                                                                                             : -1;
}

void seal_reserve(sqlite3 *handle)
{
    int n = SEAL_BYTES;
    (void)sqlite3_file_control(handle, "main", SQLITE_FCNTL_RESERVE_BYTES, &n);
}

void seal_begin(sqlite3 *handle)
{
    (void)sqlite3_file_control(handle, "main", BEGIN_OPCODE, NULL);
}

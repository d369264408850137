/* Format of the log: a header of 32 bytes (magic, version, page size, number, two salts, checksum),
 * then frames: page number, size of the database after a commit or 0, the salts, a checksum over
 * this and everything before, and the page. All numbers are big-endian; bit 0 of the magic says
 * whether the checksum's words are.
 *
 * The mark is two slots that are written by turns, so that one is whole whenever the process ends:
 *   "gwmark01" | u64 number of the mark | salts | u32 frames | u32 0 | XXH3 of all that */
#include "persistence/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "protocol/base/buf.h"
#include "protocol/base/log.h"

#define WAL_MAGIC  0x377f0682u /* and 1 when the words of the checksum are big-endian */
#define SLOT_BYTES 40
#define SLOT_APART 64

/* --- the mark --- */
static const uint8_t mark_magic[8] = {'g', 'w', 'm', 'a', 'r', 'k', '0', '1'};

static void slot_pack(const struct wal_mark *m, uint8_t ret[SLOT_BYTES])
{
    memcpy(ret, mark_magic, sizeof mark_magic);
    store_u64(ret + 8, m->number);
    memcpy(ret + 16, m->salts, 8);
    store_u64(ret + 24, (uint64_t)m->frames << 32);
    store_u64(ret + 32, XXH3_64bits(ret, 32));
}

static bool slot_read(int fd, off_t at, struct wal_mark *ret)
{
    uint8_t slot[SLOT_BYTES];
    if (pread(fd, slot, sizeof slot, at) != SLOT_BYTES ||
        memcmp(slot, mark_magic, sizeof mark_magic) != 0 ||
        load_u64(slot + 32) != XXH3_64bits(slot, 32)) {
        return false;
    }
    ret->number = load_u64(slot + 8);
    memcpy(ret->salts, slot + 16, 8);
    ret->frames = (uint32_t)(load_u64(slot + 24) >> 32);
    return true;
}

/* The newer of its slots; none that is whole: no frames. */
static void mark_read(struct wal_mark *m)
{
    struct wal_mark one = *m;
    for (off_t at = 0; at <= SLOT_APART; at += SLOT_APART) {
        if (slot_read(m->fd, at, &one) && one.number >= m->number) {
            *m = one;
        }
    }
}

static int mark_fd(const char *db_path, int flags)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s-mark", db_path) >= sizeof path) {
        return -1;
    }
    return open(path, flags | O_CLOEXEC, 0600);
}

void wal_mark_open(struct wal_mark *m, const char *db_path)
{
    *m = (struct wal_mark){.fd = mark_fd(db_path, O_RDWR | O_CREAT)};
    if (m->fd >= 0) {
        mark_read(m);
    }
}

void wal_mark_close(struct wal_mark *m)
{
    if (m->fd >= 0) {
        close(m->fd);
        m->fd = -1;
    }
}

static bool mark_write(struct wal_mark *m)
{
    uint8_t slot[SLOT_BYTES];
    off_t at = ++m->number % 2 * SLOT_APART;
    slot_pack(m, slot);
    return pwrite(m->fd, slot, sizeof slot, at) == SLOT_BYTES;
}

void wal_mark_set(struct wal_mark *m, const uint8_t salts[8], uint32_t frames)
{
    if (m->fd >= 0) {
        memcpy(m->salts, salts, 8);
        m->frames = frames;
        (void)mark_write(m); /* on a full disk the older one stays */
    }
}

int wal_mark_clear(struct wal_mark *m)
{
    m->frames = 0;
    for (int slot = 0; slot < 2; slot++) { /* an older one would be believed if this one rots */
        if (!mark_write(m)) {
            return -1;
        }
    }
    return fdatasync(m->fd);
}

/* --- the log --- */
struct wal {
    char path[PATH_MAX];
    int fd;
    bool big_endian; /* the words of the checksum */
    uint8_t header[WAL_HEADER_BYTES];
    uint8_t frame[WAL_FRAME_BYTES];
    uint32_t sums[2];  /* as they are before the frame */
    uint32_t frames;   /* that the file has room for */
    uint32_t marked;   /* that were flushed, for certain */
    uint32_t complete; /* whole ones up to the end of the last commit */
};

static void add_up(bool big_endian, const uint8_t *p, size_t n, uint32_t sums[2])
{
    for (size_t i = 0; i < n; i += 8) {
        uint32_t a = load_u32(p + i), b = load_u32(p + i + 4);
        sums[0] += (big_endian ? a : __builtin_bswap32(a)) + sums[1];
        sums[1] += (big_endian ? b : __builtin_bswap32(b)) + sums[0];
    }
}

static bool header_is_whole(const uint8_t *h)
{
    uint32_t sums[2] = {0, 0};
    add_up(h[3] & 1, h, 24, sums);
    return (load_u32(h) & ~1u) == WAL_MAGIC && load_u32(h + 24) == sums[0] &&
           load_u32(h + 28) == sums[1];
}

static bool frame_is_whole(const struct wal *w)
{
    const uint8_t *f = w->frame;
    uint32_t sums[2] = {w->sums[0], w->sums[1]};
    if (memcmp(f + 8, w->header + 16, 8) != 0) {
        return false;
    }
    add_up(w->big_endian, f, 8, sums);
    add_up(w->big_endian, f + WAL_FRAME_HEADER_BYTES, WAL_PAGE_BYTES, sums);
    return load_u32(f + 16) == sums[0] && load_u32(f + 20) == sums[1];
}

static off_t frame_at(uint32_t number) /* from 1 on */
{
    return WAL_HEADER_BYTES + (off_t)(number - 1) * WAL_FRAME_BYTES;
}

static bool read_frame(struct wal *w, uint32_t number)
{
    return pread(w->fd, w->frame, WAL_FRAME_BYTES, frame_at(number)) == WAL_FRAME_BYTES;
}

static void pass_frame(struct wal *w)
{
    w->sums[0] = load_u32(w->frame + 16);
    w->sums[1] = load_u32(w->frame + 20);
}

static gw_err damaged(const struct wal *w, const char *what, struct gw_error *why)
{
    gw_fail(why, GW_ECORRUPT, "\"%s\" is damaged: %s", w->path, what);
    gw_hint(why,
            "restore the folder of this host (store.db*, blobs) from a backup; without the log "
            "what was acknowledged last is lost, and the rest does not fit together");
    return GW_ECORRUPT;
}

static gw_err broken(const struct wal *w, const char *verb, struct gw_error *why)
{
    gw_fail(why, GW_EIO, "cannot %s \"%s\": %s", verb, w->path, strerror(errno));
    gw_hint(why, "see that this user can read and write it, and that the disk is healthy");
    return GW_EIO;
}

/* Behind a broken frame: how many commits are there whose frames follow on the ones before them? */
static unsigned commits_behind(struct wal *w, uint32_t number)
{
    unsigned commits = 0;
    if (!read_frame(w, number)) {
        return 0;
    }
    pass_frame(w);
    for (uint32_t i = number + 1; i <= w->frames && commits < 2 && read_frame(w, i); i++) {
        commits += frame_is_whole(w) && load_u32(w->frame + 4) != 0;
        pass_frame(w);
    }
    return commits;
}

/* The head is flushed before the first frame is written: frames that follow on one another are of a
 * log that had one. */
static bool had_a_head(struct wal *w)
{
    for (int big = 0; big < 2; big++) {
        w->big_endian = big;
        if (read_frame(w, 1)) {
            memcpy(w->header + 16, w->frame + 8, 8);
            if (commits_behind(w, 1) > 0) {
                return true;
            }
        }
    }
    return false;
}

static gw_err check_header(struct wal *w, const struct wal_mark *m, bool *ret_usable,
                           struct gw_error *why)
{
    ssize_t n = pread(w->fd, w->header, WAL_HEADER_BYTES, 0);
    if (n < 0) {
        return broken(w, "read", why);
    }
    *ret_usable = true;
    if (n != WAL_HEADER_BYTES || !header_is_whole(w->header)) {
        *ret_usable = false; /* cut off before its first commit: SQLite begins it anew */
        return m->frames == 0 && !had_a_head(w) ? GW_OK : damaged(w, "its head is not whole", why);
    }
    if (load_u32(w->header + 8) != WAL_PAGE_BYTES) {
        *ret_usable = false; /* of a store that we have not made: SQLite's own rules */
    }
    w->big_endian = w->header[3] & 1;
    w->sums[0] = load_u32(w->header + 24);
    w->sums[1] = load_u32(w->header + 28);
    w->marked = memcmp(w->header + 16, m->salts, 8) == 0 ? m->frames : 0;
    return GW_OK;
}

/* (Their checksum finds damage, but is too weak to say which bits are the right ones.) */
static gw_err check_frames(struct wal *w, struct gw_error *why)
{
    for (uint32_t i = 1; i <= w->frames || i <= w->marked; i++) {
        if (read_frame(w, i) && frame_is_whole(w)) {
            w->complete = load_u32(w->frame + 4) != 0 ? i : w->complete;
            pass_frame(w);
            continue;
        }
        if (i > w->marked && commits_behind(w, i) < 2) {
            return GW_OK;
        }
        char what[128];
        snprintf(what, sizeof what, "of %u records that were flushed, number %u cannot be read",
                 w->marked > w->frames ? w->marked : w->frames, i);
        return damaged(w, what, why);
    }
    return GW_OK;
}

/* What is behind the last commit is of no use to anybody; with it gone, what a next power cut
 * leaves is not mixed up with it. Without a mark it may be the log of another program. */
static gw_err cut_rest(struct wal *w, const struct wal_mark *m, struct gw_error *why)
{
    if (m->number > 0 && w->complete < w->frames && read_frame(w, w->complete + 1) &&
        memcmp(w->frame + 8, w->header + 16, 8) == 0) {
        log_info("store.cut", "file=\"%s\" frames=%u are of a commit that was cut off", w->path,
                 w->frames - w->complete);
        if (ftruncate(w->fd, frame_at(w->complete + 1)) != 0) {
            return broken(w, "cut", why);
        }
    }
    return GW_OK;
}

static gw_err check_log(struct wal *w, const struct wal_mark *m, struct gw_error *why)
{
    struct stat st;
    bool usable = false;
    if (fstat(w->fd, &st) != 0) {
        return broken(w, "look at", why);
    }
    w->frames =
        (uint32_t)(st.st_size > WAL_HEADER_BYTES ? (st.st_size - WAL_HEADER_BYTES) / WAL_FRAME_BYTES
                                                 : 0);
    GW_TRY(check_header(w, m, &usable, why));
    if (!usable) {
        return GW_OK;
    }
    GW_TRY(check_frames(w, why));
    return cut_rest(w, m, why);
}

static gw_err missing(const struct wal *w, const struct wal_mark *m, struct gw_error *why)
{
    if (errno != ENOENT) {
        return broken(w, "open", why);
    }
    if (m->frames == 0) {
        return GW_OK;
    }
    gw_fail(why, GW_ECORRUPT, "\"%s\" is missing: what was acknowledged last is in it", w->path);
    gw_hint(why, "bring it back, or restore the folder of this host from a backup; where store.db "
                 "itself is from a backup, remove \"store.db-mark\"");
    return GW_ECORRUPT;
}

/* The mark is first written when the database has been. */
static gw_err lost(const char *db_path, struct gw_error *why)
{
    gw_fail(why, GW_ECORRUPT, "\"%s\" is missing or empty, but there was one", db_path);
    gw_hint(why, "restore the folder of this host from a backup, or move \"store.db\", "
                 "\"store.db-wal\", \"store.db-mark\" and \"blobs\" away to start empty");
    return GW_ECORRUPT;
}

gw_err wal_check(const char *db_path, struct gw_error *why)
{
    struct stat st;
    struct wal_mark m = {.fd = mark_fd(db_path, O_RDONLY)};
    if (m.fd >= 0) {
        mark_read(&m);
        wal_mark_close(&m);
    }
    if (stat(db_path, &st) != 0 || st.st_size == 0) {
        return m.number == 0 ? GW_OK : lost(db_path, why);
    }
    struct wal *w = calloc(1, sizeof *w);
    if (!w) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    snprintf(w->path, sizeof w->path, "%s-wal", db_path);
    w->fd = open(w->path, O_RDWR | O_CLOEXEC);
    gw_err err = w->fd < 0 ? missing(w, &m, why) : check_log(w, &m, why);
    if (w->fd >= 0) {
        close(w->fd);
    }
    free(w);
    return err;
}

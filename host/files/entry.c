#include "host/files/entry.h"

#include <stdlib.h>
#include <string.h>

#include "host/files/names.h"
#include "protocol/limits.h"

#define FLAG_SPARSE 1u
#define MEMBERS     9

void entry_clear(struct file_entry *e)
{
    free(e->path);
    free(e->target);
    *e = (struct file_entry){0};
}

gw_err entry_copy(const struct file_entry *from, struct file_entry *ret)
{
    struct file_entry new = *from;
    new.path = from->path ? strdup(from->path) : NULL;
    new.target = from->target ? strdup(from->target) : NULL;
    if ((from->path && !new.path) || (from->target && !new.target)) {
        entry_clear(&new);
        return GW_ENOMEM;
    }
    *ret = new;
    return GW_OK;
}

int64_t entry_ns(struct timespec t)
{
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t.tv_sec, 1000000000, &ns) ||
        __builtin_add_overflow(ns, (int64_t)t.tv_nsec, &ns)) {
        return t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    }
    return ns;
}

struct timespec entry_time(int64_t ns)
{
    int64_t s = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        s--;
        rest += 1000000000;
    }
    return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

bool entry_is_unchanged(const struct file_entry *a, const struct file_entry *b)
{
    return a->type == b->type && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* The first bytes of a path that may hold anything, for an error. */
static const char *show(const char *p, size_t n, char ret[NAMES_SHOWN])
{
    char head[NAMES_SHOWN];
    size_t len = strnlen(p, n < sizeof head - 1 ? n : sizeof head - 1);
    memcpy(head, p, len);
    head[len] = '\0';
    return names_show(head, ret, NAMES_SHOWN);
}

static gw_err check_part(const char *part, size_t len, const char *p, size_t n,
                         struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    if (len == 0) {
        return gw_fail(why, GW_EARG, "the path \"%s\" has an empty part", show(p, n, shown));
    }
    if (len > LIMIT_FILE_NAME_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "a name in the path \"%s\" has more than %d bytes",
                       show(p, n, shown), LIMIT_FILE_NAME_BYTES);
    }
    if (len == 2 && memcmp(part, "..", 2) == 0) {
        return gw_fail(why, GW_EDENIED, "the path \"%s\" leads upwards", show(p, n, shown));
    }
    if (len == 1 && part[0] == '.') {
        return gw_fail(why, GW_EARG, "the path \"%s\" has a part \".\"", show(p, n, shown));
    }
    return GW_OK;
}

gw_err entry_check_path(const char *p, size_t n, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    if (n > LIMIT_FILE_PATH_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "the path \"%s\"... has more than %u bytes",
                       show(p, n, shown), LIMIT_FILE_PATH_BYTES);
    }
    if (memchr(p, '\0', n)) {
        return gw_fail(why, GW_EARG, "the path \"%s\"... has a zero byte", show(p, n, shown));
    }
    if (n > 0 && p[0] == '/') {
        return gw_fail(why, GW_EDENIED, "the path \"%s\" is absolute", show(p, n, shown));
    }
    if (n == 1 && p[0] == '.') {
        return GW_OK;
    }
    for (size_t at = 0; at <= n;) {
        const char *slash = memchr(p + at, '/', n - at);
        size_t end = slash ? (size_t)(slash - p) : n;
        GW_TRY(check_part(p + at, end - at, p, n, why));
        at = end + 1;
    }
    return GW_OK;
}

void entry_pack(const struct file_entry *e, struct buf *out)
{
    mp_array(out, MEMBERS);
    mp_uint(out, e->type);
    mp_bin(out, e->path, strlen(e->path));
    mp_uint(out, e->mode);
    mp_int(out, e->mtime_ns);
    mp_uint(out, e->size);
    if (e->target) {
        mp_bin(out, e->target, strlen(e->target));
    } else {
        mp_nil(out);
    }
    mp_uint(out, e->sparse ? FLAG_SPARSE : 0);
    mp_uint(out, e->uid);
    mp_uint(out, e->gid);
}

static gw_err malformed(struct gw_error *why)
{
    return gw_fail(why, GW_EPROTO, "an entry is not of its form");
}

struct packed {
    struct file_entry e;
    uint32_t type, flags;
    struct span path, target;
};

static gw_err read_members(struct mp *m, struct packed *k)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n < MEMBERS) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_u32(m, &k->type));
    GW_TRY(mp_read_bin(m, &k->path));
    GW_TRY(mp_read_u32(m, &k->e.mode));
    GW_TRY(mp_read_int(m, &k->e.mtime_ns));
    GW_TRY(mp_read_uint(m, &k->e.size));
    if (mp_peek(m) == MP_NIL) {
        GW_TRY(mp_read_nil(m));
    } else {
        GW_TRY(mp_read_bin(m, &k->target));
        if (k->target.n == 0) {
            return GW_EPROTO;
        }
    }
    GW_TRY(mp_read_u32(m, &k->flags));
    GW_TRY(mp_read_u32(m, &k->e.uid));
    GW_TRY(mp_read_u32(m, &k->e.gid));
    return mp_skip_n(m, n - MEMBERS);
}

/* What holds of an entry besides the rules of its path. */
static gw_err check_members(const struct packed *k, struct gw_error *why)
{
    char shown[NAMES_SHOWN];
    bool link = k->type == ENTRY_LINK;
    if (k->type < ENTRY_FILE || k->type > ENTRY_LINK || k->e.mode > 07777 ||
        k->e.size > INT64_MAX || link != (k->target.n > 0) ||
        (k->type == ENTRY_FOLDER && k->e.size != 0) || (link && k->e.size != k->target.n)) {
        return malformed(why);
    }
    const char *path = (const char *)k->path.p;
    if (k->target.n > LIMIT_FILE_TARGET_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "the target of \"%s\" has more than %d bytes",
                       show(path, k->path.n, shown), LIMIT_FILE_TARGET_BYTES);
    }
    if (link && memchr(k->target.p, '\0', k->target.n)) {
        return malformed(why);
    }
    if (k->path.n == 1 && path[0] == '.' && k->type != ENTRY_FOLDER) {
        return gw_fail(why, GW_EARG, "only a folder is \".\"");
    }
    return GW_OK;
}

gw_err entry_parse(struct mp *m, struct file_entry *ret, struct gw_error *why)
{
    struct mp at = *m;
    struct packed k = {0};
    if (read_members(&at, &k)) {
        return malformed(why);
    }
    gw_err err = entry_check_path((const char *)k.path.p, k.path.n, why);
    if (!err) {
        err = check_members(&k, why);
    }
    if (err) {
        if (err != GW_EPROTO) {
            *m = at;
        }
        return err;
    }
    k.e.type = (entry_type)k.type;
    k.e.sparse = k.type == ENTRY_FILE && (k.flags & FLAG_SPARSE);
    k.e.path = strndup((const char *)k.path.p, k.path.n);
    k.e.target = k.target.n ? strndup((const char *)k.target.p, k.target.n) : NULL;
    if (!k.e.path || (k.target.n && !k.e.target)) {
        entry_clear(&k.e);
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *ret = k.e;
    *m = at;
    return GW_OK;
}

#include "host/files/send_move.h"

#include <errno.h>
#include <string.h>

#include "protocol/limits.h"

/* A spooled entry: u32 length | msgpack entry, top, dev, ino, ctime_ns. */
static gw_err spool_failed(struct gw_error *why)
{
    gw_err code = errno == ENOSPC || errno == EDQUOT ? GW_EDISK_FULL : GW_EIO;
    return gw_fail(why, code, "cannot note what has moved in a temporary file: %s",
                   strerror(errno));
}

gw_err moved_add(struct moved *m, const struct file_entry *e, struct gw_error *why)
{
    m->spool = m->spool ? m->spool : tmpfile();
    if (!m->spool) {
        return spool_failed(why);
    }
    GW_AUTO(buf_free) struct buf b = {0};
    buf_add_u32(&b, 0);
    entry_pack(e, &b);
    mp_uint(&b, e->top);
    mp_uint(&b, e->dev);
    mp_uint(&b, e->ino);
    mp_int(&b, e->ctime_ns);
    if (!buf_ok(&b)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    buf_put_u32(&b, 0, (uint32_t)(b.len - 4));
    if (fwrite(b.data, 1, b.len, m->spool) != b.len) {
        return spool_failed(why);
    }
    m->count++;
    return GW_OK;
}

/* The next one; `b` holds what it is read from. */
static gw_err next(struct moved *m, struct buf *b, struct file_entry *ret, struct gw_error *why)
{
    uint8_t head[4];
    if (fread(head, 1, sizeof head, m->spool) != sizeof head) {
        return spool_failed(why);
    }
    size_t n = load_u32(head);
    buf_reset(b);
    if (!buf_reserve(b, n)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    if (fread(b->data, 1, n, m->spool) != n) {
        return spool_failed(why);
    }
    struct mp fields = mp_over((struct span){b->data, n});
    GW_TRY(entry_parse(&fields, ret, why));
    if (mp_read_u32(&fields, &ret->top) != GW_OK || mp_read_uint(&fields, &ret->dev) != GW_OK ||
        mp_read_uint(&fields, &ret->ino) != GW_OK ||
        mp_read_int(&fields, &ret->ctime_ns) != GW_OK) {
        entry_clear(ret);
        return gw_fail(why, GW_ECORRUPT, "the temporary file of what has moved is damaged");
    }
    return GW_OK;
}

gw_err moved_remove(struct moved *m, struct source *s,
                    void (*on_kept)(void *arg, const char *path, gw_err code,
                                    const struct gw_error *why),
                    void *arg, uint64_t *ret_removed, struct gw_error *why)
{
    if (m->spool && (fflush(m->spool) != 0 || fseek(m->spool, 0, SEEK_SET) != 0)) {
        return spool_failed(why);
    }
    GW_AUTO(buf_free) struct buf b = {0};
    uint64_t removed = 0;
    for (uint64_t i = 0; i < m->count; i++) {
        struct file_entry e = {0};
        struct gw_error kept = {0};
        GW_TRY(next(m, &b, &e, why));
        gw_err err = source_remove(s, &e, &kept);
        if (err == GW_OK) {
            removed++;
        } else {
            on_kept(arg, e.path, err, &kept);
        }
        entry_clear(&e);
    }
    *ret_removed = removed;
    size_t left;
    return source_prune(s, &left, why);
}

void moved_free(struct moved *m)
{
    if (m->spool) {
        fclose(m->spool);
    }
    *m = (struct moved){0};
}

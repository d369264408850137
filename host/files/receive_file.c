#include "host/files/receive_file.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <zstd.h>

#include "protocol/limits.h"

gw_err incoming_init(struct incoming *in, struct record_io *records, struct gw_error *why)
{
    *in = (struct incoming){.records = records, .work = malloc(2 * RECORD_DATA_BYTES)};
    if (!in->work || digest_init(&in->digest) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return GW_OK;
}

void incoming_deinit(struct incoming *in)
{
    free(in->work);
    ZSTD_freeDCtx(in->zstd);
    digest_deinit(&in->digest);
    *in = (struct incoming){0};
}

void incoming_start(struct incoming *in, struct sink_file *f, uint64_t size)
{
    in->file = f;
    in->size = size;
    in->at = 0;
    in->unwritten = f->old_size > 0 || !f->replace; /* that of size 0 is there, too */
    digest_restart(&in->digest);
}

/* --- writing --- */
static gw_err write_at(struct incoming *in, uint64_t offset, const void *bytes, size_t n,
                       incoming_fault *ret_fault, struct gw_error *why)
{
    gw_err err = sink_write(in->file, offset, bytes, n, why);
    if (err != GW_OK) {
        /* Where one file has no room, no other has. */
        *ret_fault = err == GW_EDISK_FULL ? FAULT_SESSION : FAULT_FILE;
    }
    return err;
}

/* The next bytes of a basis into work. */
static gw_err read_basis(struct incoming *in, int fd, uint64_t offset, size_t n,
                         incoming_fault *ret_fault, struct gw_error *why)
{
    for (size_t have = 0; have < n;) {
        ssize_t got = pread(fd, in->work + have, n - have, (off_t)(offset + have));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            *ret_fault = FAULT_CONTENT;
            return gw_fail(why, GW_ECORRUPT,
                           "what the destination has of the file cannot be used: %s",
                           got < 0 ? strerror(errno) : "it became shorter");
        }
        have += (size_t)got;
    }
    return GW_OK;
}

/* Whether the next n bytes, too, are those of the old file, and all before are. `bytes` NULL:
 * zeros. */
static bool is_old(struct incoming *in, const uint8_t *bytes, uint64_t n)
{
    uint8_t old[16 * 1024];
    static const uint8_t zeros[sizeof old];
    if (!in->unwritten || n > in->file->old_size - in->at) {
        return false;
    }
    for (uint64_t at = 0; at < n;) {
        size_t part = n - at < sizeof old ? (size_t)(n - at) : sizeof old;
        ssize_t got = pread(sink_old(in->file), old, part, (off_t)(in->at + at));
        if (got <= 0 || memcmp(old, bytes ? bytes + at : zeros, (size_t)got) != 0) {
            return false; /* also what cannot be read: then the file is written */
        }
        at += (size_t)got;
    }
    return true;
}

/* Up to here the file is as the old one, from here on it is not: write what was only compared. */
static gw_err write_same(struct incoming *in, incoming_fault *ret_fault, struct gw_error *why)
{
    if (!in->unwritten) {
        return GW_OK;
    }
    if (!in->file->replace) {
        *ret_fault = FAULT_FILE;
        return gw_fail(why, GW_EEXISTS,
                       "the destination has a file of this name with other content");
    }
    in->unwritten = false;
    for (uint64_t at = 0; at < in->at;) {
        size_t n = in->at - at < RECORD_DATA_BYTES ? (size_t)(in->at - at) : RECORD_DATA_BYTES;
        GW_TRY(read_basis(in, sink_old(in->file), at, n, ret_fault, why));
        GW_TRY(write_at(in, at, in->work, n, ret_fault, why));
        *ret_fault = FAULT_SESSION;
        GW_TRY(record_alive(in->records));
        at += n;
    }
    return GW_OK;
}

/* --- records --- */
static gw_err wrong(struct gw_error *why, incoming_fault *ret_fault, const char *text)
{
    *ret_fault = FAULT_SESSION;
    return gw_fail(why, GW_EPROTO, "the sender sent %s", text);
}

/* Compressed bytes go to the upper half of `work`; what is copied goes through the lower. */
static gw_err unpack(struct incoming *in, const struct record_data *data, struct span *ret,
                     incoming_fault *ret_fault, struct gw_error *why)
{
    *ret = data->bytes;
    if (!(data->flags & RECORD_ZSTD)) {
        return data->bytes.n <= RECORD_DATA_BYTES
                   ? GW_OK
                   : wrong(why, ret_fault, "a DATA record that is too long");
    }
    in->zstd = in->zstd ? in->zstd : ZSTD_createDCtx();
    if (!in->zstd) {
        *ret_fault = FAULT_SESSION;
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    uint8_t *to = in->work + RECORD_DATA_BYTES;
    size_t n = ZSTD_decompressDCtx(in->zstd, to, RECORD_DATA_BYTES, data->bytes.p, data->bytes.n);
    if (ZSTD_isError(n)) {
        return wrong(why, ret_fault,
                     "a compressed DATA record that does not decompress, or to too much");
    }
    *ret = (struct span){to, n};
    return GW_OK;
}

static gw_err verify(struct incoming *in, const uint8_t *digest, bool last,
                     incoming_fault *ret_fault, struct gw_error *why)
{
    uint8_t own[DIGEST_BYTES];
    gw_err err = last ? digest_end(&in->digest, own) : digest_now(&in->digest, own);
    if (err != GW_OK) {
        *ret_fault = FAULT_SESSION;
        return gw_fail(why, err, "out of memory");
    }
    if (memcmp(own, digest, sizeof own) != 0) {
        *ret_fault = FAULT_CONTENT;
        return gw_fail(why, GW_ECORRUPT, "the content that came does not verify, up to byte %llu",
                       (unsigned long long)in->at);
    }
    return GW_OK;
}

gw_err incoming_data(struct incoming *in, const struct record *rec, bool *ret_done, bool *ret_same,
                     incoming_fault *ret_fault, struct gw_error *why)
{
    struct record_data data;
    struct span bytes;
    if (record_parse_data(rec, &data) != GW_OK) {
        return wrong(why, ret_fault, "a DATA record that does not parse");
    }
    GW_TRY(unpack(in, &data, &bytes, ret_fault, why));
    bool last = data.flags & RECORD_LAST;
    if (bytes.n > in->size - in->at) {
        return wrong(why, ret_fault, "more bytes than it had announced");
    }
    if (last && in->at + bytes.n != in->size) {
        return wrong(why, ret_fault, "fewer bytes than it had announced");
    }
    in->received += data.bytes.n;
    digest_add(&in->digest, bytes.p, bytes.n);
    GW_TRY(verify(in, data.digest, last, ret_fault, why));
    if (!is_old(in, bytes.p, bytes.n)) {
        GW_TRY(write_same(in, ret_fault, why));
        GW_TRY(write_at(in, in->at, bytes.p, bytes.n, ret_fault, why));
    }
    in->at += bytes.n;
    *ret_done = last;
    *ret_same = last && in->unwritten && in->file->old_size == in->size;
    return last && !*ret_same ? write_same(in, ret_fault, why) : GW_OK;
}

/* A length that fits what is left of the file. */
static bool fits(const struct incoming *in, uint64_t len)
{
    return len > 0 && len <= LIMIT_COPY_BYTES && len <= in->size - in->at;
}

gw_err incoming_copy(struct incoming *in, struct record *rec, incoming_fault *ret_fault,
                     struct gw_error *why)
{
    uint32_t basis;
    uint64_t offset, len;
    if (rec->count < 3 || mp_read_u32(&rec->fields, &basis) != GW_OK || basis >= BASIS_COUNT ||
        mp_read_uint(&rec->fields, &offset) != GW_OK || mp_read_uint(&rec->fields, &len) != GW_OK ||
        !fits(in, len)) {
        return wrong(why, ret_fault, "a COPY record that does not parse, or is too long");
    }
    uint64_t size = basis == BASIS_OLD ? in->file->old_size : in->file->rest_size;
    if (offset > size || len > size - offset) {
        return wrong(why, ret_fault, "a COPY record of what is not there");
    }
    bool same = in->unwritten && basis == BASIS_OLD && offset == in->at;
    if (!same) {
        GW_TRY(write_same(in, ret_fault, why));
    }
    int fd = basis == BASIS_OLD ? sink_old(in->file) : sink_rest(in->file);
    for (uint64_t end = offset + len; offset < end;) {
        size_t n = end - offset < RECORD_DATA_BYTES ? (size_t)(end - offset) : RECORD_DATA_BYTES;
        GW_TRY(read_basis(in, fd, offset, n, ret_fault, why));
        digest_add(&in->digest, in->work, n);
        if (!same) {
            GW_TRY(write_at(in, in->at, in->work, n, ret_fault, why));
        }
        *ret_fault = FAULT_SESSION;
        GW_TRY(record_alive(in->records));
        offset += n;
        in->at += n;
    }
    return GW_OK;
}

gw_err incoming_hole(struct incoming *in, struct record *rec, incoming_fault *ret_fault,
                     struct gw_error *why)
{
    uint64_t len;
    if (rec->count < 1 || mp_read_uint(&rec->fields, &len) != GW_OK || !fits(in, len)) {
        return wrong(why, ret_fault, "a HOLE record that does not parse, or is too long");
    }
    if (!is_old(in, NULL, len)) {
        GW_TRY(write_same(in, ret_fault, why));
    }
    digest_add_zeros(&in->digest, len);
    in->at += len;
    *ret_fault = FAULT_SESSION;
    return record_alive(in->records);
}

#include "tests/fuzz/session.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "host/files/digest.h"
#include "host/files/record.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* --- the stream --- */
static gw_err read_input(void *ctx, void *to, size_t room, size_t *ret_n)
{
    struct session_input *in = ctx;
    if (in->left.n == 0) {
        return GW_ENOT_FOUND;
    }
    *ret_n = in->left.n < room ? in->left.n : room;
    memcpy(to, in->left.p, *ret_n);
    in->left.p += *ret_n;
    in->left.n -= *ret_n;
    return GW_OK;
}

static gw_err write_input(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    struct session_input *in = ctx;
    buf_add(&in->said, from, n);
    *ret_n = n;
    return GW_OK;
}

static gw_err wait_input(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    (void)ctx;
    (void)to_read;
    (void)to_write;
    (void)timeout_ms;
    return GW_OK;
}

static void describe_input(void *ctx, struct gw_error *why)
{
    (void)ctx;
    (void)gw_fail(why, GW_EUNREACHABLE, "the input is over");
}

void session_input(struct session_input *in, const uint8_t *data, size_t size)
{
    *in = (struct session_input){
        .io = {in, read_input, write_input, wait_input, describe_input},
        .left = {data, size},
    };
}

/* --- the place --- */
const uint8_t *session_old(void)
{
    static uint8_t old[SESSION_OLD_BYTES];
    for (size_t i = 0; i < sizeof old; i++) {
        old[i] = (uint8_t)(i * 7 + i / 256);
    }
    return old;
}

static void put_old(const char *folder)
{
    char path[128];
    snprintf(path, sizeof path, "%s/old", folder);
    FILE *f = fopen(path, "wb");
    must(f && fwrite(session_old(), 1, SESSION_OLD_BYTES, f) == SESSION_OLD_BYTES);
    fclose(f);
}

void session_place_make(struct session_place *p)
{
    const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    snprintf(p->path, sizeof p->path, "%s/godwit-fuzz-XXXXXX",
             tmp && strlen(tmp) < 32 ? tmp : "/tmp");
    must(mkdtemp(p->path) != NULL);
    snprintf(p->src, sizeof p->src, "%s/src", p->path);
    snprintf(p->dst, sizeof p->dst, "%s/dst", p->path);
    must(mkdir(p->src, 0700) == 0 && mkdir(p->dst, 0700) == 0);
    put_old(p->src);
    put_old(p->dst);
    char parts[96];
    snprintf(parts, sizeof parts, "%s/parts", p->path);
    const char *roots[] = {p->src, p->dst};
    must(roots_open(roots, 2, &p->roots, NULL) == GW_OK);
    must(parts_open(parts, &p->parts, NULL) == GW_OK);
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int open_up(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)at;
    return type == FTW_D || type == FTW_DNR ? chmod(path, st->st_mode | 0700) : 0;
}

void session_place_remove(struct session_place *p)
{
    parts_close(p->parts);
    roots_close(p->roots);
    (void)nftw(p->path, open_up, 16, FTW_PHYS);
    must(nftw(p->path, drop, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

/* --- digests --- */
static void add_copy(struct digest *d, struct span body)
{
    struct mp m = mp_over(body);
    size_t n;
    uint64_t basis, offset, len;
    if (mp_read_array(&m, &n) == GW_OK && mp_read_uint(&m, &basis) == GW_OK &&
        mp_read_uint(&m, &offset) == GW_OK && mp_read_uint(&m, &len) == GW_OK && basis == 0 &&
        offset <= SESSION_OLD_BYTES && len <= SESSION_OLD_BYTES - offset) {
        digest_add(d, session_old() + offset, len);
    }
}

static void add_data(struct digest *d, uint8_t flags, struct span bytes)
{
    static uint8_t unpacked[RECORD_DATA_BYTES];
    if (flags & RECORD_ZSTD) {
        size_t n = ZSTD_decompress(unpacked, sizeof unpacked, bytes.p, bytes.n);
        bytes = (struct span){unpacked, ZSTD_isError(n) ? 0 : n};
    }
    digest_add(d, bytes.p, bytes.n);
}

static void add_hole(struct digest *d, struct span body)
{
    struct mp m = mp_over(body);
    size_t n;
    uint64_t len;
    if (mp_read_array(&m, &n) == GW_OK && mp_read_uint(&m, &len) == GW_OK && len < 1 << 20) {
        digest_add_zeros(d, len);
    }
}

uint8_t *session_fill_digests(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    struct digest d;
    must(copy && digest_init(&d) == GW_OK);
    memcpy(copy, data, size);
    for (size_t at = 0; size - at >= RECORD_HEAD_BYTES;) {
        size_t n = load_u32(copy + at);
        if (n < 1 || n > size - at - 4) {
            break;
        }
        uint8_t *body = copy + at + RECORD_HEAD_BYTES;
        switch (copy[at + 4]) {
        case RECORD_START: digest_restart(&d); break;
        case RECORD_COPY: add_copy(&d, (struct span){body, n - 1}); break;
        case RECORD_HOLE: add_hole(&d, (struct span){body, n - 1}); break;
        case RECORD_DATA:
            if (n - 1 >= RECORD_DATA_HEAD) {
                add_data(&d, body[0],
                         (struct span){body + RECORD_DATA_HEAD, n - 1 - RECORD_DATA_HEAD});
                must(body[1] != 0 || digest_now(&d, body + 1) == GW_OK);
            }
            break;
        default: break;
        }
        at += 4 + n;
    }
    digest_deinit(&d);
    return copy;
}

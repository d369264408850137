#include "host/files/delta.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "persistence/chunker.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

/* --- receiver --- */
/* Take the n bytes at p into the chunks. */
static gw_err scan_bytes(const struct delta_scan *scan, struct chunker *cut, struct digest *d,
                         uint32_t *len, const uint8_t *p, size_t n)
{
    while (n > 0) {
        bool ends = false;
        size_t part = chunker_feed(cut, p, n, &ends);
        digest_add(d, p, part);
        *len += (uint32_t)part;
        p += part;
        n -= part;
        if (ends) {
            uint8_t hash[DIGEST_BYTES];
            GW_TRY(digest_end(d, hash));
            GW_TRY(scan->on_chunk(scan->arg, hash, *len));
            *len = 0;
        }
    }
    return GW_OK;
}

static gw_err scan_file(const struct delta_scan *scan, struct digest *d, struct gw_error *why)
{
    struct chunker cut;
    chunker_init(&cut);
    uint32_t len = 0;
    for (uint64_t at = 0; at < scan->size;) {
        size_t want = scan->size - at < scan->room ? (size_t)(scan->size - at) : scan->room;
        ssize_t n = pread(scan->fd, scan->work, want, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return gw_fail(why, GW_EIO, "cannot read what there is: %s", strerror(errno));
        }
        if (n == 0) {
            break;
        }
        GW_TRY(scan_bytes(scan, &cut, d, &len, scan->work, (size_t)n));
        GW_TRY(scan->on_pass(scan->arg));
        at += (size_t)n;
    }
    if (len == 0) {
        return GW_OK;
    }
    uint8_t hash[DIGEST_BYTES];
    GW_TRY(digest_end(d, hash));
    return scan->on_chunk(scan->arg, hash, len);
}

gw_err delta_scan(const struct delta_scan *scan, struct gw_error *why)
{
    struct digest d;
    GW_TRY(digest_init(&d));
    gw_err err = scan_file(scan, &d, why);
    digest_deinit(&d);
    return err;
}

/* --- sender --- */
void delta_index_free(struct delta_index *x)
{
    free(x->places);
    free(x->table);
    *x = (struct delta_index){0};
}

static size_t slot_of(const struct delta_index *x, const uint8_t *name)
{
    return (size_t)load_u64(name) & (x->slots - 1);
}

/* A chunk that occurs often (zeros) and names that a peer made up to collide are not all found. */
#define PROBES 32

static void enter(struct delta_index *x, size_t place)
{
    size_t slot = slot_of(x, x->places[place].name);
    for (int probes = 0; probes < PROBES; probes++) {
        if (x->table[slot] == 0) {
            x->table[slot] = (uint32_t)place + 1;
            return;
        }
        slot = (slot + 1) & (x->slots - 1);
    }
}

/* Room for n places, and a table that is at most half full. */
static gw_err grow(struct delta_index *x, size_t n)
{
    if (n <= x->cap) {
        return GW_OK;
    }
    size_t cap = x->cap ? x->cap * 2 : 16;
    while (cap < n) {
        cap *= 2;
    }
    struct delta_place *places = realloc(x->places, cap * sizeof *places);
    if (!places) {
        return GW_ENOMEM;
    }
    x->places = places;
    uint32_t *table = calloc(cap * 2, sizeof *table);
    if (!table) {
        return GW_ENOMEM;
    }
    free(x->table);
    x->table = table;
    x->slots = cap * 2;
    x->cap = cap;
    for (size_t i = 0; i < x->count; i++) {
        enter(x, i);
    }
    return GW_OK;
}

gw_err delta_index_add(struct delta_index *x, unsigned basis, struct span chunks)
{
    size_t n = chunks.n / DELTA_CHUNK_BYTES;
    if (basis >= 2 || chunks.n % DELTA_CHUNK_BYTES != 0 || n > LIMIT_BASIS_CHUNKS - x->count) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t len = load_u32(chunks.p + i * DELTA_CHUNK_BYTES + DIGEST_BYTES);
        if (len == 0 || len > CHUNK_MAX) {
            return GW_EPROTO;
        }
    }
    GW_TRY(grow(x, x->count + n));
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = chunks.p + i * DELTA_CHUNK_BYTES;
        struct delta_place *place = &x->places[x->count];
        *place =
            (struct delta_place){x->at[basis], load_u32(p + DIGEST_BYTES), (uint8_t)basis, {0}};
        memcpy(place->name, p, DELTA_NAME_BYTES);
        x->at[basis] += place->len;
        enter(x, x->count++);
    }
    return GW_OK;
}

static bool is_place(const struct delta_place *place, const uint8_t *hash, uint32_t len)
{
    return place->len == len && memcmp(place->name, hash, DELTA_NAME_BYTES) == 0;
}

const struct delta_place *delta_index_find(struct delta_index *x, const uint8_t hash[DIGEST_BYTES],
                                           uint32_t len)
{
    if (x->next < x->count && is_place(&x->places[x->next], hash, len)) {
        return &x->places[x->next++];
    }
    if (x->slots == 0) {
        return NULL;
    }
    size_t slot = slot_of(x, hash);
    for (int probes = 0; probes < PROBES && x->table[slot] != 0; probes++) {
        size_t place = x->table[slot] - 1;
        if (is_place(&x->places[place], hash, len)) {
            x->next = place + 1;
            return &x->places[place];
        }
        slot = (slot + 1) & (x->slots - 1);
    }
    return NULL;
}

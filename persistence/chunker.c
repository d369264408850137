#include "persistence/chunker.h"

/* Cut where these top bits of the hash are all zero: rarely before CHUNK_NORMAL, often after it,
 * so that most chunks are about that long. The top bits depend on all of the last 64 bytes. */
#define MASK_EARLY (~0ULL << (64 - 22))
#define MASK_LATE  (~0ULL << (64 - 18))
#define WINDOW     64

static const uint64_t gear[256] = {
/* clang-format off */
#include "persistence/gear.def"
    /* clang-format on */
};

void chunker_init(struct chunker *c)
{
    *c = (struct chunker){0};
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Hash bytes on which no cut can fall. */
static void warm(struct chunker *c, const uint8_t *p, size_t n)
{
    uint64_t hash = c->hash;
    for (size_t i = 0; i < n; i++) {
        hash = (hash << 1) + gear[p[i]];
    }
    c->hash = hash;
}

/* Hash bytes up to the first that ends the chunk. Returns how many. */
static size_t look(struct chunker *c, const uint8_t *p, size_t n, uint64_t mask, bool *ret_cut)
{
    uint64_t hash = c->hash;
    for (size_t i = 0; i < n; i++) {
        hash = (hash << 1) + gear[p[i]];
        if (!(hash & mask)) {
            *ret_cut = true;
            return i + 1;
        }
    }
    c->hash = hash;
    return n;
}

size_t chunker_feed(struct chunker *c, const uint8_t *p, size_t n, bool *ret_cut)
{
    bool cut = false;
    size_t used = 0;
    if (c->len < CHUNK_MIN - WINDOW) { /* too far from any cut to matter */
        used = least(n, CHUNK_MIN - WINDOW - c->len);
        c->len += (uint32_t)used;
    }
    if (used < n && c->len < CHUNK_MIN - 1) {
        size_t part = least(n - used, CHUNK_MIN - 1 - c->len);
        warm(c, p + used, part);
        used += part;
        c->len += (uint32_t)part;
    }
    if (used < n && c->len < CHUNK_NORMAL) {
        size_t part = look(c, p + used, least(n - used, CHUNK_NORMAL - c->len), MASK_EARLY, &cut);
        used += part;
        c->len += (uint32_t)part;
    }
    if (used < n && !cut) {
        size_t part = look(c, p + used, least(n - used, CHUNK_MAX - c->len), MASK_LATE, &cut);
        used += part;
        c->len += (uint32_t)part;
    }
    cut = cut || c->len == CHUNK_MAX;
    if (cut) {
        chunker_init(c);
    }
    *ret_cut = cut;
    return used;
}

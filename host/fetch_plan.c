#include "host/fetch_plan.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "protocol/base/log.h"
#include "protocol/base/table.h"

typedef enum want_state { WANT_OPEN, WANT_ASKED, WANT_HERE } want_state;

struct want {
    UT_hash_handle hh; /* by hash */
    TAILQ_ENTRY(want) link;
    struct chunk_ref chunk;
    want_state state;
    bool scarce;           /* in that list; else in the other */
    uint32_t asked, lacks; /* bits of sources */
    int64_t asked_ms;      /* of the first question that is open */
};
TAILQ_HEAD(want_list, want);

struct fetch_plan {
    struct want *wants, *by_hash;
    size_t count, left;
    uint64_t left_bytes;
    struct want_list plenty, scarce; /* OPEN: all have it as far as is known; some lack it */
    struct want_list asked;          /* ASKED, the oldest question first */
    unsigned sources;
    uint32_t active; /* bits */
};

static struct want_list *list_of(struct fetch_plan *p, const struct want *w)
{
    return w->state == WANT_ASKED ? &p->asked : w->scarce ? &p->scarce : &p->plenty;
}

static void set_state(struct fetch_plan *p, struct want *w, want_state state)
{
    bool again = w->state == WANT_ASKED && state == WANT_OPEN;
    if (w->state != WANT_HERE) {
        TAILQ_REMOVE(list_of(p, w), w, link);
    }
    w->state = state;
    w->scarce = (w->lacks & p->active) != 0;
    if (again) {
        TAILQ_INSERT_HEAD(list_of(p, w), w, link); /* it has waited already */
    } else if (state != WANT_HERE) {
        TAILQ_INSERT_TAIL(list_of(p, w), w, link);
    }
}

gw_err fetch_plan_new(const struct chunk_ref *chunks, const bool *wanted, size_t n,
                      struct fetch_plan **ret)
{
    struct fetch_plan *p = calloc(1, sizeof *p);
    struct want *wants = calloc(n + 1, sizeof *wants);
    if (!p || !wants) {
        free(p);
        free(wants);
        return GW_ENOMEM;
    }
    p->wants = wants;
    TAILQ_INIT(&p->plenty);
    TAILQ_INIT(&p->scarce);
    TAILQ_INIT(&p->asked);
    for (size_t i = 0; i < n; i++) {
        struct want *w = NULL;
        if (wanted && !wanted[i]) {
            continue;
        }
        HASH_FIND(hh, p->by_hash, &chunks[i].hash, sizeof chunks[i].hash, w);
        if (w) {
            continue;
        }
        w = &wants[p->count++];
        w->chunk = chunks[i];
        HASH_ADD(hh, p->by_hash, chunk.hash, sizeof w->chunk.hash, w);
        TAILQ_INSERT_TAIL(&p->plenty, w, link);
        p->left_bytes += w->chunk.len;
    }
    p->left = p->count;
    *ret = p;
    return GW_OK;
}

void fetch_plan_free(struct fetch_plan *p)
{
    if (p) {
        HASH_CLEAR(hh, p->by_hash);
        free(p->wants);
        free(p);
    }
}

size_t fetch_plan_left(const struct fetch_plan *p)
{
    return p->left;
}

uint64_t fetch_plan_left_bytes(const struct fetch_plan *p)
{
    return p->left_bytes;
}

size_t fetch_plan_list(const struct fetch_plan *p, unsigned source, size_t *at,
                       struct chunk_ref *ret, size_t room)
{
    size_t n = 0;
    for (; *at < p->count && n < room; ++*at) {
        const struct want *w = &p->wants[*at];
        if (w->state != WANT_HERE && !(w->lacks & 1u << source)) {
            ret[n++] = w->chunk;
        }
    }
    return n;
}

int fetch_plan_join(struct fetch_plan *p)
{
    if (p->sources == PLAN_SOURCES) {
        return -1;
    }
    p->active |= 1u << p->sources;
    return (int)p->sources++;
}

void fetch_plan_drop(struct fetch_plan *p, unsigned source)
{
    uint32_t bit = 1u << source;
    p->active &= ~bit;
    for (size_t i = 0; i < p->count; i++) {
        struct want *w = &p->wants[i];
        w->lacks &= ~bit;
        if (w->asked & bit) {
            w->asked &= ~bit;
            if (w->state == WANT_ASKED && !w->asked) {
                set_state(p, w, WANT_OPEN);
            }
        }
    }
}

/* ---- asking ---- */

static unsigned count_bits(uint32_t bits)
{
    return (unsigned)__builtin_popcount(bits);
}

static void ask(struct fetch_plan *p, struct want *w, uint32_t bit, int64_t now_ms)
{
    w->asked |= bit;
    w->asked_ms = now_ms;
    set_state(p, w, WANT_ASKED);
}

static size_t take_open(struct fetch_plan *p, struct want_list *list, uint32_t bit, int64_t now_ms,
                        size_t room, struct chunk_ref *ret)
{
    struct want *w, *next;
    size_t n = 0;
    for (w = TAILQ_FIRST(list); w && n < room; w = next) {
        next = TAILQ_NEXT(w, link);
        if (!(w->lacks & bit)) {
            ret[n++] = w->chunk;
            ask(p, w, bit, now_ms);
        }
    }
    return n;
}

/* What was asked of one other source only, too long ago. */
static size_t take_slow(struct fetch_plan *p, uint32_t bit, int64_t now_ms, size_t room,
                        struct chunk_ref *ret)
{
    size_t n = 0;
    struct want *w, *next, *last = TAILQ_LAST(&p->asked, want_list);
    for (w = TAILQ_FIRST(&p->asked); w && n < room; w = next) {
        next = w == last ? NULL : TAILQ_NEXT(w, link);
        if (now_ms - w->asked_ms < PLAN_SLOW_MS) {
            break;
        }
        if (!((w->lacks | w->asked) & bit) && count_bits(w->asked) == 1) {
            ret[n++] = w->chunk;
            ask(p, w, bit, now_ms);
        }
    }
    return n;
}

/* A fair part of what is left for all, so that nobody ends much later than the others. */
static size_t fair(const struct fetch_plan *p, size_t room)
{
    size_t all = count_bits(p->active), part = p->left / (2 * (all ? all : 1));
    part = part < 1 ? 1 : part;
    return room < part ? room : part;
}

static bool lacks_any(const struct fetch_plan *p, uint32_t bit)
{
    const struct want *w = TAILQ_FIRST(&p->scarce);
    return w && (w->lacks & bit);
}

size_t fetch_plan_take(struct fetch_plan *p, unsigned source, int64_t now_ms, size_t room,
                       struct chunk_ref *ret)
{
    uint32_t bit = 1u << source;
    if (!(p->active & bit) || room == 0) {
        return 0;
    }
    room = fair(p, room);
    bool scarce_last = lacks_any(p, bit);
    size_t n = take_open(p, scarce_last ? &p->plenty : &p->scarce, bit, now_ms, room, ret);
    n += take_open(p, scarce_last ? &p->scarce : &p->plenty, bit, now_ms, room - n, ret + n);
    return n > 0 ? n : take_slow(p, bit, now_ms, room, ret);
}

plan_for fetch_plan_for(const struct fetch_plan *p, unsigned source)
{
    uint32_t bit = 1u << source;
    const struct want *w;
    if (!(p->active & bit)) {
        return PLAN_NOTHING;
    }
    if (!TAILQ_EMPTY(&p->plenty)) {
        return PLAN_ASK;
    }
    TAILQ_FOREACH (w, &p->scarce, link) {
        if (!(w->lacks & bit)) {
            return PLAN_ASK;
        }
    }
    TAILQ_FOREACH (w, &p->asked, link) {
        if (!(w->lacks & bit)) {
            return PLAN_WAIT;
        }
    }
    return PLAN_NOTHING;
}

/* ---- answers ---- */

static struct want *find(struct fetch_plan *p, const struct chunk_hash *hash)
{
    struct want *w = NULL;
    HASH_FIND(hh, p->by_hash, hash, sizeof *hash, w);
    return w;
}

plan_came fetch_plan_came(struct fetch_plan *p, unsigned source, const struct chunk_hash *hash)
{
    uint32_t bit = 1u << source;
    struct want *w = find(p, hash);
    if (!w || !(w->asked & bit)) {
        return CAME_UNASKED;
    }
    w->asked &= ~bit;
    if (w->state == WANT_HERE) {
        return CAME_AGAIN;
    }
    set_state(p, w, WANT_HERE);
    p->left--;
    p->left_bytes -= w->chunk.len;
    return CAME_NEW;
}

gw_err fetch_plan_lacks(struct fetch_plan *p, unsigned source, const struct chunk_hash *hash,
                        bool asked)
{
    uint32_t bit = 1u << source;
    struct want *w = find(p, hash);
    if (!w || (asked && !(w->asked & bit))) {
        return GW_EPROTO;
    }
    w->asked &= ~bit;
    w->lacks |= bit;
    if (w->state == WANT_OPEN || (w->state == WANT_ASKED && !w->asked)) {
        set_state(p, w, WANT_OPEN);
    }
    return GW_OK;
}

bool fetch_plan_orphan(const struct fetch_plan *p, struct chunk_ref *ret)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct want *w = &p->wants[i];
        if (w->state != WANT_HERE && (p->active & ~w->lacks) == 0) {
            *ret = w->chunk;
            return true;
        }
    }
    return false;
}

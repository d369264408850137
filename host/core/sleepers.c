/* Agents that sleep and with which nothing goes on: an entry of 40 bytes instead of a struct agent.
 *
 * Entries lie in pages, dense, found through an index of their numbers (open addressing; the hash
 * is keyed, since peers choose ids). What an entry cannot say (alias, lineage, whatever a row gets
 * in time) is kept as the packed row itself, in `extras`: so each thing that stands in a row
 * survives here without this file knowing of it. agent_find makes an agent of an entry;
 * housekeeping makes an entry of an agent that has slept for a moment (RESTS_US) and that nothing
 * hangs on. In between pointers to it stay good; beyond a turn of the loop an agent is to be
 * remembered by its id.
 *
 * An agent is either here or in n->agents, never in both; counts and aliases are of both. */
#include "host/core/sleepers.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BITS  12
#define PAGE       (1u << PAGE_BITS)
#define INDEX_MIN  1024u
#define RESTS_US   1000000LL
#define REST_COUNT 20000 /* agents that are looked at each second: some 10 ms */
#define NO_ENTRY   UINT32_MAX

struct sleeper {
    gw_id id;
    uint64_t epoch : 54; /* LIMIT_EPOCH */
    uint64_t no_wake : 1;
    uint64_t wake_at_start : 1;
    uint64_t extra : 1; /* its row is in `extras` */
    int64_t created_ms;
    uint32_t type, home; /* places in the lists of sleepers */
};

struct extra {
    UT_hash_handle hh; /* by id */
    gw_id id;
    struct buf row;
};

struct sleepers {
    struct sleeper **pages;
    uint32_t count;
    size_t page_count;
    uint32_t *index; /* number of an entry, or NO_ENTRY */
    uint32_t index_size;
    uint64_t key[2]; /* of the hash */
    struct extra *extras;
    struct type **types; /* by type->sleepers - 1 */
    size_t type_count, type_cap;
    struct peer **homes; /* by peer->sleepers - 1 */
    size_t home_count, home_cap;
};

/* ---- the table ---- */

static struct sleeper *entry(const struct sleepers *s, uint32_t i)
{
    return &s->pages[i >> PAGE_BITS][i & (PAGE - 1)];
}

static uint32_t hash(const struct sleepers *s, const gw_id *id)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)(load_u64(id->b) ^ s->key[0]) * (load_u64(id->b + 8) ^ s->key[1]);
    return (uint32_t)((uint64_t)product ^ (uint64_t)(product >> 64));
}

/* The slot of the index where the id stands, or would stand. */
static uint32_t slot_of(const struct sleepers *s, const gw_id *id)
{
    uint32_t mask = s->index_size - 1, at = hash(s, id) & mask;
    while (s->index[at] != NO_ENTRY && !gw_id_equal(&entry(s, s->index[at])->id, id)) {
        at = (at + 1) & mask;
    }
    return at;
}

static struct sleeper *find(const struct sleepers *s, const gw_id *id)
{
    if (s->count == 0) {
        return NULL;
    }
    uint32_t i = s->index[slot_of(s, id)];
    return i == NO_ENTRY ? NULL : entry(s, i);
}

static void *grown(void *p, size_t bytes)
{
    p = realloc(p, bytes);
    if (!p) {
        log_die("memory", "out of memory for sleeping agents");
    }
    return p;
}

static void grow_index(struct sleepers *s)
{
    if (s->index && s->count < s->index_size / 4 * 3) {
        return;
    }
    s->index_size = s->index ? s->index_size * 2 : INDEX_MIN;
    free(s->index);
    s->index = grown(NULL, s->index_size * sizeof *s->index);
    memset(s->index, 0xff, s->index_size * sizeof *s->index);
    for (uint32_t i = 0; i < s->count; i++) {
        s->index[slot_of(s, &entry(s, i)->id)] = i;
    }
}

static void add(struct sleepers *s, const struct sleeper *e)
{
    gw_assert(s->count < NO_ENTRY - 1);
    grow_index(s);
    if (s->count >> PAGE_BITS == s->page_count) {
        s->pages = grown(s->pages, (s->page_count + 1) * sizeof *s->pages);
        s->pages[s->page_count++] = grown(NULL, PAGE * sizeof **s->pages);
    }
    s->index[slot_of(s, &e->id)] = s->count;
    *entry(s, s->count++) = *e;
}

/* Close the gap of a slot: what stands behind it and belongs before it moves up. */
static void free_slot(struct sleepers *s, uint32_t gap)
{
    uint32_t mask = s->index_size - 1;
    for (uint32_t at = (gap + 1) & mask; s->index[at] != NO_ENTRY; at = (at + 1) & mask) {
        uint32_t wants = hash(s, &entry(s, s->index[at])->id) & mask;
        if (((at - wants) & mask) >= ((at - gap) & mask)) {
            s->index[gap] = s->index[at];
            gap = at;
        }
    }
    s->index[gap] = NO_ENTRY;
}

static void take_out(struct sleepers *s, const gw_id *id)
{
    uint32_t slot = slot_of(s, id), i = s->index[slot], last = s->count - 1;
    gw_assert(i != NO_ENTRY);
    free_slot(s, slot);
    if (i != last) { /* the last one takes its place */
        s->index[slot_of(s, &entry(s, last)->id)] = i;
        *entry(s, i) = *entry(s, last);
    }
    s->count--;
    if (s->page_count > 1 && s->count < (s->page_count - 2) * PAGE) {
        free(s->pages[--s->page_count]);
    }
}

/* ---- types and homes as numbers ---- */

static uint32_t number_of(void ***list, size_t *count, size_t *cap, void *p, uint32_t *number)
{
    if (*number == 0) {
        if (*count == *cap) {
            *cap = *cap ? *cap * 2 : 8;
            *list = grown(*list, *cap * sizeof **list);
        }
        (*list)[(*count)++] = p;
        *number = (uint32_t)*count;
    }
    return *number - 1;
}

static uint32_t type_number(struct sleepers *s, struct type *t)
{
    return number_of((void ***)&s->types, &s->type_count, &s->type_cap, t, &t->sleepers);
}

static uint32_t home_number(struct sleepers *s, struct peer *p)
{
    return number_of((void ***)&s->homes, &s->home_count, &s->home_cap, p, &p->sleepers);
}

/* ---- rows ---- */

static struct extra *extra_find(const struct sleepers *s, const gw_id *id)
{
    struct extra *x;
    HASH_FIND(hh, s->extras, id, sizeof *id, x);
    return x;
}

static void extra_drop(struct sleepers *s, struct extra *x)
{
    HASH_DEL(s->extras, x);
    buf_free(&x->row);
    free(x);
}

/* What an entry takes from a row; the type's name and home are borrowed. */
struct plain {
    struct sleeper e;
    struct span type;
    struct host_id home;
    bool small; /* and there is nothing else in it */
    bool alias;
};

/* nil, false, 0, an empty list or map or text or bin, the nil id. */
static bool says_nothing(struct span raw)
{
    static const uint8_t nil_id[2 + GW_ID_BYTES] = {0xd8, MP_EXT_ID};
    static const uint8_t nothing[] = {0xc0, 0xc2, 0x00, 0x90, 0x80, 0xa0};
    return (raw.n == 1 && memchr(nothing, raw.p[0], sizeof nothing)) ||
           (raw.n == 2 && raw.p[0] == 0xc4) ||
           (raw.n == sizeof nil_id && memcmp(raw.p, nil_id, sizeof nil_id) == 0);
}

/* GW_EUNKNOWN: not of one that sleeps with nothing going on. The order is that of agent_row_pack.
 */
static gw_err read_plain(struct span row, struct plain *ret)
{
    struct plain p = {.small = true};
    struct mp m = mp_over(row);
    size_t n;
    uint64_t status, pending;
    struct span alias, intent, raw;
    gw_id of;
    bool no_wake, at_start = false;
    GW_TRY(mp_read_array(&m, &n));
    GW_TRY(n < AGENT_ROW_FIELDS ? GW_EPROTO : mp_read_uint(&m, &status));
    GW_TRY(mp_read_str(&m, &p.type));
    GW_TRY(mp_read_fixed(&m, p.home.b, HOST_ID_BYTES));
    GW_TRY(mp_skip(&m, &alias));
    GW_TRY(mp_read_id(&m, &of));
    GW_TRY(mp_read_int(&m, &p.e.created_ms));
    GW_TRY(mp_read_uint(&m, &pending));
    GW_TRY(mp_read_bool(&m, &no_wake));
    GW_TRY(mp_skip_n(&m, 4)); /* ticket, peer, nonce, then: of moves only */
    GW_TRY(mp_read_bin(&m, &intent));
    p.alias = !says_nothing(alias);
    p.small = !p.alias && gw_id_is_nil(&of);
    if (n > AGENT_ROW_FIELDS) {
        GW_TRY(mp_read_bool(&m, &at_start));
    }
    for (size_t i = AGENT_ROW_FIELDS + 1; i < n; i++) {
        GW_TRY(mp_skip(&m, &raw));
        p.small = p.small && says_nothing(raw);
    }
    p.e.no_wake = no_wake;
    p.e.wake_at_start = at_start;
    *ret = p;
    return status == AGENT_INACTIVE && pending == 0 && intent.n == 0 ? GW_OK : GW_EUNKNOWN;
}

static void put(struct node *n, struct plain *p, struct type *t, struct peer *home, struct span row)
{
    struct sleepers *s = n->sleepers;
    p->e.extra = !p->small;
    p->e.type = type_number(s, t);
    p->e.home = home_number(s, home);
    add(s, &p->e);
    if (!p->small) {
        struct extra *x = xcalloc(1, sizeof *x);
        x->id = p->e.id;
        buf_add(&x->row, row.p, row.n);
        if (!buf_ok(&x->row)) {
            log_die("memory", "out of memory for a sleeping agent");
        }
        HASH_ADD(hh, s->extras, id, sizeof x->id, x);
    }
}

bool sleepers_boot_row(struct node *n, const gw_id *id, uint64_t epoch, struct span row)
{
    struct sleepers *s = n->sleepers;
    struct plain p;
    char name[LIMIT_NAME_BYTES + 1];
    struct agent *there;
    struct agent_row whole;
    if (epoch > LIMIT_EPOCH || read_plain(row, &p) != GW_OK || p.alias || p.e.wake_at_start ||
        !span_text(p.type, name, sizeof name) || !name_is_valid(name)) {
        return false;
    }
    if (!p.small) { /* it will be read again */
        if (agent_row_unpack(row, &whole) != GW_OK) {
            return false;
        }
        agent_row_clear(&whole);
    }
    HASH_FIND(hh, n->agents, id, sizeof *id, there);
    if (there || find(s, id)) {
        return false; /* at another epoch: the caller sees to it */
    }
    struct type *t = type_intern(n, name);
    if (t->builtin) {
        return false; /* few, and never far from work */
    }
    p.e.id = *id;
    p.e.epoch = epoch;
    put(n, &p, t, peer_intern(n, &p.home), row);
    agent_count(n, t, AGENT_INACTIVE, true);
    return true;
}

/* ---- to and fro ---- */

static void row_of_entry(const struct sleepers *s, const struct sleeper *e, struct agent_row *ret)
{
    const struct extra *x = e->extra ? extra_find(s, &e->id) : NULL;
    if (x) {
        gw_err err = agent_row_unpack(buf_span(&x->row), ret);
        gw_assert(err == GW_OK); /* we have packed or read it ourselves */
        return;
    }
    *ret = (struct agent_row){.status = AGENT_INACTIVE,
                              .home = s->homes[e->home]->id,
                              .created_ms = e->created_ms,
                              .no_wake = e->no_wake,
                              .wake_at_start = e->wake_at_start};
    memcpy(ret->type, s->types[e->type]->name, sizeof ret->type);
}

struct agent *sleepers_raise(struct node *n, const gw_id *id)
{
    struct sleepers *s = n->sleepers;
    const struct sleeper *e = find(s, id);
    struct agent_row row;
    if (!e) {
        return NULL;
    }
    gw_id own = *id; /* may lie in what goes */
    uint64_t epoch = e->epoch;
    struct extra *x = e->extra ? extra_find(s, id) : NULL;
    row_of_entry(s, e, &row);
    take_out(s, &own);
    if (x) {
        extra_drop(s, x);
    }
    struct agent *a = agent_make(n, &own, epoch, &row);
    agent_row_clear(&row);
    return a;
}

static void lay_down(struct node *n, struct agent *a)
{
    struct buf row = {0};
    struct plain p;
    gw_id id = a->id;
    agent_pack(a, &row);
    gw_err err = read_plain(buf_span(&row), &p);
    gw_assert(err == GW_OK);
    p.e.id = id;
    p.e.epoch = a->epoch;
    struct type *t = a->type;
    struct peer *home = peer_intern(n, a->home);
    agent_unmake(n, a);
    put(n, &p, t, home, buf_span(&row));
    buf_free(&row);
}

/* ---- those that may lie down soon ---- */

void sleepers_await(struct node *n, struct agent *a)
{
    a->used_us = n->env->mono_us(n->env->ctx);
    TAILQ_INSERT_TAIL(&n->resting, a, idle);
}

void sleepers_awake(struct node *n, struct agent *a)
{
    TAILQ_REMOVE(&n->resting, a, idle);
}

void sleepers_housekeeping(struct node *n)
{
    int64_t now = n->env->mono_us(n->env->ctx);
    struct agent *a;
    if (!n->ready || n->loading || node_rests(n)) {
        return;
    }
    for (int i = 0; i < REST_COUNT && (a = TAILQ_FIRST(&n->resting)); i++) {
        if (a->used_us + RESTS_US > now) {
            return;
        }
        agent_rest(a);
        if (agent_is_bare(a)) {
            lay_down(n, a);
        } else {
            sleepers_awake(n, a);
            sleepers_await(n, a);
        }
    }
}

/* ---- looking without raising ---- */

static struct sleeper_view view_of(const struct sleepers *s, const struct sleeper *e)
{
    return (struct sleeper_view){
        .id = &e->id, .epoch = e->epoch, .type = s->types[e->type], .home = &s->homes[e->home]->id};
}

size_t sleepers_count(const struct node *n)
{
    return n->sleepers->count;
}

struct sleeper_view sleepers_at(const struct node *n, size_t i)
{
    return view_of(n->sleepers, entry(n->sleepers, (uint32_t)i));
}

bool sleepers_look(const struct node *n, const gw_id *id, struct sleeper_view *ret)
{
    const struct sleeper *e = find(n->sleepers, id);
    if (e && ret) {
        *ret = view_of(n->sleepers, e);
    }
    return e != NULL;
}

void sleepers_alias(const struct node *n, const gw_id *id, char ret[LIMIT_ALIAS_BYTES + 1])
{
    const struct sleepers *s = n->sleepers;
    const struct sleeper *e = find(s, id);
    struct agent_row row;
    ret[0] = '\0';
    if (e && e->extra) {
        row_of_entry(s, e, &row);
        memcpy(ret, row.alias, sizeof row.alias);
        agent_row_clear(&row);
    }
}

/* ---- life ---- */

void sleepers_init(struct node *n)
{
    n->sleepers = xcalloc(1, sizeof *n->sleepers);
    node_random(n, n->sleepers->key, sizeof n->sleepers->key);
    TAILQ_INIT(&n->resting);
}

void sleepers_free(struct node *n)
{
    struct sleepers *s = n->sleepers;
    struct extra *x, *next;
    HASH_ITER (hh, s->extras, x, next) {
        extra_drop(s, x);
    }
    for (size_t i = 0; i < s->page_count; i++) {
        free(s->pages[i]);
    }
    free(s->pages);
    free(s->index);
    free(s->types);
    free(s->homes);
    free(s);
    n->sleepers = NULL;
}

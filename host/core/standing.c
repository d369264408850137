/* Where the store of a host stands, and how an old copy of it is noticed.
 *
 * Each transaction has a number, written by the transaction itself; each start has a number and a
 * random instance. HELLO tells them, with the numbers with which the last starts began, so that
 * they are a line of points. Peers remember the last point that they heard of, and remind a host
 * of it whose line does not pass through it: its store was put back to an older copy, or a copy of
 * it has lived on its own. Only what is durable is told, so that no crash looks like that.
 *
 *   host: number durable --STANDING--> peer: p->heard --its next transaction--> row "host:ID"
 *
 * A peer writes what it heard with the transactions that it makes anyway, else within a second;
 * such a row counts for nothing itself, or two idle hosts would keep each other awake. A point
 * carries a seal that only the host itself can make and check, so that no peer can talk it out of
 * its store.
 *
 *   not held --VERDICT with a point of ours that is not on our line--> stale
 *   --start with --restored--> restored --the mesh was asked (restored.c)--> not held
 *
 * A held host lets nothing run, is up for nobody, and says so in HELLO; what stops it is durable.
 */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/core/handoff.h"

#define RESTORED_LEAP 65536 /* starts that the newer store may have seen since the copy */
#define MEMORY_PREFIX "host:"
#define MEMORY_KEY    (sizeof MEMORY_PREFIX - 1 + HOST_ID_BYTES)

/* ---- points ---- */

void standing_init(struct node *n)
{
    static const char purpose[] = "godwit standing 1";
    (void)crypto_generichash(n->standing.key, sizeof n->standing.key, (const uint8_t *)purpose,
                             sizeof purpose - 1, n->cfg.key.secret_key,
                             crypto_generichash_KEYBYTES);
}

static void seal_of(const struct node *n, const struct standing *s, uint8_t ret[SEAL_BYTES])
{
    uint8_t raw[8 + INSTANCE_BYTES + 8];
    store_u64(raw, s->boot);
    memcpy(raw + 8, s->instance, INSTANCE_BYTES);
    store_u64(raw + 8 + INSTANCE_BYTES, s->number);
    (void)crypto_generichash(ret, SEAL_BYTES, raw, sizeof raw, n->standing.key,
                             sizeof n->standing.key);
}

bool standing_is_ours(const struct node *n, const struct standing *s)
{
    uint8_t seal[SEAL_BYTES];
    seal_of(n, s, seal);
    return sodium_memcmp(seal, s->seal, SEAL_BYTES) == 0;
}

void standing_alive(const struct node *n, uint64_t boot, const uint8_t instance[INSTANCE_BYTES],
                    const uint8_t challenge[INSTANCE_BYTES], uint8_t ret[SEAL_BYTES])
{
    uint8_t raw[8 + 2 * INSTANCE_BYTES]; /* longer than that of a point: never the same seal */
    store_u64(raw, boot);
    memcpy(raw + 8, instance, INSTANCE_BYTES);
    memcpy(raw + 8 + INSTANCE_BYTES, challenge, INSTANCE_BYTES);
    (void)crypto_generichash(ret, SEAL_BYTES, raw, sizeof raw, n->standing.key,
                             sizeof n->standing.key);
}

static void present(const struct node *n, struct standing *ret)
{
    *ret = (struct standing){.boot = n->boot, .number = n->standing.durable};
    memcpy(ret->instance, n->standing.instance, INSTANCE_BYTES);
    seal_of(n, ret, ret->seal);
}

static void point_pack(const struct standing *s, struct buf *out)
{
    mp_array(out, 4);
    mp_uint(out, s->boot);
    mp_bin(out, s->instance, INSTANCE_BYTES);
    mp_uint(out, s->number);
    mp_bin(out, s->seal, SEAL_BYTES);
}

gw_err standing_read(struct mp *m, struct standing *ret)
{
    struct standing s;
    GW_TRY(mp_read_uint(m, &s.boot));
    GW_TRY(mp_read_fixed(m, s.instance, INSTANCE_BYTES));
    GW_TRY(mp_read_uint(m, &s.number));
    GW_TRY(mp_read_fixed(m, s.seal, SEAL_BYTES));
    *ret = s;
    return GW_OK;
}

static gw_err point_unpack(struct span raw, struct standing *ret)
{
    struct mp m = mp_over(raw);
    size_t fields;
    GW_TRY(mp_read_array(&m, &fields));
    return fields < 4 ? GW_EPROTO : standing_read(&m, ret);
}

/* What a host says of its store. */
struct line {
    struct boot_point boots[LIMIT_BOOTS_TOLD];
    size_t count; /* 0: nothing */
    uint64_t number;
    uint64_t restored;
};

static bool passes_through(const struct line *l, const struct standing *s)
{
    if (s->boot == 0 || s->boot < l->restored) {
        return true; /* nothing is remembered; or the operator has spoken since */
    }
    if (s->boot < l->boots[0].boot) {
        return s->number <= l->boots[0].first;
    }
    for (size_t i = 0; i < l->count; i++) {
        const struct boot_point *b = &l->boots[i];
        if (b->boot == s->boot) {
            uint64_t end = i + 1 < l->count ? b[1].first : l->number;
            return memcmp(b->instance, s->instance, INSTANCE_BYTES) == 0 && s->number <= end;
        }
    }
    return false;
}

bool standing_goes_through(const struct node *n, const struct standing *s)
{
    struct line own = {.count = n->standing.boot_count,
                       .number = n->standing.durable,
                       .restored = n->standing.restored};
    memcpy(own.boots, n->standing.boots, sizeof own.boots);
    return passes_through(&own, s);
}

/* ---- rows ---- */

static struct span text_key(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static void put_u64(struct store_batch *batch, const char *key, uint64_t value)
{
    uint8_t raw[8];
    store_u64(raw, value);
    store_batch_put(batch, TABLE_META, text_key(key), (struct span){raw, sizeof raw});
}

static void memory_row(struct node *n, struct span key, struct span value)
{
    struct host_id id;
    struct standing s;
    memcpy(id.b, key.p + key.n - HOST_ID_BYTES, HOST_ID_BYTES);
    if (point_unpack(value, &s) == GW_OK) {
        peer_intern(n, &id)->heard = s;
    } else {
        log_error("store.row", "table=meta what is known of a host does not decode; skipped");
    }
}

/* [[boot, instance, first]...]; the newest are kept. */
static void boots_row(struct node *n, struct span value)
{
    struct mp m = mp_over(value);
    size_t count, fields;
    if (mp_read_array(&m, &count) != GW_OK) {
        return;
    }
    n->standing.boot_count = 0;
    for (size_t i = 0; i < count && i < LIMIT_BOOTS_TOLD; i++) {
        struct boot_point b;
        if (mp_read_array(&m, &fields) != GW_OK || fields != 3 ||
            mp_read_uint(&m, &b.boot) != GW_OK ||
            mp_read_fixed(&m, b.instance, INSTANCE_BYTES) != GW_OK ||
            mp_read_uint(&m, &b.first) != GW_OK) {
            log_error("store.row", "table=meta the list of starts does not decode");
            return;
        }
        n->standing.boots[n->standing.boot_count++] = b;
    }
}

void standing_boot_row(struct node *n, struct span key, struct span value)
{
    if (key.n == MEMORY_KEY && memcmp(key.p, MEMORY_PREFIX, sizeof MEMORY_PREFIX - 1) == 0) {
        memory_row(n, key, value);
    } else if (span_is(key, "boots")) {
        boots_row(n, value);
    } else if (span_is(key, "stale")) {
        held_row(n, value);
    } else if (span_is(key, "machine") && value.n == INSTANCE_BYTES) {
        memcpy(n->standing.machine, value.p, INSTANCE_BYTES);
        n->standing.has_machine = true;
    } else if (value.n == 8 && span_is(key, "number")) {
        n->standing.number = n->standing.durable = load_u64(value.p);
    } else if (value.n == 8 && span_is(key, "restored")) {
        n->standing.restored = load_u64(value.p);
    } else if (span_is(key, "restoring") && n->held == HELD_NOT) {
        n->held = HELD_RESTORED;
    } else {
        restored_row(n, key);
    }
}

/* ---- a start ---- */

static void put_boots(const struct node *n, struct store_batch *batch)
{
    const struct boot_point *boots = n->standing.boots;
    struct buf value = {0};
    mp_array(&value, n->standing.boot_count);
    for (size_t i = 0; i < n->standing.boot_count; i++) {
        mp_array(&value, 3);
        mp_uint(&value, boots[i].boot);
        mp_bin(&value, boots[i].instance, INSTANCE_BYTES);
        mp_uint(&value, boots[i].first);
    }
    store_batch_put_take(batch, TABLE_META, text_key("boots"), &value);
    buf_free(&value);
    put_u64(batch, "boot", n->boot);
    put_u64(batch, "restored", n->standing.restored);
}

static void begin_boot(struct node *n)
{
    struct boot_point *boots = n->standing.boots;
    if (n->standing.boot_count == LIMIT_BOOTS_TOLD) {
        memmove(boots, boots + 1, sizeof *boots * --n->standing.boot_count);
    }
    struct boot_point *b = &boots[n->standing.boot_count++];
    *b = (struct boot_point){.boot = n->boot, .first = n->standing.number};
    memcpy(b->instance, n->standing.instance, INSTANCE_BYTES);
    /* A late answer to a request of an earlier boot fits none of ours. */
    n->next_stream = n->boot << 32 | 1;
}

static gw_err check_machine(struct node *n, struct store_batch *batch, struct gw_error *why)
{
    const uint8_t *here = n->cfg.machine;
    if (!here) {
        return GW_OK; /* not known */
    }
    bool same = n->standing.has_machine && memcmp(n->standing.machine, here, INSTANCE_BYTES) == 0;
    if (n->standing.has_machine && !same && !n->cfg.moved_machine) {
        gw_fail(why, GW_EOTHER_MACHINE,
                "the store of host \"%s\" was written on another machine (/etc/machine-id differs)",
                n->name);
        gw_hint(why, "a host runs in one place: if it does not run there any more, start it with "
                     "--moved-machine; for one more host take a new --name");
        return GW_EOTHER_MACHINE;
    }
    if (!same) {
        store_batch_put(batch, TABLE_META, text_key("machine"),
                        (struct span){here, INSTANCE_BYTES});
        if (n->standing.has_machine) {
            event_put(n, batch, &(struct event){.kind = "host.moved"});
        }
    }
    return GW_OK;
}

gw_err standing_boot(struct node *n, struct store_batch *batch, struct gw_error *why)
{
    GW_TRY(check_machine(n, batch, why));
    node_random(n, n->standing.instance, INSTANCE_BYTES);
    if (n->cfg.restored) {
        n->standing.restored = n->boot =
            (n->proof.boot > n->boot ? n->proof.boot : n->boot) + RESTORED_LEAP + 1;
        n->held = HELD_RESTORED;
        put_u64(batch, "restoring", 1);
        store_batch_del(batch, TABLE_META, text_key("stale"));
        event_put(n, batch, &(struct event){.kind = "host.restored"});
    } else {
        n->boot++;
    }
    begin_boot(n);
    put_boots(n, batch);
    return GW_OK;
}

static void risen(void *arg, gw_err err)
{
    struct node *n = arg;
    if (n->ended) {
        return;
    }
    if (err != GW_OK) {
        n->standing.unrisen = true; /* standing_housekeeping */
        return;
    }
    n->standing.rising = false;
    peers_settle(n); /* greets all again */
    restored_risen(n);
}

static void write_rise(struct node *n)
{
    struct store_batch *batch = store_batch_new();
    put_boots(n, batch);
    node_commit(n, batch, POINT_RISEN, risen, n);
}

/* Nobody is told before it is durable, or a crash would look like an old copy. */
void standing_rise(struct node *n, uint64_t above)
{
    if (!n->standing.rising) { /* else who remembers even more says so when it is greeted again */
        n->standing.rising = true;
        n->boot = (above > n->boot ? above : n->boot) + 1; /* no start has the number of another */
        n->standing.restored = n->boot;
        begin_boot(n);
        write_rise(n);
    }
}

/* ---- numbers ---- */

static void is_unwritten(struct node *n, struct peer *p)
{
    if (!p->heard_dirty) {
        p->heard_dirty = true;
        LIST_INSERT_HEAD(&n->standing.unwritten, p, unwritten);
    }
}

static void put_memory(struct node *n, struct store_batch *batch)
{
    struct peer *p;
    while ((p = LIST_FIRST(&n->standing.unwritten))) {
        uint8_t key[MEMORY_KEY];
        struct buf value = {0};
        LIST_REMOVE(p, unwritten);
        p->heard_dirty = false;
        memcpy(key, MEMORY_PREFIX, sizeof MEMORY_PREFIX - 1);
        memcpy(key + sizeof MEMORY_PREFIX - 1, p->id.b, HOST_ID_BYTES);
        point_pack(&p->heard, &value);
        store_batch_put_take(batch, TABLE_META, (struct span){key, sizeof key}, &value);
        buf_free(&value);
    }
}

uint64_t standing_number(struct node *n, struct store_batch *batch)
{
    put_u64(batch, "number", ++n->standing.number);
    put_memory(n, batch);
    return n->standing.number;
}

static void turn_end(void *arg)
{
    struct node *n = arg;
    struct peer *p;
    n->standing.due = false;
    LIST_FOREACH (p, &n->standing.talkers, talker) {
        if (!n->ended) {
            standing_tell(n, p);
        }
    }
}

void standing_durable(struct node *n, uint64_t number)
{
    n->standing.durable = number; /* completions come in the order of submission */
    if (!LIST_EMPTY(&n->standing.talkers) && !n->standing.due && n->ready && !n->ended) {
        n->standing.due = true;
        n->env->defer(n->env->ctx, turn_end, n);
    }
}

/* What it said of peers may be among what was lost with it. */
void standing_undone(struct node *n)
{
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (p->heard.boot > 0) {
            is_unwritten(n, p);
        }
    }
}

void standing_tell(struct node *n, struct peer *p)
{
    struct standing s;
    struct buf frame = {0};
    if (!p->hello || p->self || p->told >= n->standing.durable || n->standing.rising) {
        return;
    }
    present(n, &s);
    size_t at = frame_begin(&frame, FRAME_STANDING, 0, 2);
    mp_uint(&frame, s.number);
    mp_bin(&frame, s.seal, SEAL_BYTES);
    frame_end(&frame, at);
    p->told = s.number;
    peer_send_frame(n, p, &frame);
}

void standing_talk(struct node *n, struct peer *p)
{
    if (!p->talked) {
        p->talked = true;
        LIST_INSERT_HEAD(&n->standing.talkers, p, talker);
    }
    if (p->told < n->standing.durable && !n->standing.due && n->ready) {
        n->standing.due = true;
        n->env->defer(n->env->ctx, turn_end, n);
    }
}

void standing_housekeeping(struct node *n)
{
    struct peer *p;
    if (!n->ready || n->stopping) {
        return;
    }
    for (p = n->peers; p; p = p->hh.next) {
        standing_tell(n, p);
    }
    while ((p = LIST_FIRST(&n->standing.talkers))) {
        LIST_REMOVE(p, talker);
        p->talked = false;
    }
    restored_housekeeping(n);
    if (n->standing.unrisen) {
        n->standing.unrisen = false;
        write_rise(n);
    }
    if (!LIST_EMPTY(&n->standing.unwritten)) {
        struct store_batch *batch = store_batch_new();
        put_memory(n, batch);
        node_commit_uncounted(n, batch, POINT_STANDING);
    }
}

/* ---- HELLO ---- */

static const char *const held_names[] = {
    [HELD_NOT] = "", [HELD_STALE] = "stale", [HELD_RESTORED] = "restored"};

static gw_err add_bytes(gw_value *list, const void *p, size_t len)
{
    gw_value v = gw_nil();
    GW_TRY(gw_value_set_bytes(&v, p, len));
    return gw_list_add(list, v);
}

static gw_err boots_value(const struct node *n, gw_value *ret)
{
    *ret = (gw_value){.kind = GW_LIST};
    for (size_t i = 0; i < n->standing.boot_count; i++) {
        const struct boot_point *b = &n->standing.boots[i];
        gw_value one = {.kind = GW_LIST};
        GW_TRY(gw_list_add(&one, gw_int((int64_t)b->boot)));
        GW_TRY(add_bytes(&one, b->instance, INSTANCE_BYTES));
        GW_TRY(gw_list_add(&one, gw_int((int64_t)b->first)));
        GW_TRY(gw_list_add(ret, one));
    }
    return GW_OK;
}

gw_err standing_to_hello(struct node *n, gw_value *about)
{
    struct standing s;
    gw_value instance = gw_nil(), seal = gw_nil(), boots = gw_nil();
    present(n, &s);
    GW_TRY(gw_map_set(about, "boot", gw_int((int64_t)s.boot)));
    GW_TRY(gw_value_set_bytes(&instance, s.instance, INSTANCE_BYTES));
    GW_TRY(gw_map_set(about, "instance", instance));
    GW_TRY(gw_map_set(about, "number", gw_int((int64_t)s.number)));
    GW_TRY(gw_value_set_bytes(&seal, s.seal, SEAL_BYTES));
    GW_TRY(gw_map_set(about, "seal", seal));
    GW_TRY(boots_value(n, &boots));
    GW_TRY(gw_map_set(about, "boots", boots));
    GW_TRY(gw_map_set(about, "restored", gw_int((int64_t)n->standing.restored)));
    return gw_map_set(about, "held", gw_str(held_names[n->held]));
}

static bool take_bytes(const gw_value *v, uint8_t *ret, size_t len)
{
    bool fits = v && v->kind == GW_BYTES && v->s.n == len;
    if (fits) {
        memcpy(ret, v->s.p, len);
    }
    return fits;
}

static uint64_t take_number(const gw_value *v)
{
    return v && v->kind == GW_INT && v->i > 0 ? (uint64_t)v->i : 0;
}

/* False: it says nothing of its store, as older builds do. */
static bool read_line(const gw_value *about, struct line *line, struct standing *now)
{
    const gw_value *boots = gw_map_get(about, "boots");
    if (!boots || boots->kind != GW_LIST || boots->list.n == 0 ||
        boots->list.n > LIMIT_BOOTS_TOLD) {
        return false;
    }
    uint64_t last = 0;
    for (size_t i = 0; i < boots->list.n; i++) {
        const gw_value *one = &boots->list.items[i];
        struct boot_point *b = &line->boots[line->count];
        if (one->kind != GW_LIST || one->list.n < 3 ||
            !take_bytes(&one->list.items[1], b->instance, INSTANCE_BYTES)) {
            return false;
        }
        last = b->boot = take_number(&one->list.items[0]);
        b->first = take_number(&one->list.items[2]);
        line->count++;
    }
    line->restored = take_number(gw_map_get(about, "restored"));
    line->number = now->number = take_number(gw_map_get(about, "number"));
    now->boot = take_number(gw_map_get(about, "boot"));
    return now->boot == last &&
           take_bytes(gw_map_get(about, "instance"), now->instance, INSTANCE_BYTES) &&
           take_bytes(gw_map_get(about, "seal"), now->seal, SEAL_BYTES);
}

static void remember(struct node *n, struct peer *p, const struct standing *s)
{
    if (memcmp(&p->heard, s, sizeof *s) != 0) {
        p->heard = *s;
        is_unwritten(n, p);
    }
}

void standing_verdict(struct buf *frame, gw_err code, const struct standing *s)
{
    size_t at = frame_begin(frame, FRAME_VERDICT, 0, 5);
    mp_uint(frame, code);
    mp_uint(frame, s->boot);
    mp_bin(frame, s->instance, INSTANCE_BYTES);
    mp_uint(frame, s->number);
    mp_bin(frame, s->seal, SEAL_BYTES);
    frame_end(frame, at);
}

static void send_verdict(struct node *n, struct peer *p)
{
    struct buf frame = {0};
    standing_verdict(&frame, GW_ESTORE_STALE, &p->heard);
    peer_send_frame(n, p, &frame);
}

void standing_hello(struct node *n, struct peer *p, const gw_value *about)
{
    struct line line = {0};
    struct standing now = {0};
    const char *word = gw_map_str(about, "held", "");
    held_state before = p->held;
    p->held = strcmp(word, held_names[HELD_STALE]) == 0      ? HELD_STALE
              : strcmp(word, held_names[HELD_RESTORED]) == 0 ? HELD_RESTORED
                                                             : HELD_NOT;
    if (!read_line(about, &line, &now)) {
        return;
    }
    if (passes_through(&line, &p->heard)) {
        if (p->held != HELD_STALE) {
            remember(n, p, &now);
        }
    } else {
        p->held = HELD_STALE;
        send_verdict(n, p);
    }
    if (p->held == HELD_STALE && before != HELD_STALE) {
        log_warn("peer.stale",
                 "host=%s its store is an older copy: nothing is exchanged with it until it is "
                 "started with --restored",
                 peer_label(p));
        event_now(n, &(struct event){.kind = "host.stale", .peer = p});
    }
}

/* ---- frames ---- */

void standing_frame(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp m = f->rest;
    struct standing s = p->heard;
    uint32_t code;
    if (f->kind == FRAME_VERDICT) {
        if (mp_read_u32(&m, &code) == GW_OK && standing_read(&m, &s) == GW_OK) {
            held_verdict(n, p, code, &s);
        }
    } else if (mp_read_uint(&m, &s.number) == GW_OK &&
               mp_read_fixed(&m, s.seal, SEAL_BYTES) == GW_OK && p->hello && s.boot > 0 &&
               p->held != HELD_STALE && s.number > p->heard.number) {
        remember(n, p, &s);
    }
}

/* Dead letters: one-way messages that ended their runner each time they ran.
 *
 * The letter is written by the transaction that gives the message up, so that it is in the inbox or
 * here, never in both or neither. The newest LIMIT_DEAD_KEPT stay, and no more than
 * LIMIT_DEAD_BYTES; the oldest gives way with an event. A letter stays on the host where the
 * message died; a replay sends it to its agent wherever that lives now, under a request key of the
 * letter's own: repeated, also after a crash between the message's acceptance and the letter's end,
 * it is applied once.
 *
 * n->dead is an index of what is on disk (numbers and sizes), read at boot and again after a
 * roll-back. */
#include "host/core/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_AT_ONCE 32 /* rows may be large */

struct letter { /* spans of the row */
    gw_id agent, sender;
    uint64_t epoch;
    char type[LIMIT_NAME_BYTES + 1], method[LIMIT_NAME_BYTES + 1];
    struct span args;
    uint32_t flags;
    int64_t at_ms;
    char text[LIMIT_ERROR_TEXT_BYTES];
};

static gw_err letter_read(struct span value, struct letter *ret)
{
    struct mp m = mp_over(value);
    size_t fields;
    GW_TRY(mp_read_array(&m, &fields));
    GW_TRY(fields >= 9 ? GW_OK : GW_EPROTO);
    GW_TRY(mp_read_id(&m, &ret->agent));
    GW_TRY(mp_read_uint(&m, &ret->epoch));
    GW_TRY(mp_read_text(&m, ret->type, sizeof ret->type));
    GW_TRY(mp_read_id(&m, &ret->sender));
    GW_TRY(mp_read_text(&m, ret->method, sizeof ret->method));
    GW_TRY(mp_read_bin(&m, &ret->args));
    GW_TRY(mp_read_u32(&m, &ret->flags));
    GW_TRY(mp_read_int(&m, &ret->at_ms));
    return mp_read_text_or_nil(&m, ret->text, sizeof ret->text);
}

static struct span letter_key(uint8_t raw[8], uint64_t number)
{
    store_u64(raw, number);
    return (struct span){raw, 8};
}

/* ---- the index ---- */

static void index_remove(struct node *n, uint64_t number)
{
    for (size_t i = 0; i < n->dead_count; i++) {
        if (n->dead[i].number == number) {
            n->dead_bytes -= n->dead[i].bytes;
            n->dead_count--;
            memmove(&n->dead[i], &n->dead[i + 1], (n->dead_count - i) * sizeof *n->dead);
            return;
        }
    }
}

static void index_add(struct node *n, uint64_t number, size_t bytes)
{
    index_remove(n, number);
    if (n->dead_count == n->dead_cap) {
        size_t cap = n->dead_cap ? n->dead_cap * 2 : 16;
        struct dead_letter *grown = realloc(n->dead, cap * sizeof *grown);
        if (!grown) {
            log_die("memory", "out of memory for the index of dead letters");
        }
        n->dead = grown;
        n->dead_cap = cap;
    }
    size_t at = n->dead_count++;
    for (; at > 0 && n->dead[at - 1].number > number; at--) {
        n->dead[at] = n->dead[at - 1];
    }
    n->dead[at] = (struct dead_letter){number, bytes};
    n->dead_bytes += bytes;
}

static void read_index(struct node *n, uint64_t from);

static void have_index(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct node *n = arg;
    uint64_t last = 0;
    if (err != GW_OK) {
        log_warn("dead.index", "error=%s the dead letters on disk are not counted",
                 gw_err_name(err));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (rows[i].key.n == 8) {
            last = load_u64(rows[i].key.p);
            index_add(n, last, rows[i].value.n);
        }
    }
    if (count == READ_AT_ONCE && last < UINT64_MAX) {
        read_index(n, last + 1);
    }
}

static void read_index(struct node *n, uint64_t from)
{
    uint8_t raw[8];
    const struct store_range range = {
        .table = TABLE_DEAD, .from = letter_key(raw, from), .limit = READ_AT_ONCE};
    n->env->read(n->env->ctx, &range, 1, have_index, n);
}

void dead_load(struct node *n)
{
    n->dead_count = n->dead_bytes = 0;
    read_index(n, 0);
}

void dead_boot_row(struct node *n, struct span key)
{
    if (key.n == 8 && load_u64(key.p) > n->dead_seq) {
        n->dead_seq = load_u64(key.p);
    }
}

/* ---- writing ---- */

static void make_room(struct node *n, struct store_batch *batch)
{
    uint8_t raw[8];
    while (n->dead_count > LIMIT_DEAD_KEPT ||
           (n->dead_bytes > LIMIT_DEAD_BYTES && n->dead_count > 1)) {
        char text[64];
        uint64_t oldest = n->dead[0].number;
        index_remove(n, oldest);
        store_batch_del(batch, TABLE_DEAD, letter_key(raw, oldest));
        (void)snprintf(text, sizeof text, "dead letter %llu gave way to a newer one",
                       (unsigned long long)oldest);
        event_put(n, batch, &(struct event){.kind = "dead.dropped", .text = text});
    }
}

void dead_put(struct work *w, struct store_batch *batch)
{
    struct node *n = w->node;
    uint8_t raw[8];
    struct buf value = {0};
    mp_array(&value, 9);
    mp_id(&value, &w->agent->id);
    mp_uint(&value, w->agent->epoch);
    mp_str(&value, w->agent->type->name);
    mp_id(&value, &w->sender);
    mp_str(&value, w->method);
    mp_span(&value, buf_span(&w->args));
    mp_uint(&value, w->flags);
    mp_int(&value, node_now_ms(n));
    mp_str(&value, w->result.why.text);
    w->dead = true;
    index_add(n, ++n->dead_seq, value.len);
    store_batch_put_take(batch, TABLE_DEAD, letter_key(raw, n->dead_seq), &value);
    buf_free(&value);
    make_room(n, batch);
}

/* ---- operations ---- */

struct dead_call {
    LIST_ENTRY(dead_call) link;
    struct node *n;
    struct op_call *outer;
    uint64_t letter;
    gw_id agent;
    size_t limit;
    bool replay;
    struct op_call send; /* of a replay */
};

static struct dead_call *call_new(struct node *n, struct op_call *outer)
{
    struct dead_call *c = xcalloc(1, sizeof *c);
    c->n = n;
    c->outer = outer;
    c->letter = (uint64_t)gw_map_int(&outer->args, "letter", 0);
    LIST_INSERT_HEAD(&n->dead_calls, c, link);
    return c;
}

static struct op_call *call_end(struct dead_call *c)
{
    struct op_call *outer = c->outer;
    LIST_REMOVE(c, link);
    gw_value_free(&c->send.args);
    gw_value_free(&c->send.context);
    free(c);
    return outer;
}

static void call_fail(struct dead_call *c, const struct gw_error *why)
{
    struct gw_error own = *why; /* may lie in what is freed */
    op_fail(call_end(c), &own);
}

void dead_free(struct node *n)
{
    while (!LIST_EMPTY(&n->dead_calls)) {
        (void)call_end(LIST_FIRST(&n->dead_calls)); /* the outer calls belong to their doors */
    }
    free(n->dead);
}

static gw_err letter_value(const struct storage_row *row, bool whole, gw_value *ret)
{
    char id[GW_ID_TEXT];
    struct letter l = {0};
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(ret, "letter", gw_int((int64_t)load_u64(row->key.p))));
    if (letter_read(row->value, &l) != GW_OK) {
        return gw_map_set(ret, "error", gw_str("its row does not decode"));
    }
    GW_TRY(gw_map_set(ret, "time", gw_time_value((gw_time){l.at_ms})));
    GW_TRY(gw_map_set(ret, "agent", gw_str(gw_id_text(&l.agent, id))));
    GW_TRY(gw_map_set(ret, "type", gw_str(l.type)));
    GW_TRY(gw_map_set(ret, "method", gw_str(l.method)));
    GW_TRY(gw_map_set(ret, "bytes", gw_int((int64_t)l.args.n)));
    GW_TRY(gw_map_set(ret, "error", gw_str(l.text)));
    if (!whole) {
        return GW_OK;
    }
    gw_value sender = gw_id_is_nil(&l.sender) ? gw_nil() : gw_str(gw_id_text(&l.sender, id));
    GW_TRY(gw_map_set(ret, "sender", sender));
    GW_TRY(gw_map_set(ret, "epoch", gw_int((int64_t)l.epoch)));
    if (l.args.n > 0 && value_unpack_span(l.args, &args) != GW_OK) {
        args = gw_str("(do not decode)");
    }
    return gw_map_set(ret, "args", args);
}

static void not_there(struct dead_call *c, gw_err err)
{
    struct gw_error why;
    if (err != GW_OK) {
        gw_fail(&why, err, "the dead letters cannot be read: %s", gw_err_text(err));
    } else {
        gw_fail(&why, GW_ENOT_FOUND, "host \"%s\" has no dead letter %lld", c->n->name,
                (long long)c->letter);
        gw_hint(&why,
                "`godwit dead list` lists what it has; a letter stays where the message died");
    }
    call_fail(c, &why);
}

static void have_letters(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct dead_call *c = arg;
    gw_value result = gw_nil(), list = {.kind = GW_LIST}, next = gw_nil();
    bool one = c->letter != 0;
    if (err != GW_OK || (one && count == 0)) {
        not_there(c, err);
        return;
    }
    for (size_t i = 0; err == GW_OK && i < count && i < c->limit; i++) {
        gw_value letter = gw_nil();
        err = letter_value(&rows[i], one, &letter);
        if (err == GW_OK) {
            err = gw_list_add(&list, letter);
        } else {
            gw_value_free(&letter);
        }
    }
    if (count > c->limit) {
        next = gw_int((int64_t)load_u64(rows[c->limit - 1].key.p));
    }
    if (err == GW_OK) {
        err = gw_map_set(&result, "letters", list);
    } else {
        gw_value_free(&list);
    }
    if (err == GW_OK) {
        err = gw_map_set(&result, "next", next);
    }
    if (err != GW_OK) {
        struct gw_error why;
        gw_value_free(&result);
        gw_fail(&why, err, "the answer could not be put together: %s", gw_err_text(err));
        call_fail(c, &why);
        return;
    }
    op_ok(call_end(c), &result);
}

static void read_letter(struct dead_call *c, storage_read_done done)
{
    uint8_t raw[8];
    const struct store_range range = {
        .table = TABLE_DEAD, .prefix = letter_key(raw, c->letter), .limit = 1};
    c->n->env->read(c->n->env->ctx, &range, 1, done, c);
}

void op_dead(struct node *n, struct op_call *call)
{
    struct dead_call *c = call_new(n, call);
    uint8_t raw[8];
    c->limit = (size_t)gw_map_int(&call->args, "limit", 100);
    if (c->letter != 0) {
        read_letter(c, have_letters);
        return;
    }
    uint64_t after = (uint64_t)gw_map_int(&call->args, "after", 0);
    const struct store_range range = {
        .table = TABLE_DEAD, .from = letter_key(raw, after + 1), .limit = c->limit + 1};
    n->env->read(n->env->ctx, &range, 1, have_letters, c);
}

/* ---- replay and drop ---- */

static void removed(void *arg, gw_err err)
{
    struct dead_call *c = arg;
    char id[GW_ID_TEXT];
    gw_value result = gw_nil();
    struct gw_error why;
    if (err != GW_OK) {
        gw_fail(&why, err, "the letter could not be removed: %s", gw_err_text(err));
        call_fail(c, &why);
        return;
    }
    index_remove(c->n, c->letter);
    if (gw_map_set(&result, "letter", gw_int((int64_t)c->letter)) != GW_OK ||
        gw_map_set(&result, "agent", gw_str(gw_id_text(&c->agent, id))) != GW_OK ||
        gw_map_set(&result, c->replay ? "replayed" : "dropped", gw_bool(true)) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call_end(c), &result);
}

static void remove_letter(struct dead_call *c)
{
    uint8_t raw[8];
    char text[64];
    struct store_batch *batch = store_batch_new();
    store_batch_del(batch, TABLE_DEAD, letter_key(raw, c->letter));
    (void)snprintf(text, sizeof text, "dead letter %llu", (unsigned long long)c->letter);
    event_put(c->n, batch,
              &(struct event){.kind = c->replay ? "dead.replayed" : "dead.dropped",
                              .agent = gw_id_is_nil(&c->agent) ? NULL : &c->agent,
                              .text = text});
    node_commit(c->n, batch, POINT_DEAD_REMOVED, removed, c);
}

static void sent(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why)
{
    struct dead_call *c = call->door;
    struct gw_error general;
    if (result) {
        gw_value_free(result);
    }
    if (err == GW_OK) {
        remove_letter(c);
        return;
    }
    if (!why) {
        gw_fail(&general, err, "%s", gw_err_text(err));
        why = &general;
    }
    call_fail(c, why);
}

static gw_err send_args(struct dead_call *c, const struct letter *l)
{
    char id[GW_ID_TEXT], host[HOST_ID_TEXT], key[LIMIT_REQUEST_KEY_BYTES];
    gw_value *args = &c->send.args, value = gw_nil();
    /* A number may come again when all letters are gone and the host starts anew; its time does
     * not. */
    (void)snprintf(key, sizeof key, "dead.%s.%llu.%lld", host_id_text(&c->n->self->id, host),
                   (unsigned long long)c->letter, (long long)l->at_ms);
    GW_TRY(gw_map_set(args, "agent", gw_str(gw_id_text(&l->agent, id))));
    GW_TRY(gw_map_set(args, "method", gw_str(l->method)));
    GW_TRY(gw_map_set(args, "tell", gw_bool(true)));
    GW_TRY(gw_map_set(args, "key", gw_str(key)));
    GW_TRY(gw_map_set(args, "text", gw_bool(l->flags & RUN_TEXT_ARGS)));
    if (l->args.n > 0) {
        GW_TRY(value_unpack_span(l->args, &value));
        GW_TRY(gw_map_set(args, "args", value));
    }
    if (!gw_id_is_nil(&l->sender)) {
        GW_TRY(gw_map_set(&c->send.context, "agent", gw_id_value(&l->sender)));
    }
    return GW_OK;
}

static void have_letter(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct dead_call *c = arg;
    struct letter l = {0};
    struct gw_error why;
    if (err != GW_OK || count == 0) {
        not_there(c, err);
        return;
    }
    err = letter_read(rows[0].value, &l);
    c->agent = l.agent;
    if (!c->replay) {
        remove_letter(c);
        return;
    }
    c->send =
        (struct op_call){.op = op_find("send"), .role = ROLE_ADMIN, .answer = sent, .door = c};
    err = err == GW_OK ? send_args(c, &l) : err;
    if (err != GW_OK) {
        gw_fail(&why, err, "dead letter %lld does not decode", (long long)c->letter);
        call_fail(c, &why);
        return;
    }
    node_call(c->n, &c->send);
}

static void take_letter(struct node *n, struct op_call *call, bool replay)
{
    struct dead_call *c = call_new(n, call);
    c->replay = replay;
    read_letter(c, have_letter);
}

void op_dead_replay(struct node *n, struct op_call *call)
{
    take_letter(n, call, true);
}

void op_dead_drop(struct node *n, struct op_call *call)
{
    take_letter(n, call, false);
}

/* The event log and the log lines of agents.
 *
 * An event is a row written in the transaction of what it tells, so that both are durable or
 * neither; the newest LIMIT_EVENTS_KEPT stay. Followers get events once they are durable. Lines
 * that agents log (gw_log) go to the host's log and to a ring of the last LOG_LINES in memory. */
#include "host/core/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_LINES    1000
#define LINE_BYTES   4096
#define PRUNE_EVERY  1024
#define READ_AT_ONCE 1000

struct follower {
    struct follower *next, **prev;
    struct node *n;
    struct op_call *call;
    bool logs; /* lines of agents rather than events */
    gw_id agent;
    bool one_agent;
    char kind[32]; /* a kind, or its first word; "" = all */
    uint64_t next_seq;
    uint64_t left; /* how many may still be given */
    bool follow;
    bool busy;         /* a read is under way, or items are being given: not to be freed */
    uint64_t asked_at; /* newest number when the read under way began */
    bool gone;
};

/* ---- rows ---- */

static void pack_event(struct node *n, uint64_t seq, const struct event *e, struct buf *out)
{
    char id[GW_ID_TEXT], trace_id[TRACE_TEXT];
    const struct trace *trace = e->trace ? e->trace : &n->trace;
    size_t fields = 3 + (e->agent != NULL) + (e->type != NULL) + (e->ticket != NULL) +
                    (e->peer != NULL) + (e->text != NULL) + !trace_is_none(trace);
    mp_map(out, fields);
    mp_str(out, "seq");
    mp_uint(out, seq);
    mp_str(out, "time_ms");
    mp_int(out, node_now_ms(n));
    mp_str(out, "kind");
    mp_str(out, e->kind);
    const struct {
        const char *key, *text;
    } texts[] = {
        {"type", e->type}, {"peer", e->peer ? peer_label(e->peer) : NULL}, {"text", e->text}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].text) {
            mp_str(out, texts[i].key);
            mp_str(out, texts[i].text);
        }
    }
    if (e->agent) {
        mp_str(out, "agent");
        mp_str(out, gw_id_text(e->agent, id));
    }
    if (e->ticket) {
        mp_str(out, "ticket");
        mp_str(out, gw_id_text(e->ticket, id));
    }
    if (!trace_is_none(trace)) {
        mp_str(out, "trace");
        mp_strn(out, trace_text(trace, trace_id) + 3, (size_t)2 * TRACE_ID_BYTES);
    }
}

static void read_more(struct follower *f);

static void wake_followers(struct node *n)
{
    for (struct follower *f = n->followers, *next; f; f = next) {
        next = f->next;
        if (!f->logs) {
            read_more(f);
        }
    }
}

static void events_durable(void *arg)
{
    wake_followers(arg);
}

void event_put(struct node *n, struct store_batch *batch, const struct event *e)
{
    uint8_t raw[8];
    struct buf value = {0};
    uint64_t seq = ++n->event_seq;
    n->metrics.events++;
    store_u64(raw, seq);
    pack_event(n, seq, e, &value);
    store_batch_put_take(batch, TABLE_EVENTS, (struct span){raw, sizeof raw}, &value);
    buf_free(&value);
    if (seq % PRUNE_EVERY == 0 && seq > n->cfg.limits.events) {
        store_u64(raw, seq - n->cfg.limits.events);
        store_batch_del_below(batch, TABLE_EVENTS, (struct span){raw, sizeof raw});
    }
    if (n->followers) {
        n->env->defer(n->env->ctx, events_durable, n); /* a read behind this batch sees it */
    }
}

void event_now(struct node *n, const struct event *e)
{
    struct store_batch *batch = store_batch_new();
    event_put(n, batch, e);
    node_commit(n, batch, POINT_EVENT, NULL, NULL);
}

void events_boot_row(struct node *n, struct span key)
{
    if (key.n == 8 && load_u64(key.p) > n->event_seq) {
        n->event_seq = load_u64(key.p);
    }
}

/* ---- followers: streams to callers ---- */

static struct follower *follower_new(struct node *n, struct op_call *call)
{
    struct follower *f = xcalloc(1, sizeof *f);
    f->n = n;
    f->call = call;
    f->next = n->followers;
    f->prev = &n->followers;
    if (f->next) {
        f->next->prev = &f->next;
    }
    n->followers = f;
    return f;
}

static void follower_free(struct follower *f)
{
    *f->prev = f->next;
    if (f->next) {
        f->next->prev = f->prev;
    }
    free(f);
}

static void follower_end(struct follower *f)
{
    struct op_call *call = f->call;
    gw_value nothing = gw_nil();
    follower_free(f);
    op_ok(call, &nothing);
}

static void follower_gone(void *arg)
{
    struct follower *f = arg;
    f->gone = true;
    if (!f->busy) {
        follower_end(f);
    }
}

static const char *const kinds[] = {
#define EVENT_KIND(name, what) name,
#include "host/core/events.def"
#undef EVENT_KIND
};

/* "agent.create", or "agent" for all that begin so. */
static bool kind_is(const char *kind, const char *filter)
{
    size_t n = strlen(filter);
    return strncmp(kind, filter, n) == 0 && (kind[n] == '\0' || kind[n] == '.');
}

static bool kind_is_known(const char *filter)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kind_is(kinds[i], filter)) {
            return true;
        }
    }
    return false;
}

static bool wanted(const struct follower *f, const gw_value *event)
{
    gw_id id;
    if (f->kind[0] && !kind_is(gw_map_str(event, "kind", ""), f->kind)) {
        return false;
    }
    return !f->one_agent || (gw_id_parse(gw_map_str(event, "agent", ""), &id) == GW_OK &&
                             gw_id_equal(&id, &f->agent));
}

static void give(struct follower *f, struct span key, struct span value)
{
    gw_value event = gw_nil();
    if (key.n != 8 || f->left == 0 || f->gone) {
        return;
    }
    f->next_seq = load_u64(key.p) + 1;
    if (value_unpack_span(value, &event) == GW_OK && wanted(f, &event)) {
        f->left -= !f->follow;
        f->gone |= !f->call->item(f->call, &event);
    }
    gw_value_free(&event);
}

static void follower_fail(struct follower *f, gw_err err)
{
    struct op_call *call = f->call;
    struct gw_error why;
    gw_fail(&why, err, "the events from number %llu on cannot be read: %s",
            (unsigned long long)f->next_seq, gw_err_text(err));
    follower_free(f);
    op_fail(call, &why);
}

static void have_events(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct follower *f = arg;
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        give(f, rows[i].key, rows[i].value); /* may tell that the caller is gone */
    }
    f->busy = false;
    if (err != GW_OK && !f->gone) {
        follower_fail(f, err);
    } else if (f->gone || f->left == 0 || (count < READ_AT_ONCE && !f->follow)) {
        follower_end(f);
    } else if (count == READ_AT_ONCE) {
        read_more(f);
    } else if (f->next_seq <= f->n->event_seq && (count > 0 || f->n->event_seq > f->asked_at)) {
        read_more(f);
    }
}

static void read_more(struct follower *f)
{
    uint8_t raw[8];
    if (f->busy) {
        return;
    }
    f->busy = true;
    f->asked_at = f->n->event_seq;
    store_u64(raw, f->next_seq);
    const struct store_range range = {
        .table = TABLE_EVENTS, .from = {raw, sizeof raw}, .limit = READ_AT_ONCE};
    f->n->env->read(f->n->env->ctx, &range, 1, have_events, f);
}

static gw_err agent_filter(struct node *n, struct op_call *call, gw_id *ret, bool *ret_given,
                           struct gw_error *why)
{
    const char *text = gw_map_str(&call->args, "agent", NULL);
    struct agent *a;
    *ret_given = text != NULL;
    if (!text || gw_id_parse(text, ret) == GW_OK) {
        return GW_OK;
    }
    GW_TRY(agent_lookup(n, text, &a, why));
    *ret = a->id;
    return GW_OK;
}

void op_events(struct node *n, struct op_call *call)
{
    struct gw_error why;
    gw_id agent = {{0}};
    bool one;
    const char *kind = gw_map_str(&call->args, "kind", "");
    if (agent_filter(n, call, &agent, &one, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    if (kind[0] && !kind_is_known(kind)) {
        gw_fail(&why, GW_EARG, "\"%.64s\" is no kind of event", kind);
        gw_hint(&why, "docs/events.md lists them: agent.create, message.failed, host.up …, or the "
                      "first word of several");
        op_fail(call, &why);
        return;
    }
    struct follower *f = follower_new(n, call);
    bool fits =
        span_text((struct span){(const uint8_t *)kind, strlen(kind)}, f->kind, sizeof f->kind);
    gw_assert(fits); /* a known one is short */
    int64_t since = gw_map_int(&call->args, "since", 0);
    f->agent = agent;
    f->one_agent = one;
    f->next_seq = since > 0 ? (uint64_t)since + 1 : 1;
    f->follow = gw_map_bool(&call->args, "follow", false);
    f->left = f->follow ? UINT64_MAX : (uint64_t)gw_map_int(&call->args, "limit", 1000);
    call->on_gone = follower_gone;
    call->gone_arg = f;
    read_more(f);
}

/* ---- lines of agents ---- */

struct log_line {
    int64_t time_ms;
    gw_id agent;
    char type[LIMIT_NAME_BYTES + 1];
    uint8_t level;
    char *text;
    struct trace trace; /* of the handler */
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static gw_err add_trace(gw_value *item, const struct trace *t)
{
    char text[TRACE_TEXT];
    gw_value id = gw_nil();
    if (trace_is_none(t)) {
        return GW_OK;
    }
    GW_TRY(gw_value_set_str(&id, trace_text(t, text) + 3, (size_t)2 * TRACE_ID_BYTES));
    return gw_map_set(item, "trace", id);
}

static bool give_line(struct follower *f, const struct log_line *line)
{
    char id[GW_ID_TEXT];
    gw_value item = gw_nil();
    if (f->one_agent && !gw_id_equal(&line->agent, &f->agent)) {
        return true;
    }
    bool alive = true;
    if (gw_map_set(&item, "time_ms", gw_int(line->time_ms)) == GW_OK &&
        gw_map_set(&item, "agent", gw_str(gw_id_text(&line->agent, id))) == GW_OK &&
        gw_map_set(&item, "type", gw_str(line->type)) == GW_OK &&
        gw_map_set(&item, "level", gw_str(level_names[line->level])) == GW_OK &&
        gw_map_set(&item, "text", gw_str(line->text)) == GW_OK &&
        add_trace(&item, &line->trace) == GW_OK) {
        alive = f->call->item(f->call, &item);
    }
    gw_value_free(&item);
    return alive;
}

void log_frame(struct node *n, const struct frame *f)
{
    struct mp m = f->rest;
    gw_id agent;
    uint32_t level;
    struct span text;
    char id[GW_ID_TEXT];
    if (mp_read_id(&m, &agent) != GW_OK || mp_read_u32(&m, &level) != GW_OK || level > LOG_ERROR ||
        mp_read_str(&m, &text) != GW_OK) {
        return;
    }
    struct span parent = {0};
    struct trace trace = {0};
    if (f->fields > 3 && mp_read_str(&m, &parent) == GW_OK &&
        trace_parse(parent, &trace) != GW_OK) {
        trace = (struct trace){0};
    }
    if (!n->log_lines) {
        n->log_lines = xcalloc(LOG_LINES, sizeof *n->log_lines);
    }
    struct log_line *line = &n->log_lines[n->log_head];
    struct agent *a = agent_find(n, &agent);
    n->log_head = (n->log_head + 1) % LOG_LINES;
    n->log_count += n->log_count < LOG_LINES;
    free(line->text);
    *line = (struct log_line){
        .time_ms = node_now_ms(n), .agent = agent, .level = (uint8_t)level, .trace = trace};
    memcpy(line->type, a ? a->type->name : "", a ? sizeof line->type : 1);
    size_t len = text.n < LINE_BYTES ? text.n : LINE_BYTES;
    while (len < text.n && len > 0 && (text.p[len] & 0xc0) == 0x80) {
        len--; /* not in the middle of a character */
    }
    line->text = strndup((const char *)text.p, len);
    if (!line->text || !utf8_is_valid(line->text, strlen(line->text))) {
        free(line->text);
        line->text = xstrdup("(a line that is not UTF-8)");
    }
    char trace_id[TRACE_TEXT];
    log_at((log_level)level, "agent", "agent=%s type=%s trace=%.32s %s", gw_id_text(&agent, id),
           line->type, trace_is_none(&trace) ? "-" : trace_text(&trace, trace_id) + 3, line->text);
    for (struct follower *fo = n->followers, *next; fo; fo = next) {
        next = fo->next;
        if (!fo->logs) {
            continue;
        }
        fo->busy = true;
        bool alive = give_line(fo, line);
        fo->busy = false;
        if (!alive || fo->gone) {
            follower_end(fo);
        }
    }
}

void op_logs(struct node *n, struct op_call *call)
{
    struct gw_error why;
    gw_id agent = {{0}};
    bool one, alive = true;
    if (agent_filter(n, call, &agent, &one, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct follower *f = follower_new(n, call);
    f->logs = true;
    f->agent = agent;
    f->one_agent = one;
    f->follow = gw_map_bool(&call->args, "follow", false);
    size_t limit = (size_t)gw_map_int(&call->args, "limit", 1000);
    size_t skip = n->log_count > limit ? n->log_count - limit : 0;
    for (size_t i = skip; alive && i < n->log_count; i++) {
        alive =
            give_line(f, &n->log_lines[(n->log_head + LOG_LINES - n->log_count + i) % LOG_LINES]);
    }
    if (!f->follow || !alive) {
        follower_end(f);
        return;
    }
    call->on_gone = follower_gone;
    call->gone_arg = f;
}

void events_free(struct node *n)
{
    while (n->followers) {
        follower_free(n->followers); /* their calls belong to their doors */
    }
    for (size_t i = 0; n->log_lines && i < LOG_LINES; i++) {
        free(n->log_lines[i].text);
    }
    free(n->log_lines);
}

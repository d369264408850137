#include "tests/fuzz/cast.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/value.h"

#define DEPTH_MOST 24 /* of a tree that is packed: deeper than any frame */

/* --- names --- */
static size_t number_of(const char *text)
{
    size_t n = 0;
    for (; *text >= '0' && *text <= '9' && n < 100000; text++) {
        n = n * 10 + (size_t)(*text - '0');
    }
    return n;
}

void cast_add_agent(struct cast *c, const gw_id *agent)
{
    if (c->agent_count < CAST_AGENTS && !gw_id_is_nil(agent)) {
        c->agents[c->agent_count++] = *agent;
    }
}

void cast_hear_ticket(struct cast *c, const gw_id *ticket)
{
    c->tickets[c->heard++ % CAST_TICKETS] = *ticket;
}

static gw_id nobody(size_t n)
{
    gw_id id;
    memset(id.b, 0x5a, sizeof id.b);
    store_u32(id.b + 12, (uint32_t)n);
    return id;
}

gw_id cast_id(const struct cast *c, const char *name)
{
    if (name[0] && name[1] == 't') {
        size_t back = number_of(name + 2) + 1;
        return back <= c->heard && back <= CAST_TICKETS
                   ? c->tickets[(c->heard - back) % CAST_TICKETS]
                   : nobody(50000 + back);
    }
    if (name[0] && name[1] == 'x') {
        return nobody(number_of(name + 2));
    }
    size_t i = name[0] ? number_of(name + 1) : 0;
    return i < c->agent_count ? c->agents[i] : nobody(1000 + i);
}

static struct host_id host_id_named(const struct cast *c, const char *name)
{
    size_t i = number_of(name + 1);
    struct host_id none;
    memset(none.b, 0x33, sizeof none.b);
    return i < c->hosts ? mesh_host_id(c->m, i) : none;
}

size_t cast_host(const struct cast *c, const gw_value *v)
{
    uint64_t n = v && v->kind == GW_INT ? (uint64_t)v->i : 0;
    return n % c->hosts;
}

/* --- members of a list --- */
const gw_value *cast_item(const gw_value *list, size_t i)
{
    return list && list->kind == GW_LIST && i < list->list.n ? &list->list.items[i] : NULL;
}

int64_t cast_int(const gw_value *list, size_t i)
{
    const gw_value *v = cast_item(list, i);
    return v && v->kind == GW_INT ? v->i : 0;
}

const char *cast_text(const gw_value *list, size_t i)
{
    const gw_value *v = cast_item(list, i);
    return v && v->kind == GW_STR ? v->s.p : "";
}

/* --- packing --- */
static size_t pack_at(struct cast *c, const gw_value *v, unsigned depth, struct buf *out);

static size_t pack_list(struct cast *c, const gw_value *list, unsigned depth, struct buf *out)
{
    size_t n = 0;
    for (size_t i = 0; list && list->kind == GW_LIST && i < list->list.n; i++) {
        n += pack_at(c, &list->list.items[i], depth, out);
    }
    return n;
}

static unsigned digit(char ch)
{
    return ch >= '0' && ch <= '9'   ? (unsigned)(ch - '0')
           : ch >= 'a' && ch <= 'f' ? (unsigned)(ch - 'a' + 10)
                                    : 16;
}

static void pack_raw(const char *hex, struct buf *out)
{
    for (; digit(hex[0]) < 16 && digit(hex[1]) < 16; hex += 2) {
        uint8_t byte = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
        buf_add(out, &byte, 1);
    }
}

static void pack_string(struct cast *c, const gw_value *v, struct buf *out)
{
    gw_id id;
    struct host_id host;
    switch (v->s.p[0]) {
    case '@':
        id = cast_id(c, v->s.p);
        mp_id(out, &id);
        break;
    case '%':
        host = host_id_named(c, v->s.p);
        mp_bin(out, host.b, sizeof host.b);
        break;
    case '!': mp_bin(out, c->nonce, sizeof c->nonce); break;
    case '~': pack_raw(v->s.p + 1, out); break;
    default: value_pack(v, out); break;
    }
}

static gw_id id_at(const struct cast *c, const gw_value *list, size_t i)
{
    return cast_id(c, cast_text(list, i));
}

/* The host whose key signs: the last one when it does not say. */
static size_t signer_at(const struct cast *c, const gw_value *list, size_t i)
{
    return cast_item(list, i) ? cast_host(c, cast_item(list, i)) : c->hosts - 1;
}

static void tell_signed(struct cast *c, const gw_id *agent)
{
    if (c->on_signed) {
        c->on_signed(c->arg, agent);
    }
}

static size_t pack_note(struct cast *c, const gw_value *v, struct buf *out)
{
    struct ticket_note note = {.ticket = id_at(c, v, 1)};
    struct buf body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    const gw_value *agents = cast_item(v, 2), *nonce = cast_item(v, 3);
    for (size_t i = 0; cast_item(agents, i) && note.n < 8; i++) {
        const gw_value *one = cast_item(agents, i);
        note.agents[note.n].agent = id_at(c, one, 0);
        note.agents[note.n++].epoch = (uint64_t)cast_int(one, 1);
        tell_signed(c, &note.agents[note.n - 1].agent);
    }
    if (nonce && nonce->kind == GW_STR && nonce->s.p[0] == '!') {
        memcpy(note.nonce, c->nonce, sizeof note.nonce);
    } else if (nonce && nonce->kind == GW_BYTES && nonce->s.n <= sizeof note.nonce) {
        memcpy(note.nonce, nonce->s.p, nonce->s.n);
    }
    if (note_sign(cast_int(v, 0) == NOTE_COMMIT ? NOTE_COMMIT : NOTE_RECEIPT, &note,
                  mesh_host_key(c->m, signer_at(c, v, 4)), &body, signature) != GW_OK) {
        buf_free(&body);
        return pack_at(c, v, DEPTH_MOST, out);
    }
    mp_span(out, buf_span(&body));
    mp_bin(out, signature, sizeof signature);
    buf_free(&body);
    return 2;
}

static size_t pack_ticket(struct cast *c, const gw_value *v, struct buf *out)
{
    enum { MOST = 4 };
    struct ticket_agent agents[MOST] = {0};
    struct buf plain[MOST] = {0}, sealed[MOST] = {0}, body = {0};
    struct span spans[MOST];
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    size_t n = 0, signer = signer_at(c, v, 3), to = cast_host(c, cast_item(v, 2));
    const gw_value *list = cast_item(v, 1), *from = cast_item(v, 4);
    for (; n < MOST && cast_item(list, n); n++) {
        const gw_value *one = cast_item(list, n), *payload = cast_item(one, 4);
        const char *type = cast_text(one, 2);
        agents[n].agent = id_at(c, one, 0);
        agents[n].epoch = (uint64_t)cast_int(one, 1);
        agents[n].version = (uint32_t)cast_int(one, 3);
        (void)span_text((struct span){(const uint8_t *)type, strlen(type)}, agents[n].type,
                        sizeof agents[n].type);
        if (payload) {
            (void)pack_at(c, payload, 0, &plain[n]);
        }
        spans[n] = buf_span(&plain[n]);
        tell_signed(c, &agents[n].agent);
    }
    struct ticket t = {.id = id_at(c, v, 0),
                       .from = mesh_host_id(c->m, from ? cast_host(c, from) : signer),
                       .to = mesh_host_id(c->m, to),
                       .agents = agents,
                       .agent_count = n};
    gw_err err = ticket_seal(&t, spans, mesh_host_key(c->m, signer),
                             mesh_host_key(c->m, to)->public_key, &body, signature, sealed);
    if (err == GW_OK) {
        mp_span(out, buf_span(&body));
        mp_bin(out, signature, sizeof signature);
        mp_array(out, n);
        for (size_t i = 0; i < n; i++) {
            mp_span(out, buf_span(&sealed[i]));
        }
    } else {
        mp_nil(out);
    }
    for (size_t i = 0; i < n; i++) {
        buf_free(&plain[i]);
        buf_free(&sealed[i]);
    }
    buf_free(&body);
    return err == GW_OK ? 3 : 1;
}

static void pack_packed(struct cast *c, const gw_value *v, unsigned depth, struct buf *out)
{
    struct buf inner = {0};
    (void)pack_at(c, v, depth, &inner);
    mp_span(out, buf_span(&inner));
    buf_free(&inner);
}

static gw_value text_of(const struct cast *c, const char *name)
{
    char text[HOST_ID_TEXT > GW_ID_TEXT ? HOST_ID_TEXT : GW_ID_TEXT];
    struct host_id host = host_id_named(c, name);
    gw_id id = cast_id(c, name);
    return gw_str(name[0] == '%' ? host_id_text(&host, text) : gw_id_text(&id, text));
}

static size_t pack_map(struct cast *c, const gw_value *v, unsigned depth, struct buf *out)
{
    const gw_value *inner = v->map.n == 1 ? &v->map.items[0].value : NULL;
    const char *key = inner ? v->map.items[0].key : "";
    if (strcmp(key, "$pack") == 0) {
        pack_packed(c, inner, depth, out);
        return 1;
    }
    if (strcmp(key, "$id") == 0 && inner->kind == GW_STR) {
        gw_value text = text_of(c, inner->s.p);
        value_pack(&text, out);
        gw_value_free(&text);
        return 1;
    }
    if (c->m && strcmp(key, "$note") == 0 && inner->kind == GW_LIST) {
        return pack_note(c, inner, out);
    }
    if (c->m && strcmp(key, "$ticket") == 0 && inner->kind == GW_LIST) {
        return pack_ticket(c, inner, out);
    }
    struct buf members = {0};
    for (size_t i = 0; i < v->map.n; i++) {
        mp_str(&members, v->map.items[i].key);
        if (pack_at(c, &v->map.items[i].value, depth, &members) != 1) {
            mp_nil(&members); /* more than one member in the place of one: no map any more */
        }
    }
    mp_map(out, v->map.n);
    buf_add(out, members.data, members.len);
    buf_free(&members);
    return 1;
}

static size_t pack_at(struct cast *c, const gw_value *v, unsigned depth, struct buf *out)
{
    if (depth >= DEPTH_MOST) {
        mp_nil(out);
        return 1;
    }
    if (v->kind == GW_STR) {
        pack_string(c, v, out);
        return 1;
    }
    if (v->kind == GW_MAP) {
        return pack_map(c, v, depth + 1, out);
    }
    if (v->kind == GW_LIST) {
        struct buf members = {0};
        size_t n = pack_list(c, v, depth + 1, &members);
        mp_array(out, n);
        buf_add(out, members.data, members.len);
        buf_free(&members);
        return 1;
    }
    value_pack(v, out);
    return 1;
}

size_t cast_pack_members(struct cast *c, const gw_value *list, struct buf *out)
{
    return pack_list(c, list, 0, out);
}

void cast_pack(struct cast *c, const gw_value *v, struct buf *out)
{
    (void)pack_at(c, v, 0, out);
}

static bool kind_of(const gw_value *v, frame_kind *ret)
{
    static const struct {
        const char *name;
        frame_kind kind;
    } kinds[] = {
#define FRAME_KIND(name, number, cls, fields) {#name, FRAME_##name},
#include "protocol/kinds.def"
#undef FRAME_KIND
    };
    if (v && v->kind == GW_INT) {
        *ret = (frame_kind)(v->i & 0xff);
        return true;
    }
    for (size_t i = 0; v && v->kind == GW_STR && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(v->s.p, kinds[i].name) == 0) {
            *ret = kinds[i].kind;
            return true;
        }
    }
    return false;
}

bool cast_frame(struct cast *c, const gw_value *kind, uint64_t stream, const gw_value *fields,
                struct buf *out)
{
    struct buf members = {0};
    frame_kind k;
    if (!kind_of(kind, &k)) {
        return false;
    }
    size_t n = cast_pack_members(c, fields, &members);
    size_t at = frame_begin(out, k, stream, n);
    buf_add(out, members.data, members.len);
    buf_free(&members);
    frame_end(out, at);
    return buf_ok(out);
}

void cast_name_texts(struct cast *c, gw_value *v)
{
    if (v->kind == GW_STR && (v->s.p[0] == '@' || v->s.p[0] == '%')) {
        gw_value text = text_of(c, v->s.p);
        gw_value_free(v);
        *v = text;
    }
    for (size_t i = 0; v->kind == GW_LIST && i < v->list.n; i++) {
        cast_name_texts(c, &v->list.items[i]);
    }
    for (size_t i = 0; v->kind == GW_MAP && i < v->map.n; i++) {
        cast_name_texts(c, &v->map.items[i].value);
    }
}

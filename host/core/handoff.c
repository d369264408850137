#include "host/core/handoff.h"

#include <string.h>

static const store_table list_tables[4] = {TABLE_REQUESTS, TABLE_STREAMS, TABLE_OUTBOX,
                                           TABLE_INBOX};

struct ticket_note handoff_note(const gw_id *ticket, const gw_id *agent, uint64_t epoch,
                                const uint8_t nonce[TICKET_NONCE_BYTES])
{
    struct ticket_note note = {.ticket = *ticket, .n = 1};
    memcpy(note.nonce, nonce, sizeof note.nonce);
    note.agents[0].agent = *agent;
    note.agents[0].epoch = epoch;
    return note;
}

bool handoff_note_is(const struct ticket_note *note, const gw_id *ticket, const gw_id *agent,
                     uint64_t epoch)
{
    return note->n == 1 && gw_id_equal(&note->ticket, ticket) &&
           gw_id_equal(&note->agents[0].agent, agent) && note->agents[0].epoch == epoch;
}

void handoff_pack(struct buf *out, handoff_mode mode, const struct agent_row *row,
                  struct span parts, struct span rows)
{
    struct buf packed = {0};
    agent_row_pack(row, &packed);
    mp_array(out, 3 + HANDOFF_LISTS);
    mp_uint(out, mode);
    mp_span(out, buf_span(&packed));
    buf_add(out, parts.p, parts.n);
    if (rows.n > 0) {
        buf_add(out, rows.p, rows.n);
    } else {
        for (int i = 0; i < HANDOFF_LISTS; i++) {
            mp_array(out, 0);
        }
    }
    buf_free(&packed);
}

/* Deadlines go as what is left of them: the clock there is another one. */
static void pack_value(const struct storage_row *row, int64_t now_ms, struct buf *out)
{
    struct buf value = {0};
    bool mail = row->table == TABLE_INBOX || row->table == TABLE_OUTBOX;
    bool moved = mail && carry_shift(row->value, -now_ms, &value) == GW_OK && value.len > 0;
    mp_span(out, moved ? buf_span(&value) : row->value);
    buf_free(&value);
}

void handoff_pack_rows(const struct storage_row *rows, size_t n, int64_t now_ms, struct buf *out)
{
    for (size_t t = 0; t < 4; t++) {
        size_t count = 0;
        for (size_t i = 0; i < n; i++) {
            count += rows[i].table == list_tables[t];
        }
        mp_array(out, count);
        for (size_t i = 0; i < n; i++) {
            if (rows[i].table == list_tables[t]) {
                mp_array(out, 2);
                mp_bin(out, rows[i].key.p + ROW_KEY_BYTES, rows[i].key.n - ROW_KEY_BYTES);
                pack_value(&rows[i], now_ms, out);
            }
        }
    }
}

gw_err handoff_unpack(struct span payload, struct handoff_payload *ret)
{
    struct handoff_payload p = {0};
    struct mp m = mp_over(payload);
    size_t n;
    uint64_t mode;
    struct span row;
    GW_TRY(mp_read_array(&m, &n));
    if (n < 7) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_uint(&m, &mode));
    GW_TRY(mp_read_bin(&m, &row));
    if (mode > HANDOFF_CLONE || mp_peek(&m) != MP_MAP) {
        return GW_EPROTO;
    }
    p.mode = (handoff_mode)mode;
    GW_TRY(mp_skip(&m, &p.parts));
    size_t lists = n - 3 < HANDOFF_LISTS ? n - 3 : HANDOFF_LISTS; /* older hosts send fewer */
    for (size_t i = 0; i < lists; i++) {
        if (mp_peek(&m) != MP_ARRAY) {
            return GW_EPROTO;
        }
        GW_TRY(mp_skip(&m, &p.lists[i]));
    }
    GW_TRY(mp_skip_n(&m, n - 3 - lists));
    if (!mp_done(&m)) {
        return GW_EPROTO;
    }
    GW_TRY(agent_row_unpack(row, &p.row));
    *ret = p;
    return GW_OK;
}

static gw_err check_parts(struct span parts)
{
    struct mp m = mp_over(parts);
    size_t n;
    GW_TRY(mp_read_map(&m, &n));
    for (size_t i = 0; i < n; i++) {
        struct span name, value;
        GW_TRY(mp_read_str(&m, &name));
        GW_TRY(mp_read_bin(&m, &value));
        if (name.n > LIMIT_NAME_BYTES) {
            return GW_EPROTO;
        }
    }
    return GW_OK;
}

/* How long the key of each list's rows is, behind agent and epoch. */
static const size_t suffix_bytes[4] = {REQUEST_KEY_BYTES, STREAM_KEY_BYTES, 8, 8};

static gw_err store_list(struct store_batch *batch, size_t t, struct span list, const gw_id *agent,
                         uint64_t epoch, int64_t now_ms)
{
    struct mp m = mp_over(list);
    size_t n, two;
    GW_TRY(mp_read_array(&m, &n));
    for (size_t i = 0; i < n; i++) {
        struct span suffix, value;
        uint8_t raw[ROW_KEY_BYTES + STREAM_KEY_BYTES];
        GW_TRY(mp_read_array(&m, &two));
        GW_TRY(mp_read_bin(&m, &suffix));
        GW_TRY(mp_read_bin(&m, &value));
        if (two != 2 || suffix.n != suffix_bytes[t]) {
            return GW_EPROTO;
        }
        row_key(raw, agent, epoch);
        memcpy(raw + ROW_KEY_BYTES, suffix.p, suffix.n);
        const struct span key = {raw, ROW_KEY_BYTES + suffix.n};
        GW_AUTO(buf_free) struct buf here = {0};
        if (list_tables[t] == TABLE_INBOX || list_tables[t] == TABLE_OUTBOX) {
            GW_TRY(carry_shift(value, now_ms, &here));
        }
        store_batch_put(batch, list_tables[t], key, here.len > 0 ? buf_span(&here) : value);
    }
    return GW_OK;
}

gw_err handoff_store(struct store_batch *batch, const struct handoff_payload *p, const gw_id *agent,
                     uint64_t epoch, int64_t now_ms)
{
    const struct span timers = p->lists[HANDOFF_TIMERS], topics = p->lists[HANDOFF_TOPICS],
                      watches = p->lists[HANDOFF_WATCHES];
    GW_TRY(check_parts(p->parts));
    commit_parts(batch, agent, epoch, p->parts);
    for (size_t t = 0; t < 4; t++) {
        GW_TRY(store_list(batch, t, p->lists[t], agent, epoch, now_ms));
    }
    GW_TRY(topics.n > 0 ? topics_store(batch, agent, epoch, topics) : GW_OK);
    GW_TRY(timers.n > 0 ? timers_store(batch, agent, epoch, timers, now_ms) : GW_OK);
    return watches.n > 0 ? watches_store(batch, agent, epoch, watches) : GW_OK;
}

bool handoff_has_mail(const struct handoff_payload *p)
{
    for (size_t t = 2; t < HANDOFF_LISTS; t++) {
        struct mp m = mp_over(p->lists[t]);
        size_t n = 0;
        if (mp_read_array(&m, &n) == GW_OK && n > 0) {
            return true;
        }
    }
    return false;
}

void handoff_put_agents(struct buf *b, const gw_id *agent, uint64_t epoch)
{
    mp_array(b, 1);
    mp_array(b, 2);
    mp_id(b, agent);
    mp_uint(b, epoch);
}

gw_err handoff_read_agents(struct mp *m, gw_id *ret_agent, uint64_t *ret_epoch)
{
    size_t n, two;
    GW_TRY(mp_read_array(m, &n));
    if (n != 1) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_array(m, &two));
    if (two < 2) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, ret_agent));
    GW_TRY(mp_read_uint(m, ret_epoch));
    return mp_skip_n(m, two - 2);
}

#include "host/core/handoff.h"

#include <string.h>

static gw_err store_topics(struct store_batch *batch, const gw_id *agent, uint64_t epoch,
                           struct span list, int64_t now_ms)
{
    (void)now_ms;
    return topics_store(batch, agent, epoch, list);
}

static void pack_watches(struct node *n, const struct agent *a, struct buf *out)
{
    (void)n;
    watches_pack(a, out);
}

static gw_err store_watches(struct store_batch *batch, const gw_id *agent, uint64_t epoch,
                            struct span list, int64_t now_ms)
{
    (void)now_ms;
    return watches_store(batch, agent, epoch, list);
}

const struct handoff_list handoff_lists[HANDOFF_LISTS] = {
    {.table = TABLE_REQUESTS, .suffix_bytes = REQUEST_KEY_BYTES},
    {.table = TABLE_STREAMS, .suffix_bytes = STREAM_KEY_BYTES},
    {.table = TABLE_OUTBOX, .suffix_bytes = 8, .mail = true, .shifts = true},
    {.table = TABLE_INBOX, .suffix_bytes = 8, .mail = true, .shifts = true},
    /* frozen, they are in memory what their rows say; the time left is packed */
    {.table = TABLE_TIMERS, .mail = true, .pack = timers_pack, .store = timers_store},
    {.table = TABLE_TOPICS, .mail = true, .pack = topics_pack, .store = store_topics},
    {.table = TABLE_WATCHES, .mail = true, .pack = pack_watches, .store = store_watches},
};

void handoff_pack(struct buf *out, handoff_mode mode, const struct agent_row *row,
                  struct span parts, struct span rows, struct span files)
{
    struct buf packed = {0};
    agent_row_pack(row, &packed);
    mp_array(out, 3 + HANDOFF_LISTS + 1);
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
    if (files.n > 0) {
        buf_add(out, files.p, files.n);
    } else {
        mp_array(out, 0);
    }
    buf_free(&packed);
}

static void pack_value(const struct handoff_list *l, struct span row, int64_t now_ms,
                       struct buf *out)
{
    struct buf value = {0};
    bool moved = l->shifts && carry_shift(row, -now_ms, &value) == GW_OK && value.len > 0;
    mp_span(out, moved ? buf_span(&value) : row);
    buf_free(&value);
}

static void pack_list(const struct handoff_list *l, const struct storage_row *rows, size_t n,
                      int64_t now_ms, struct buf *out)
{
    store_table table = l->table;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += rows[i].table == table;
    }
    mp_array(out, count);
    for (size_t i = 0; count > 0 && i < n; i++) {
        if (rows[i].table == table) {
            mp_array(out, 2);
            mp_bin(out, rows[i].key.p + ROW_KEY_BYTES, rows[i].key.n - ROW_KEY_BYTES);
            pack_value(l, rows[i].value, now_ms, out);
        }
    }
}

void handoff_pack_rows(struct node *n, const struct agent *a, const struct storage_row *rows,
                       size_t count, struct buf *out)
{
    for (size_t i = 0; i < HANDOFF_LISTS; i++) {
        if (handoff_lists[i].pack) {
            handoff_lists[i].pack(n, a, out);
        } else {
            pack_list(&handoff_lists[i], rows, count, node_now_ms(n), out);
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
    if (n < 3) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_uint(&m, &mode));
    GW_TRY(mp_read_bin(&m, &row));
    if (mode > HANDOFF_CLONE || mp_peek(&m) != MP_MAP) {
        return GW_EPROTO;
    }
    p.mode = (handoff_mode)mode;
    GW_TRY(mp_skip(&m, &p.parts));
    size_t lists = n - 3 < HANDOFF_LISTS ? n - 3 : HANDOFF_LISTS;
    for (size_t i = 0; i < lists; i++) {
        if (mp_peek(&m) != MP_ARRAY) {
            return GW_EPROTO;
        }
        GW_TRY(mp_skip(&m, &p.lists[i]));
    }
    bool files = n > 3 + HANDOFF_LISTS;
    if (files && mp_peek(&m) != MP_ARRAY) {
        return GW_EPROTO;
    }
    if (files) {
        GW_TRY(mp_skip(&m, &p.files));
    }
    GW_TRY(mp_skip_n(&m, n - 3 - lists - files));
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

static gw_err store_list(struct store_batch *batch, const struct handoff_list *l, struct span list,
                         const gw_id *agent, uint64_t epoch, int64_t now_ms)
{
    struct mp m = mp_over(list);
    size_t n, two;
    GW_TRY(mp_read_array(&m, &n));
    for (size_t i = 0; i < n; i++) {
        struct span suffix, value;
        uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
        GW_TRY(mp_read_array(&m, &two));
        GW_TRY(mp_read_bin(&m, &suffix));
        GW_TRY(mp_read_bin(&m, &value));
        if (two != 2 || suffix.n != l->suffix_bytes) {
            return GW_EPROTO;
        }
        row_key(raw, agent, epoch);
        memcpy(raw + ROW_KEY_BYTES, suffix.p, suffix.n);
        const struct span key = {raw, ROW_KEY_BYTES + suffix.n};
        GW_AUTO(buf_free) struct buf here = {0};
        if (l->shifts) {
            GW_TRY(carry_shift(value, now_ms, &here));
        }
        store_batch_put(batch, l->table, key, here.len > 0 ? buf_span(&here) : value);
    }
    return GW_OK;
}

gw_err handoff_store(struct store_batch *batch, const struct handoff_payload *p, const gw_id *agent,
                     uint64_t epoch, int64_t now_ms)
{
    GW_TRY(check_parts(p->parts));
    commit_parts(batch, agent, epoch, p->parts);
    for (size_t i = 0; i < HANDOFF_LISTS && p->lists[i].n > 0; i++) {
        const struct handoff_list *l = &handoff_lists[i];
        if (l->store) {
            GW_TRY(l->store(batch, agent, epoch, p->lists[i], now_ms));
        } else {
            GW_TRY(store_list(batch, l, p->lists[i], agent, epoch, now_ms));
        }
    }
    return GW_OK;
}

bool handoff_has_mail(const struct handoff_payload *p)
{
    for (size_t i = 0; i < HANDOFF_LISTS; i++) {
        struct mp m = mp_over(p->lists[i]);
        size_t n = 0;
        if (handoff_lists[i].mail && mp_read_array(&m, &n) == GW_OK && n > 0) {
            return true;
        }
    }
    return handoff_has_files(p);
}

bool handoff_has_files(const struct handoff_payload *p)
{
    struct mp m = mp_over(p->files);
    size_t n = 0;
    return p->files.n > 0 && mp_read_array(&m, &n) == GW_OK && n > 0;
}

void handoff_put_agent(struct buf *b, const gw_id *agent, uint64_t epoch)
{
    mp_array(b, 2);
    mp_id(b, agent);
    mp_uint(b, epoch);
}

gw_err handoff_read_agent(struct mp *m, gw_id *ret_agent, uint64_t *ret_epoch)
{
    size_t two;
    GW_TRY(mp_read_array(m, &two));
    if (two < 2) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, ret_agent));
    GW_TRY(mp_read_uint(m, ret_epoch));
    return mp_skip_n(m, two - 2);
}

void handoff_put_refusal(struct buf *b, const gw_id *agent, const struct gw_error *why)
{
    mp_array(b, 3);
    mp_id(b, agent);
    mp_uint(b, why->code);
    mp_str(b, why->text);
}

gw_err handoff_read_refusal(struct mp *m, struct handoff_refusal *ret)
{
    struct handoff_refusal r = {0};
    size_t n;
    uint32_t code;
    GW_TRY(mp_read_array(m, &n));
    if (n < 3) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &r.agent));
    GW_TRY(mp_read_u32(m, &code));
    GW_TRY(mp_read_text_or_nil(m, r.why.text, sizeof r.why.text));
    GW_TRY(mp_skip_n(m, n - 3));
    r.why.code = code == GW_OK ? GW_EREFUSED : gw_err_from_wire(code);
    *ret = r;
    return GW_OK;
}

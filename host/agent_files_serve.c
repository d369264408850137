/* Files that travel with agents: the end of a session that takes them (PROTOCOL.md 11). What the
 * other end says is believed in nothing: names and sizes are checked, and a file counts when the
 * hash of what came is that of its last record. */
#include <stdlib.h>
#include <string.h>

#include "host/agent_files_inner.h"
#include "host/host.h"
#include "protocol/base/mp.h"
#include "protocol/filename.h"

static gw_err read_open(struct bulk_io *io, gw_id *ret_ticket, gw_id *ret_agent)
{
    GW_AUTO(buf_free) struct buf b = {0};
    size_t fields;
    uint64_t version;
    GW_TRY(carried_get(io, &b));
    struct mp m = mp_over(buf_span(&b));
    GW_TRY(mp_read_array(&m, &fields));
    GW_TRY(mp_read_uint(&m, &version));
    GW_TRY(fields < 3 || version != 1 ? GW_EPROTO : GW_OK);
    GW_TRY(mp_read_id(&m, ret_ticket));
    return mp_read_id(&m, ret_agent);
}

/* GW_ENOT_FOUND: the sender has ended. */
static gw_err read_meta(struct bulk_io *io, struct incoming_meta *ret)
{
    GW_AUTO(buf_free) struct buf b = {0};
    size_t fields;
    GW_TRY(carried_get(io, &b));
    struct mp m = mp_over(buf_span(&b));
    gw_err err = mp_read_array(&m, &fields);
    if (err != GW_OK || fields < 5 || mp_read_text(&m, ret->name, sizeof ret->name) != GW_OK ||
        mp_read_uint(&m, &ret->size) != GW_OK || mp_read_int(&m, &ret->mtime_ns) != GW_OK ||
        mp_read_u32(&m, &ret->perm) != GW_OK ||
        mp_read_fixed(&m, ret->tag, sizeof ret->tag) != GW_OK ||
        !filename_is_valid(ret->name, strlen(ret->name)) || ret->size > INT64_MAX ||
        ret->perm > 07777) {
        return GW_EPROTO;
    }
    return GW_OK;
}

static gw_err take_content(struct bulk_io *io, struct incoming_visit *v, uint8_t *block,
                           struct gw_error *why)
{
    while (incoming_left(v) > 0) {
        uint64_t left = incoming_left(v);
        size_t n = 0;
        gw_err err = bulk_read(io, block, left < CARRIED_BLOCK ? (size_t)left : CARRIED_BLOCK, &n);
        if (err != GW_OK) {
            return gw_fail(why, GW_EUNREACHABLE, "the connection broke");
        }
        GW_TRY(incoming_write(v, block, n, why));
    }
    return GW_OK;
}

/* One file. What fails is told, and ends the session. */
static gw_err take_file(struct bulk_io *io, struct incoming_visit *v,
                        const struct incoming_meta *meta, uint8_t *block, struct gw_error *why)
{
    uint8_t hash[ENV_FILE_HASH_BYTES];
    uint64_t have = 0;
    gw_err err = incoming_begin(v, meta, &have, why);
    GW_TRY(carried_put_answer(io, err, why, have));
    GW_TRY(err);
    err = take_content(io, v, block, why);
    if (err == GW_OK && carried_read(io, hash, sizeof hash, true) != GW_OK) {
        err = gw_fail(why, GW_EUNREACHABLE, "the connection broke");
    }
    if (err == GW_OK) {
        err = incoming_end(v, hash, why);
    }
    if (err != GW_EUNREACHABLE) {
        GW_TRY(carried_put_answer(io, err, why, 0));
    }
    return err;
}

static gw_err take_files(struct bulk_io *io, struct incoming_visit *v, struct gw_error *why)
{
    uint8_t *block = malloc(CARRIED_BLOCK);
    gw_err err = block ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
    while (err == GW_OK) {
        struct incoming_meta meta = {.size = 0};
        err = read_meta(io, &meta);
        if (err == GW_ENOT_FOUND) {
            err = GW_OK;
            break;
        }
        err = err == GW_OK ? take_file(io, v, &meta, block, why)
                           : gw_fail(why, err, "the session makes no sense, or broke");
    }
    free(block);
    return err;
}

gw_err agent_files_take(struct incoming *in, struct bulk_request *request, struct bulk_io *io)
{
    gw_id ticket, agent;
    struct incoming_visit *v = NULL;
    gw_err err = read_open(io, &ticket, &agent);
    if (err != GW_OK) {
        return gw_fail(request->why, err, "the session makes no sense, or broke");
    }
    err = incoming_enter(in, &request->peer, &ticket, &agent, &v, request->why);
    gw_err told = carried_put_answer(io, err, request->why, 0);
    if (err != GW_OK) {
        return err;
    }
    err = told == GW_OK ? take_files(io, v, request->why)
                        : gw_fail(request->why, told, "the connection broke");
    incoming_leave(v);
    return err;
}

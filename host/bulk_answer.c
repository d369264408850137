/* What a thread that serves a connection reads and writes (bulk.h). */
#include <stdio.h>
#include <string.h>

#include "host/bulk.h"

#define QUIET_MS 30000

static gw_err describe(struct bulk_io *io, gw_err err)
{
    struct gw_error why = {0};
    io->describe(io->ctx, &why);
    return why.code == GW_ECANCELLED ? GW_ECANCELLED : err;
}

gw_err bulk_write(struct bulk_io *io, const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n > 0) {
        size_t taken = 0;
        gw_err err = io->write(io->ctx, p, n, &taken);
        if (err == GW_EAGAIN) {
            err = io->wait(io->ctx, false, true, QUIET_MS);
        }
        if (err != GW_OK) {
            return describe(io, err);
        }
        p += taken;
        n -= taken;
    }
    return GW_OK;
}

gw_err bulk_read(struct bulk_io *io, void *to, size_t room, size_t *ret_n)
{
    for (;;) {
        gw_err err = io->read(io->ctx, to, room, ret_n);
        if (err != GW_EAGAIN) {
            return err;
        }
        GW_TRY(io->wait(io->ctx, true, false, QUIET_MS));
    }
}

gw_err bulk_answer_head(struct bulk_io *io, int status, const char *type, uint64_t length,
                        const char *extra)
{
    char head[2048];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %llu\r\n"
                     "%sConnection: close\r\n\r\n",
                     status, http_status_text(status), type, (unsigned long long)length, extra);
    if (n < 0 || (size_t)n >= sizeof head) {
        return GW_ETOO_BIG;
    }
    return bulk_write(io, head, (size_t)n);
}

gw_err bulk_answer(struct bulk_io *io, int status, const char *type, struct span body)
{
    GW_TRY(bulk_answer_head(io, status, type, body.n, ""));
    return bulk_write(io, body.p, body.n);
}

gw_err bulk_answer_error(struct bulk_io *io, const struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf body = {0};
    http_error_body(why, &body);
    GW_TRY(bulk_answer(io, gw_err_http(why->code), "application/json", buf_span(&body)));
    return why->code;
}

gw_err bulk_refuse(struct bulk_request *request, struct bulk_io *io)
{
    const struct gw_error *why = request->why;
    if (strcmp(request->head->method, "HEAD") != 0) {
        return bulk_answer_error(io, why);
    }
    GW_TRY(bulk_answer_head(io, gw_err_http(why->code), "application/json", 0, ""));
    return why->code;
}

/* Frames that arrive in fragments (PROTOCOL.md 2.4). Memory grows only with bytes received.
 * All-zero is an empty, usable object. */
#ifndef HOST_NET_REASSEMBLY_H
#define HOST_NET_REASSEMBLY_H

#include "protocol/frame.h"
#include "protocol/limits.h"

struct reassembly {
    struct {
        uint64_t stream; /* 0 = free slot */
        struct buf data;
    } open[LIMIT_LINK_FRAGMENTED];
    size_t bytes; /* of all unfinished frames, at most LIMIT_LINK_REASSEMBLY_BYTES */
};

/* Take one FRAGMENT frame. GW_OK: `ret_whole` is the completed frame (msgpack array without
 * length), owned by the caller. GW_EAGAIN: more is to come. GW_EPROTO, GW_ETOO_BIG, GW_ENOMEM with
 * why: close the link. */
gw_err reassembly_add(struct reassembly *r, const struct frame *fragment, struct buf *ret_whole,
                      struct gw_error *why) GW_MUST_USE;
void reassembly_free(struct reassembly *r);

#endif

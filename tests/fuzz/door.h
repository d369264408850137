/* A link to a virtual host as the real ones end: at host/api_link.c. */
#ifndef TESTS_FUZZ_DOOR_H
#define TESTS_FUZZ_DOOR_H

#include "host/api.h"
#include "tests/fuzz/play.h"

#define DOOR_CALLS 64

struct door {
    struct api_link *link; /* NULL: closed */
    struct host_id peer;
    uint64_t asked, answered; /* CALLs with a stream, REPLYs */
    uint64_t streams[DOOR_CALLS];
    void (*forward)(void *arg, struct buf *frame); /* NULL: answers are counted and dropped */
    void *arg;
};

/* A CALL or CANCEL goes through the door, which opens when it was closed. Operations that the mesh
 * does not serve are left out, and what is more than DOOR_CALLS. The host is up. */
void door_frame(struct door *d, struct play *p, size_t host, link_kind kind, const struct frame *f);
/* Cancel what is open and wait until each CALL has had its one REPLY; then close. Before its host
 * goes, or nobody would free what nobody answered. */
void door_close(struct door *d, struct play *p);

#endif

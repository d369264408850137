/* One end of a file session whose other end is the input of a fuzz target. */
#ifndef TESTS_FUZZ_SESSION_H
#define TESTS_FUZZ_SESSION_H

#include "host/files/parts.h"
#include "host/files/roots.h"
#include "host/files/io.h"
#include "protocol/base/buf.h"

/* What the peer says, all at once, and then nothing any more. */
struct session_input {
    struct bulk_io io;
    struct span left;
    struct buf said; /* what our end says, for targets that look at it */
};
void session_input(struct session_input *in, const uint8_t *data, size_t size);

/* Folders src and dst below a new folder in memory (or TMPDIR), each with the file "old", which
 * holds session_old bytes. */
#define SESSION_OLD_BYTES 5000
struct session_place {
    char path[64], src[80], dst[80];
    struct roots *roots;
    struct parts *parts;
};
void session_place_make(struct session_place *p);
/* Remove all of it. Ends the process when a file outside of it, or one with unverified content, can
 * have been made: `dst` holds only what the caller says. */
void session_place_remove(struct session_place *p);
const uint8_t *session_old(void);

/* DATA records whose digest begins with 0 get the right one, as far as the bytes of the file are
 * known: a fuzzer finds no SHA-256. Returns a copy of the input, owned by the caller. */
uint8_t *session_fill_digests(const uint8_t *data, size_t size);

#endif

/* The content of one file, as it comes: verified, and written to its sink. Private to receive.c. */
#ifndef HOST_FILES_RECEIVE_FILE_H
#define HOST_FILES_RECEIVE_FILE_H

#include "host/files/digest.h"
#include "host/files/record.h"
#include "host/files/sink.h"

/* What content of all files of a session goes through. */
struct incoming {
    struct record_io *records;
    uint8_t *work; /* owned; for copies, and for what was compressed */
    void *zstd;    /* owned; made when it is first needed */
    struct digest digest;
    /* The present file: */
    struct sink_file *file; /* borrowed; NULL: none */
    uint64_t size;          /* announced */
    uint64_t at;            /* bytes that have come */
    /* They are just those of the old file, and not written yet: a file that proves to be the same
     * is not written at all. */
    bool unwritten;
    uint64_t received; /* of all files: bytes of DATA records */
};

gw_err incoming_init(struct incoming *in, struct record_io *records,
                     struct gw_error *why) GW_MUST_USE;
void incoming_deinit(struct incoming *in);
void incoming_start(struct incoming *in, struct sink_file *f, uint64_t size);

/* What a record means for the file. `own` says of what kind a failure is: */
typedef enum incoming_fault {
    FAULT_FILE,    /* this file cannot be made; what was written may serve a next try */
    FAULT_CONTENT, /* it does not verify: nothing of it is kept */
    FAULT_SESSION, /* the peer breaks the rules, or there is no memory */
} incoming_fault;

/* ret_done: that was the last record, and the content verifies; ret_same: it is that of the old
 * file, and nothing was written. */
gw_err incoming_data(struct incoming *in, const struct record *rec, bool *ret_done, bool *ret_same,
                     incoming_fault *ret_fault, struct gw_error *why) GW_MUST_USE;
gw_err incoming_copy(struct incoming *in, struct record *rec, incoming_fault *ret_fault,
                     struct gw_error *why) GW_MUST_USE;
gw_err incoming_hole(struct incoming *in, struct record *rec, incoming_fault *ret_fault,
                     struct gw_error *why) GW_MUST_USE;

#endif

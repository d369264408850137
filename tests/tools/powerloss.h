/* The record of what a process asked of its disk, as tests/tools/preload/record.c writes it and
 * tests/tools/powerloss.c reads it: one entry for each call that has ended well, in their order. */
#ifndef TESTS_TOOLS_POWERLOSS_H
#define TESTS_TOOLS_POWERLOSS_H

#include <stdint.h>

/* Environment: the file of the record, and the folder below which calls are recorded. */
#define RECORD_FILE "GODWIT_TEST_RECORD"
#define RECORD_DIR  "GODWIT_TEST_RECORD_DIR"

typedef enum rec_kind {
    REC_CREATE,   /* path, file: a new name of a new file */
    REC_MKDIR,    /* path */
    REC_WRITE,    /* file, at, data */
    REC_CUT,      /* file, at = its size now */
    REC_SYNC,     /* file */
    REC_SYNC_DIR, /* path */
    REC_RENAME,   /* path, to */
    REC_LINK,     /* path, to */
    REC_UNLINK,   /* path */
    REC_ACK,      /* data: a text of the driver, who was told that something is done */
} rec_kind;

#define REC_MAGIC 0x67777263u

/* Followed by path, to (without NUL), data. Paths are below the folder. */
struct rec {
    uint32_t magic, kind;
    uint64_t file; /* number of the inode; used again after its end */
    uint64_t at;
    uint32_t path_len, to_len, data_len, zero;
};

#endif

/* The line that shows how far a copy of files is, on a terminal:
 *
 *      43%  1.2 GiB of 2.8 GiB  312 MiB/s  5.2s left  saved 300 MiB  3/120  photos/a.jpg
 *
 * and the one that says how it ended. One thread. */
#ifndef CLIENTS_CLI_COPY_LINE_H
#define CLIENTS_CLI_COPY_LINE_H

#include <godwit/types.h>

#include "protocol/base/buf.h"

/* All-zero is the beginning. */
struct copy_line {
    int64_t files, files_total, bytes, bytes_total, sent_bytes, saved_bytes;
    char path[256]; /* cleaned; cut at its beginning */
    double rate;    /* bytes/s, smoothed over some seconds */
    int64_t rate_ms, rate_bytes;
    bool begun;
};

/* Take what an item says ({files, files_total, bytes, bytes_total, sent_bytes, saved_bytes, path});
 * what it does not say stays. */
void copy_line_take(struct copy_line *p, const gw_value *item, int64_t now_ms);
/* Append the line, at most `width` columns. */
void copy_line_add(const struct copy_line *p, unsigned width, struct buf *out);
/* Append "12 files, 1.2 GiB in 3.4s (361 MiB/s), 12 MiB sent, 99 % saved" from the last item of a
 * copy. */
void copy_line_summary(const gw_value *done, bool dry_run, struct buf *out);
/* The same for one content: "1.2 GiB in 3.4s (361 MiB/s)", and how much of it was there already. */
void copy_line_content(uint64_t bytes, uint64_t moved, double seconds, struct buf *out);

#endif

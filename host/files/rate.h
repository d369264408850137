/* A token bucket: how many bytes may go now, when only so many a second are allowed; and a meter of
 * how fast a connection takes what it is given. One thread. Times are monotonic nanoseconds. */
#ifndef HOST_FILES_RATE_H
#define HOST_FILES_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: no limit. */
struct rate {
    uint64_t per_s; /* bytes; 0: as many as there are */
    uint64_t burst; /* bytes that may go at once after a rest: 50 ms worth, 4 KiB to 1 MiB */
    uint64_t tokens;
    int64_t filled_ns;
};

void rate_init(struct rate *r, uint64_t bytes_per_s, int64_t now_ns);
/* How many of `want` > 0 bytes may go now; 0: none, ask again in *ret_wait_ms [1 ..]. */
size_t rate_allow(struct rate *r, size_t want, int64_t now_ns, int *ret_wait_ms);
/* So many went. */
void rate_take(struct rate *r, size_t bytes);

/* How fast a connection is that is kept busy: bytes over the time since the window began, of which
 * most was spent waiting for it. A connection that never makes its sender wait is fast. */
struct meter {
    int64_t begun_ns;  /* of the present window; 0: not begun */
    int64_t waited_ns; /* in it, for room to write */
    uint64_t bytes;    /* in it */
    uint64_t per_s;    /* of the last whole window; 0: not known, or faster than its sender */
};

#define METER_WINDOW_NS (250 * 1000000LL)

void meter_add(struct meter *m, size_t bytes, int64_t waited_ns, int64_t now_ns);

int64_t rate_now_ns(void);

#endif

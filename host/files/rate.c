#include "host/files/rate.h"

#include <time.h>

#define SECOND_NS   1000000000LL
#define BURST_LEAST 4096u
#define BURST_MOST  (1024u * 1024)

int64_t rate_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

void rate_init(struct rate *r, uint64_t bytes_per_s, int64_t now_ns)
{
    uint64_t burst = bytes_per_s / 20;
    burst = burst < BURST_LEAST ? BURST_LEAST : burst > BURST_MOST ? BURST_MOST : burst;
    *r = (struct rate){.per_s = bytes_per_s, .burst = burst, .tokens = burst, .filled_ns = now_ns};
}

/* Whole tokens only: the time of a part of one stays for the next call. */
static void fill(struct rate *r, int64_t now_ns)
{
    int64_t passed = now_ns - r->filled_ns;
    if (passed <= 0) {
        return;
    }
    double tokens = (double)passed * (double)r->per_s / SECOND_NS;
    if (tokens >= (double)(r->burst - r->tokens)) {
        r->tokens = r->burst;
        r->filled_ns = now_ns;
        return;
    }
    uint64_t whole = (uint64_t)tokens;
    r->tokens += whole;
    r->filled_ns += (int64_t)((double)whole * SECOND_NS / (double)r->per_s);
}

size_t rate_allow(struct rate *r, size_t want, int64_t now_ns, int *ret_wait_ms)
{
    if (r->per_s == 0) {
        return want;
    }
    fill(r, now_ns);
    /* Not byte by byte: a write costs more than its bytes. */
    uint64_t least = want < r->burst / 2 ? want : r->burst / 2;
    if (r->tokens >= least) {
        return want < r->tokens ? want : (size_t)r->tokens;
    }
    double seconds = (double)(least - r->tokens) / (double)r->per_s;
    *ret_wait_ms = seconds > 1 ? 1000 : (int)(seconds * 1000) + 1;
    return 0;
}

void rate_take(struct rate *r, size_t bytes)
{
    if (r->per_s > 0) {
        r->tokens -= bytes < r->tokens ? bytes : r->tokens;
    }
}

void meter_add(struct meter *m, size_t bytes, int64_t waited_ns, int64_t now_ns)
{
    if (m->begun_ns == 0) {
        m->begun_ns = now_ns;
    }
    m->bytes += bytes;
    m->waited_ns += waited_ns;
    int64_t passed = now_ns - m->begun_ns;
    if (passed < METER_WINDOW_NS) {
        return;
    }
    bool waits = m->waited_ns > passed / 2;
    m->per_s = waits ? (uint64_t)((double)m->bytes * SECOND_NS / (double)passed) : 0;
    m->begun_ns = now_ns;
    m->bytes = 0;
    m->waited_ns = 0;
}

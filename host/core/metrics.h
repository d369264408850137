/* What a host counts and measures about itself, and its rendering as Prometheus text (format
 * 0.0.4).
 *
 * An observation costs a few additions: fixed buckets, no allocation, and times read once in a turn
 * of the loop (gw_env.turn_us). What can be counted when it is asked for (agents, links, runners)
 * is not counted here. A new metric is a row in metrics.c and a line in docs/metrics.md. */
#ifndef HOST_CORE_METRICS_H
#define HOST_CORE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include <godwit/err.h>

struct node;
struct buf;

#define HISTOGRAM_BOUNDS 20 /* 10 µs to 30 s; above them one bucket more */

/* Upper bounds, included, ascending. */
extern const int64_t histogram_bounds_us[HISTOGRAM_BOUNDS];

struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* observations of each bucket alone */
    uint64_t sum_us;
};

/* Negative counts as 0. */
static inline void histogram_add(struct histogram *h, int64_t us)
{
    size_t i = 0;
    while (i < HISTOGRAM_BOUNDS && us > histogram_bounds_us[i]) {
        i++;
    }
    h->counts[i]++;
    h->sum_us += us > 0 ? (uint64_t)us : 0;
}
uint64_t histogram_count(const struct histogram *h);

typedef enum message_outcome {
    MESSAGE_OK,
    MESSAGE_ERROR,
    MESSAGE_CRASHED, /* its runner ended, or was not there */
    MESSAGE_OUTCOMES
} message_outcome;
extern const char *const message_outcome_names[MESSAGE_OUTCOMES];

/* Since the host started. In struct node; the loop thread's. */
struct metrics {
    uint64_t messages[MESSAGE_OUTCOMES];
    struct histogram handler; /* RUN sent to DONE received, hooks too */
    struct histogram message; /* taken here to answered */
    struct histogram commit;  /* batch submitted to durable */
    struct histogram move;    /* begun to COMMITTED, at the source */
    uint64_t rollbacks;       /* batches that were certainly not written */
    uint64_t events;
    uint64_t expired; /* messages whose deadline passed before they began, or were accepted */
};

/* A message of an agent has ended `us` after it was taken. */
static inline void metrics_message(struct metrics *m, gw_err err, int64_t us)
{
    m->messages[err == GW_OK ? MESSAGE_OK : err == GW_ECRASHED ? MESSAGE_CRASHED : MESSAGE_ERROR]++;
    histogram_add(&m->message, us);
}

/* Append all rows as text; a failure sticks in `out`. */
void metrics_render(struct node *n, struct buf *out);

#endif

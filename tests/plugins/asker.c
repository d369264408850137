/* An agent that asks others, one after the other or many at once, and says how long it took. For
 * the bench. */
#include <stdlib.h>
#include <time.h>

#include <godwit/agent.h>

#define WINDOW_MAX 256

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static gw_err echo(struct gw_call *call)
{
    return gw_reply_int(call, "n", 1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One at a time: median and 99th percentile. */
static gw_err ping_n(struct gw_call *call, double *us, int64_t n)
{
    gw_id to = gw_arg_id(call, "to");
    for (int64_t i = 0; i < n; i++) {
        gw_value reply;
        double began = now_us();
        GW_TRY(gw_ask(call, to, "echo", gw_nil(), &reply));
        us[i] = now_us() - began;
        gw_value_free(&reply);
    }
    qsort(us, (size_t)n, sizeof *us, by_value);
    GW_TRY(gw_reply_float(call, "p50", us[n / 2]));
    return gw_reply_float(call, "p99", us[n * 99 / 100]);
}

static gw_err ping(struct gw_call *call)
{
    int64_t n = gw_arg_int(call, "n");
    double *us = calloc((size_t)n, sizeof *us);
    gw_err err = us ? ping_n(call, us, n) : GW_ENOMEM;
    free(us);
    return err;
}

/* So many open at a time, to all of them in turn: asks a second. */
static gw_err stream(struct gw_call *call)
{
    const gw_value *to = gw_arg_value(call, "to");
    int64_t n = gw_arg_int(call, "n"), window = gw_arg_int(call, "window"), sent = 0;
    struct gw_future *open[WINDOW_MAX];
    double began = now_us();
    for (int64_t done = 0; done < n; done++) {
        for (; sent < n && sent - done < window; sent++) {
            const gw_value *id = &to->list.items[(size_t)sent % to->list.n];
            GW_TRY(gw_ask_async(call, id->id, "echo", gw_nil(), &open[sent % window]));
        }
        GW_TRY(gw_wait(call, open[done % window], GW_FOREVER, NULL));
    }
    return gw_reply_float(call, "per_s", (double)n * 1e6 / (now_us() - began));
}

static const struct gw_method methods[] = {
    {"echo() -> (n: int)", echo, GW_READ},
    {"ping(to: agent, n: int[1..]) -> (p50: float, p99: float)", ping, GW_READ},
    {"stream(to: [agent], n: int, window: int[1..256]) -> (per_s: float)", stream, GW_READ},
};

GW_AGENT(asker, int, .version = 1, GW_METHODS(methods));

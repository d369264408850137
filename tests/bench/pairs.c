/* Agents that ask agents: of one runner, and of two hosts. They measure by themselves, so that no
 * client stands in between. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/bench.h"

#define MANY 64

struct pair {
    struct gw_client *c;
    char from[GW_ID_TEXT], to[MANY][GW_ID_TEXT];
};

static gw_value call(const struct pair *p, const char *method, gw_value *args)
{
    gw_value r = gw_nil(), reply = gw_nil();
    struct gw_error why;
    struct gw_send_options o = {.args = args};
    must(gw_client_send(p->c, p->from, method, &o, 60000, &r, &why), &why, method);
    must(gw_value_copy(gw_map_get(&r, "reply"), &reply), NULL, method);
    gw_value_free(args);
    gw_value_free(&r);
    return reply;
}

static double member(const gw_value *map, const char *key)
{
    const gw_value *v = gw_map_get(map, key);
    return v && v->kind == GW_FLOAT ? v->f : 0;
}

static void one_at_a_time(const struct pair *p, int64_t n, double *ret_p50, double *ret_p99)
{
    struct samples p50 = {0}, p99 = {0};
    for (int i = 0; i < 5; i++) {
        gw_value args = gw_nil();
        must(gw_map_set(&args, "to", gw_str(p->to[0])), NULL, "args");
        must(gw_map_set(&args, "n", gw_int(n)), NULL, "args");
        gw_value r = call(p, "ping", &args);
        sample_add(&p50, member(&r, "p50"));
        sample_add(&p99, member(&r, "p99"));
        gw_value_free(&r);
    }
    *ret_p50 = sample_at(&p50, 0.5);
    *ret_p99 = sample_at(&p99, 0.5);
    sample_free(&p50);
    sample_free(&p99);
}

static double many_at_once(const struct pair *p, int64_t n)
{
    struct samples rate = {0};
    for (int i = 0; i < 5; i++) {
        gw_value args = gw_nil(), to = gw_nil();
        for (int k = 0; k < MANY; k++) {
            must(gw_list_add(&to, gw_str(p->to[k])), NULL, "args");
        }
        must(gw_map_set(&args, "to", to), NULL, "args");
        must(gw_map_set(&args, "n", gw_int(n)), NULL, "args");
        must(gw_map_set(&args, "window", gw_int(MANY)), NULL, "args");
        gw_value r = call(p, "stream", &args);
        sample_add(&rate, member(&r, "per_s"));
        gw_value_free(&r);
    }
    double median = sample_at(&rate, 0.5);
    sample_free(&rate);
    return median;
}

static void open_pair(struct pair *p, struct gw_client *from, struct gw_client *to)
{
    p->c = from;
    make_agent(from, "asker", p->from);
    for (int i = 0; i < MANY; i++) {
        make_agent(to, "asker", p->to[i]);
    }
}

void case_pairs(struct bench *b)
{
    struct pair here, there;
    double p50, p99;
    const int64_t n = 2000;
    open_pair(&here, b->alpha, b->alpha);
    raw_hops(b);
    one_at_a_time(&here, n, &p50, &p99);
    report("ask_runner_us", p50, "us", p99, (size_t)n * 5, "two socketpair round trips",
           2 * b->raw_pair_us);
    report("ask_runner_per_s", many_at_once(&here, 20000), "1/s", -1, 5, NULL, 0);
    open_pair(&there, b->alpha, b->beta);
    raw_hops(b);
    one_at_a_time(&there, n, &p50, &p99);
    report("ask_remote_us", p50, "us", p99, (size_t)n * 5, "raw hops",
           2 * b->raw_pair_us + b->raw_tcp_us);
    if (b->peer.call_us > 0) {
        report("ask_remote_us_erlang", p50, "us", p99, (size_t)n * 5, "erlang call, TLS",
               b->peer.call_us);
    }
    report("ask_remote_per_s", many_at_once(&there, 20000), "1/s", -1, 5, "erlang call, TLS, 64",
           b->peer.call_per_s_64);
}

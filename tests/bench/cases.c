/* The figures of the main job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define FIVE_S 5000

/* ---- host_start_ms, host_rss_mb ---- */

void case_host(struct bench *b)
{
    struct samples start = {0}, rss = {0};
    char name[16];
    for (int i = 0; i < 7; i++) {
        int pid;
        snprintf(name, sizeof name, "start%d", i % 1);
        double ms = host_start(b, name, NULL, &pid);
        if (i == 0) {
            report("host_first_start_ms", ms, "ms", -1, 1, NULL, 0);
        } else {
            sample_add(&start, ms);
        }
        sample_add(&rss, rss_kb(pid) / 1024);
        host_stop(b, name);
    }
    report("host_start_ms", sample_at(&start, 0.5), "ms", -1, start.n, NULL, 0);
    report("host_rss_mb", sample_at(&rss, 0.5), "MiB", -1, rss.n, NULL, 0);
    sample_free(&start);
    sample_free(&rss);
}

/* ---- create_per_s ---- */

static double create_rate(struct gw_client *c, int total, int window)
{
    struct gw_error why;
    gw_value args = gw_nil(), result = gw_nil();
    must(gw_map_set(&args, "type", gw_str("counter")), NULL, "args");
    int sent = 0, done = 0;
    double began = now_us();
    while (done < total) {
        while (sent < total && sent - done < window) {
            gw_ticket t;
            must(gw_client_start(c, "create", &args, &t, &why), &why, "create");
            sent++;
        }
        gw_ticket any = 0;
        must(gw_client_wait(c, &any, FIVE_S, &result, &why), &why, "create");
        done++;
    }
    double rate = total / ((now_us() - began) / 1e6);
    gw_value_free(&args);
    gw_value_free(&result);
    return rate;
}

void case_create(struct bench *b)
{
    struct samples one = {0}, many = {0};
    for (int i = 0; i < 5; i++) {
        sample_add(&one, create_rate(b->alpha, 1000, 1));
        sample_add(&many, create_rate(b->alpha, 6000, 64));
    }
    report("create_per_s_c1", sample_at(&one, 0.5), "1/s", -1, one.n, "append+fdatasync",
           1e6 / b->raw_sync_us);
    report("create_per_s", sample_at(&many, 0.5), "1/s", -1, many.n, "erlang spawn, not durable",
           b->peer.spawn_per_s);
    sample_free(&one);
    sample_free(&many);
}

/* ---- messages ---- */

static void message_us(struct gw_client *c, const char *agent, const char *method,
                       struct samples *s, int n)
{
    struct gw_error why;
    gw_value result = gw_nil();
    for (int i = 0; i < n; i++) {
        double began = now_us();
        must(gw_client_send(c, agent, method, NULL, FIVE_S, &result, &why), &why, method);
        if (i >= n / 10) {
            sample_add(s, now_us() - began);
        }
    }
    gw_value_free(&result);
}

static double message_rate(struct gw_client *c, char ids[][GW_ID_TEXT], int agents, int total,
                           int window, const char *method)
{
    struct gw_error why;
    gw_value result = gw_nil();
    int sent = 0, done = 0;
    double began = now_us();
    while (done < total) {
        while (sent < total && sent - done < window) {
            gw_value args = gw_nil();
            gw_ticket t;
            must(gw_map_set(&args, "agent", gw_str(ids[sent % agents])), NULL, "args");
            must(gw_map_set(&args, "method", gw_str(method)), NULL, "args");
            must(gw_client_start(c, "send", &args, &t, &why), &why, method);
            gw_value_free(&args);
            sent++;
        }
        gw_ticket any = 0;
        must(gw_client_wait(c, &any, FIVE_S, &result, &why), &why, method);
        done++;
    }
    gw_value_free(&result);
    return total / ((now_us() - began) / 1e6);
}

void case_message(struct bench *b)
{
    static char local[64][GW_ID_TEXT], remote[64][GW_ID_TEXT];
    struct samples s = {0};
    for (int i = 0; i < 64; i++) {
        make_agent(b->alpha, "counter", local[i]);
        make_agent(b->beta, "counter", remote[i]);
    }
    double pair = b->raw_unix_us + b->raw_pair_us;
    message_us(b->alpha, local[0], "get", &s, 3000);
    report("message_local_runner_us", sample_at(&s, 0.5), "us", sample_at(&s, 0.99), s.n,
           "raw hops", pair);
    sample_free(&s);
    message_us(b->alpha, local[0], "increment", &s, 3000);
    report("message_local_durable_us", sample_at(&s, 0.5), "us", sample_at(&s, 0.99), s.n,
           "raw hops + sync", pair + b->raw_sync_us);
    sample_free(&s);
    message_us(b->alpha, remote[0], "get", &s, 3000);
    report("message_remote_us", sample_at(&s, 0.5), "us", sample_at(&s, 0.99), s.n, "raw hops",
           pair + b->raw_tcp_us);
    sample_free(&s);
    message_us(b->alpha, remote[0], "increment", &s, 3000);
    report("message_remote_durable_us", sample_at(&s, 0.5), "us", sample_at(&s, 0.99), s.n,
           "raw hops + sync", pair + b->raw_tcp_us + b->raw_sync_us);
    sample_free(&s);
    report("message_local_per_s", message_rate(b->alpha, local, 64, 50000, 64, "get"), "1/s", -1,
           50000, NULL, 0);
    report("message_durable_per_s", message_rate(b->alpha, local, 64, 20000, 64, "increment"),
           "1/s", -1, 20000, NULL, 0);
    report("message_one_agent_durable_per_s",
           message_rate(b->alpha, local, 1, 20000, 64, "increment"), "1/s", -1, 20000, NULL, 0);
    report("message_remote_per_s", message_rate(b->alpha, remote, 64, 20000, 64, "get"), "1/s", -1,
           20000, NULL, 0);
}

/* ---- deactivate, activate ---- */

void case_sleep(struct bench *b)
{
    char id[GW_ID_TEXT];
    struct samples s = {0}, wake = {0};
    struct gw_error why;
    gw_value r = gw_nil();
    make_agent(b->alpha, "counter", id);
    for (int i = 0; i < 300; i++) {
        double began = now_us();
        must(gw_client_deactivate(b->alpha, id, NULL, FIVE_S, &r, &why), &why, "deactivate");
        must(gw_client_activate(b->alpha, id, FIVE_S, &r, &why), &why, "activate");
        sample_add(&s, (now_us() - began) / 1e3);
        must(gw_client_deactivate(b->alpha, id, NULL, FIVE_S, &r, &why), &why, "deactivate");
        began = now_us();
        must(gw_client_send(b->alpha, id, "get", NULL, FIVE_S, &r, &why), &why, "get");
        sample_add(&wake, now_us() - began);
    }
    report("deactivate_activate_ms", sample_at(&s, 0.5), "ms", sample_at(&s, 0.99), s.n,
           "two syncs", 2 * b->raw_sync_us / 1e3);
    report("wake_on_message_us", sample_at(&wake, 0.5), "us", sample_at(&wake, 0.99), wake.n, NULL,
           0);
    gw_value_free(&r);
    sample_free(&s);
    sample_free(&wake);
}

/* ---- moves, clones ---- */

/* Agent by agent to beta, then back: each move is of an agent that is quiet, not still busy with
 * its arrival. */
static void shuttle(struct bench *b, char ids[][GW_ID_TEXT], int agents, int rounds,
                    struct samples *s)
{
    struct gw_error why;
    gw_value r = gw_nil();
    for (int i = 0; i < rounds * 2; i++) {
        bool there = i % 2 == 0;
        for (int k = 0; k < agents; k++) {
            double began = now_us();
            must(gw_client_dispatch(there ? b->alpha : b->beta, ids[k], there ? "beta" : "alpha",
                                    NULL, 20000, &r, &why),
                 &why, "dispatch");
            sample_add(s, (now_us() - began) / 1e3);
        }
    }
    gw_value_free(&r);
}

static void bounce(struct bench *b, const char *id, int n, struct samples *s)
{
    struct gw_error why;
    gw_value r = gw_nil();
    for (int i = 0; i < n; i++) {
        bool there = i % 2 == 0;
        double began = now_us();
        must(gw_client_dispatch(there ? b->alpha : b->beta, id, there ? "beta" : "alpha", NULL,
                                20000, &r, &why),
             &why, "dispatch");
        sample_add(s, (now_us() - began) / 1e3);
    }
    gw_value_free(&r);
}

static void fill(struct bench *b, const char *id, int64_t bytes)
{
    struct gw_error why;
    gw_value r = gw_nil(), args = gw_nil();
    must(gw_map_set(&args, "bytes", gw_int(bytes)), NULL, "args");
    struct gw_send_options o = {.args = &args};
    must(gw_client_send(b->alpha, id, "fill", &o, 20000, &r, &why), &why, "fill");
    gw_value_free(&args);
    gw_value_free(&r);
}

static void move_large(struct bench *b, const char *name, int64_t bytes, int n)
{
    char id[GW_ID_TEXT];
    struct samples s = {0};
    make_agent(b->alpha, "blob", id);
    fill(b, id, bytes);
    bounce(b, id, n, &s);
    report(name, (double)bytes / 1e6 / (sample_at(&s, 0.5) / 1e3), "MB/s", -1, s.n, NULL, 0);
    sample_free(&s);
}

static double clone_rate(struct gw_client *c, const char *id, int total, int window)
{
    struct gw_error why;
    gw_value args = gw_nil(), result = gw_nil();
    int sent = 0, done = 0;
    must(gw_map_set(&args, "agent", gw_str(id)), NULL, "args");
    double began = now_us();
    while (done < total) {
        for (; sent < total && sent - done < window; sent++) {
            gw_ticket t;
            must(gw_client_start(c, "clone", &args, &t, &why), &why, "clone");
        }
        gw_ticket any = 0;
        must(gw_client_wait(c, &any, FIVE_S, &result, &why), &why, "clone");
        done++;
    }
    gw_value_free(&args);
    gw_value_free(&result);
    return total / ((now_us() - began) / 1e6);
}

/* 1 KiB of state, one move after the other: beside a process that is spawned there with it. */
static void move_1kib(struct bench *b)
{
    char ids[20][GW_ID_TEXT];
    struct samples s = {0};
    for (int i = 0; i < 20; i++) {
        make_agent(b->alpha, "blob", ids[i]);
        fill(b, ids[i], 1024);
    }
    shuttle(b, ids, 20, 10, &s);
    report("move_1kib_ms", sample_at(&s, 0.5), "ms", sample_at(&s, 0.99), s.n,
           "erlang, TLS, not durable", b->peer.move_us / 1e3);
    sample_free(&s);
}

/* ---- batches: a host is drained, then the other one ---- */

static bool count_moved(void *arg, const gw_value *item)
{
    *(int64_t *)arg = gw_map_int(item, "moved", *(int64_t *)arg);
    return true;
}

void case_drain(struct bench *b)
{
    const int agents = 1000, rounds = 20;
    struct samples s = {0};
    struct gw_error why;
    gw_value args = gw_nil();
    char id[GW_ID_TEXT];
    must(gw_map_set(&args, "to", gw_str("any")), NULL, "args");
    int64_t moved = 0;
    must(gw_client_stream(b->beta, "drain", &args, 60000, count_moved, &moved, &why), &why,
         "drain"); /* what earlier cases have left there */
    for (int i = 0; i < agents; i++) {
        make_agent(b->alpha, "counter", id);
    }
    for (int i = 0; i < rounds; i++) {
        usleep(300000); /* arrivals are over: quiet agents */
        double began = now_us();
        must(gw_client_stream(i % 2 ? b->beta : b->alpha, "drain", &args, 60000, count_moved,
                              &moved, &why),
             &why, "drain");
        sample_add(&s, (double)moved / ((now_us() - began) / 1e6));
    }
    report("move_batch_per_s", sample_at(&s, 0.5), "1/s", -1, (size_t)(agents * rounds),
           "erlang, TLS, not durable", b->peer.move_per_s_64);
    gw_value_free(&args);
    sample_free(&s);
}

void case_move(struct bench *b)
{
    char id[GW_ID_TEXT];
    struct samples s = {0};
    char ids[20][GW_ID_TEXT];
    for (int i = 0; i < 20; i++) {
        make_agent(b->alpha, "counter", ids[i]);
    }
    make_agent(b->alpha, "counter", id);
    shuttle(b, ids, 20, 10, &s);
    report("move_small_ms", sample_at(&s, 0.5), "ms", sample_at(&s, 0.99), s.n,
           "three syncs, two round trips", (3 * b->raw_sync_us + 2 * b->raw_tcp_us) / 1e3);
    sample_free(&s);
    bounce(b, id, 200, &s);
    report("move_bounce_ms", sample_at(&s, 0.5), "ms", sample_at(&s, 0.99), s.n, NULL, 0);
    sample_free(&s);
    move_1kib(b);
    move_large(b, "move_1mib_mb_s", 1 << 20, 20);
    move_large(b, "move_16mib_mb_s", 16 << 20, 10);
    report("clone_per_s_c1", clone_rate(b->alpha, id, 500, 1), "1/s", -1, 500, NULL, 0);
    report("clone_per_s", clone_rate(b->alpha, id, 3000, 64), "1/s", -1, 3000, NULL, 0);
}

/* ---- memory ---- */

void case_memory(struct bench *b)
{
    int pid;
    struct gw_error why;
    const int count = 100000;
    host_start(b, "memory", NULL, &pid);
    struct gw_client *c = host_client(b, "memory");
    create_rate(c, 500, 64); /* pools are warm */
    double before = family_pss_kb(pid);
    create_rate(c, count, 64);
    double after = family_pss_kb(pid);
    report("bytes_per_active_agent", (after - before) * 1024 / count, "B", -1, (size_t)count, NULL,
           0);
    gw_value list = gw_nil(), args = gw_nil(), r = gw_nil();
    must(gw_map_set(&args, "limit", gw_int(1000)), NULL, "args");
    for (bool more = true; more;) {
        must(gw_client_call(c, "agents", &args, FIVE_S, &list, &why), &why, "agents");
        const gw_value *agents = gw_map_get(&list, "agents");
        for (size_t i = 0; i < agents->list.n; i++) {
            must(gw_client_deactivate(c, gw_map_str(&agents->list.items[i], "agent", ""), NULL,
                                      FIVE_S, &r, &why),
                 &why, "deactivate");
        }
        const char *next = gw_map_str(&list, "next", NULL);
        more = next != NULL;
        if (more) {
            must(gw_map_set(&args, "after", gw_str(next)), NULL, "args");
        }
    }
    gw_value_free(&list);
    gw_value_free(&args);
    gw_value_free(&r);
    gw_client_close(c);
    /* Inactive ones live only in the host: a fresh start shows what they take, beside one without
     * them. */
    host_stop(b, "memory");
    host_start(b, "memory", NULL, &pid);
    double with = rss_kb(pid);
    host_stop(b, "memory");
    host_start(b, "empty", NULL, &pid);
    double without = rss_kb(pid);
    host_stop(b, "empty");
    report("bytes_per_inactive_agent", (with - without) * 1024 / (count + 500), "B", -1,
           (size_t)count + 500, NULL, 0);
}

/* The bench: starts real hosts in a folder of its own, measures through the client library, prints
 * a table and writes build/bench.json. One case = one function in a cases_*.c file and a row in
 * bench.c. */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <godwit/client.h>
#include <stdint.h>

/* Erlang/OTP, nothing of it durable; 0 = not measured. */
struct peers {
    double spawn_per_s;
    double local_ns, call_local_ns; /* round trips of two processes, to a gen_server */
    double call_us, call_per_s_64;  /* gen_server:call between two nodes over TLS */
    double move_us, move_per_s_64;  /* 1 KiB of state by spawn and send over TLS */
};
void peers_measure(struct peers *p);

struct bench {
    char dir[64], home[80]; /* everything of this run; the home of its hosts */
    const char *program;    /* build/godwit */
    const char *plugins;    /* folder with blob.so and asker.so */
    struct gw_client *alpha, *beta;
    int alpha_pid, beta_pid;
    double raw_unix_us, raw_tcp_us, raw_pair_us; /* floors of this run */
    double raw_sync_us;
    struct peers peer;
};

struct samples {
    double *v;
    size_t n, cap;
};
void sample_add(struct samples *s, double v);
double sample_at(struct samples *s, double quantile); /* sorts */
void sample_free(struct samples *s);

/* Report one figure. p99 < 0 = none; peer NULL, or its value 0 = none, ratio = value / peer value.
 */
void report(const char *name, double value, const char *unit, double p99, size_t count,
            const char *peer, double peer_value);

double now_us(void);
void must(gw_err err, const struct gw_error *why, const char *what);
/* Start a host; returns milliseconds until it serves. */
double host_start(struct bench *b, const char *name, const char *peer, int *ret_pid);
/* The same with further options, ended by NULL. */
double host_start_with(struct bench *b, const char *name, const char *const *options, int *ret_pid);
void host_stop(struct bench *b, const char *name);
/* kill -9; returns when it is gone. */
void host_kill(const char *name);
/* A host that was started otherwise: ended with the bench, however that ends. */
void host_note(const char *name, int pid);
void host_url(struct bench *b, const char *name, char *ret, size_t room);
void host_wait_linked(struct bench *b, const char *name); /* to any other */
struct gw_client *host_client(struct bench *b, const char *name);
double rss_kb(int pid);        /* of the process */
double family_pss_kb(int pid); /* of the process and its children */
double rss_peak_kb(int pid);   /* since it was started, or reset */
void rss_peak_reset(int pid);
double written_bytes(int pid); /* to files and connections */
/* New counter (or other type) on the client's host; its id as text. */
void make_agent(struct gw_client *c, const char *type, char ret[GW_ID_TEXT]);

void raw_floors(struct bench *b);
void raw_hops(struct bench *b); /* the hops among them again: close to what is compared with them */

void case_inline(struct bench *b);
void case_pairs(struct bench *b);
void case_host(struct bench *b);
void case_create(struct bench *b);
void case_message(struct bench *b);
void case_move(struct bench *b);
void case_drain(struct bench *b);
void case_sleep(struct bench *b);
void case_memory(struct bench *b);
void case_sleepers(struct bench *b);
void case_sleepers_1m(struct bench *b);
void case_files(struct bench *b);
void case_artifacts(struct bench *b);
void case_carry(struct bench *b);

#endif

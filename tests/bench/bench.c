#include "agents/runner/runner.h"
#include "tests/bench/bench.h"
#include "tests/bench/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define RESULTS_MAX 96

static struct {
    char name[48], unit[16], peer[48];
    double value, p99, peer_value;
    size_t count;
} results[RESULTS_MAX];
static size_t result_count;

double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

void must(gw_err err, const struct gw_error *why, const char *what)
{
    if (err != GW_OK) {
        fprintf(stderr, "bench: %s: %s (%s)\n", what, why ? why->text : "", gw_err_name(err));
        exit(1);
    }
}

/* ---- samples ---- */

void sample_add(struct samples *s, double v)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->v = realloc(s->v, s->cap * sizeof *s->v);
        if (!s->v) {
            abort();
        }
    }
    s->v[s->n++] = v;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double sample_at(struct samples *s, double quantile)
{
    if (s->n == 0) {
        return 0;
    }
    qsort(s->v, s->n, sizeof *s->v, by_value);
    size_t at = (size_t)(quantile * (double)s->n);
    return s->v[at < s->n ? at : s->n - 1];
}

void sample_free(struct samples *s)
{
    free(s->v);
    *s = (struct samples){0};
}

/* ---- results ---- */

void report(const char *name, double value, const char *unit, double p99, size_t count,
            const char *peer, double peer_value)
{
    if (result_count == RESULTS_MAX) {
        abort();
    }
    size_t i = result_count++;
    peer = peer_value > 0 ? peer : NULL;
    snprintf(results[i].name, sizeof results[i].name, "%s", name);
    snprintf(results[i].unit, sizeof results[i].unit, "%s", unit);
    snprintf(results[i].peer, sizeof results[i].peer, "%s", peer ? peer : "");
    results[i].value = value;
    results[i].p99 = p99;
    results[i].peer_value = peer_value;
    results[i].count = count;
    printf("%-30s %12.2f %-8s", name, value, unit);
    if (p99 >= 0) {
        printf(" p99 %-10.2f", p99);
    } else {
        printf(" %-14s", "");
    }
    printf(" n %-6zu", count);
    if (peer) {
        printf(" %s %.2f (ratio %.2f)", peer, peer_value, value / peer_value);
    }
    printf("\n");
    fflush(stdout);
}

static void write_json(const char *path)
{
    struct utsname u;
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        exit(1);
    }
    uname(&u);
    fprintf(f, "{\"machine\": {\"kernel\": \"%s\", \"cpus\": %ld}, \"results\": [", u.release,
            sysconf(_SC_NPROCESSORS_ONLN));
    for (size_t i = 0; i < result_count; i++) {
        fprintf(f, "%s\n  {\"name\": \"%s\", \"value\": %.3f, \"unit\": \"%s\", \"samples\": %zu",
                i ? "," : "", results[i].name, results[i].value, results[i].unit, results[i].count);
        if (results[i].p99 >= 0) {
            fprintf(f, ", \"p99\": %.3f", results[i].p99);
        }
        if (results[i].peer[0]) {
            fprintf(f, ", \"peer\": \"%s\", \"peer_value\": %.3f, \"ratio\": %.3f", results[i].peer,
                    results[i].peer_value, results[i].value / results[i].peer_value);
        }
        fprintf(f, "}");
    }
    fprintf(f, "\n]}\n");
    fclose(f);
}

static const struct {
    const char *name;
    void (*run)(struct bench *b);
} cases[] = {
    {"inline", case_inline},       {"host", case_host},
    {"create", case_create},       {"pairs", case_pairs},
    {"message", case_message},     {"sleep", case_sleep},
    {"drain", case_drain},         {"move", case_move},
    {"memory", case_memory},       {"files", case_files},
    {"artifacts", case_artifacts}, {"carry", case_carry},
    {"sleepers", case_sleepers},   {"sleepers_1m", case_sleepers_1m},
};

static void clean_up(const char *dir)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", (char *)dir, NULL};
    process_must(argv, NULL);
}

int main(int argc, char **argv)
{
    const char *only = argc > 3 ? argv[3] : NULL;
    if (argc > 1 && strcmp(argv[1], "runner") == 0) { /* of the host that is this program */
        return runner_main(argc - 1, argv + 1);
    }
    if (argc < 3) {
        fputs("usage: bench GODWIT FOLDER-OF-PLUGINS [CASE]\n", stderr);
        return 2;
    }
    struct bench b = {.program = argv[1], .plugins = argv[2]};
    snprintf(b.dir, sizeof b.dir, "/var/tmp/godwit-bench-XXXXXX");
    if (!mkdtemp(b.dir)) {
        perror(b.dir);
        return 1;
    }
    snprintf(b.home, sizeof b.home, "%s/home", b.dir);
    setenv("GODWIT_HOME", b.home, 1);
    unsetenv("GODWIT_HOST");
    raw_floors(&b);
    peers_measure(&b.peer);
    host_start(&b, "alpha", NULL, &b.alpha_pid);
    b.alpha = host_client(&b, "alpha");
    gw_value status = gw_nil();
    struct gw_error why;
    must(gw_client_call(b.alpha, "status", NULL, 5000, &status, &why), &why, "status");
    host_start(&b, "beta", gw_map_str(&status, "url", ""), &b.beta_pid);
    gw_value_free(&status);
    b.beta = host_client(&b, "beta");
    for (int links = 0; links == 0;) { /* both know each other */
        must(gw_client_call(b.alpha, "status", NULL, 5000, &status, &why), &why, "status");
        links = (int)gw_map_int(&status, "links", 0);
    }
    gw_value_free(&status);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!only || strcmp(only, cases[i].name) == 0) {
            cases[i].run(&b);
        }
    }
    gw_client_close(b.alpha);
    gw_client_close(b.beta);
    host_stop(&b, "alpha");
    host_stop(&b, "beta");
    clean_up(b.dir);
    if (!only) {
        write_json("build/bench.json");
    }
    return 0;
}

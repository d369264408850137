/* Hosts with very many sleeping agents. The store is filled through the persistence interface: the
 * rows of one agent that a host made and put to sleep, over and over under new ids. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "persistence/store.h"
#include "protocol/base/id.h"
#include "tests/bench/bench.h"

#define PATIENCE_MS 60000
#define BATCH       2000
#define TOUCHED     200 /* of the sleepers are woken */

struct model { /* rows of one sleeping agent */
    struct buf agent, state;
    bool found;
};

static bool take_agent(void *arg, struct span key, struct span value)
{
    struct model *m = arg;
    buf_reset(&m->agent);
    buf_add(&m->agent, value.p, value.n);
    return !(m->found = key.n == GW_ID_BYTES + 8);
}

static bool take_state(void *arg, struct span key, struct span value)
{
    struct model *m = arg;
    (void)key;
    buf_add(&m->state, value.p, value.n);
    return false;
}

static gw_id sleeper_id(size_t i)
{
    uint8_t random[10] = {0};
    uint64_t mixed = (i + 1) * 0x9E3779B97F4A7C15ULL;
    memcpy(random + 2, &mixed, sizeof mixed);
    return id_make(1700000000000 + (int64_t)(i / 10), random);
}

static void fill_store(const char *dir, const gw_id *like, size_t count)
{
    struct store *store;
    struct gw_error why;
    struct model m = {0};
    const struct span prefix = {like->b, GW_ID_BYTES};
    const struct store_range agents = {.table = TABLE_AGENTS, .prefix = prefix};
    const struct store_range states = {.table = TABLE_STATES, .prefix = prefix};
    must(store_open_sqlite(dir, &store, &why), &why, dir);
    must(store_scan(store, &agents, take_agent, &m), NULL, "agents");
    must(store_scan(store, &states, take_state, &m), NULL, "states");
    for (size_t i = 0; m.found && i < count; i += BATCH) {
        struct store_batch *batch = store_batch_new();
        gw_err err = GW_OK;
        for (size_t k = i; k < i + BATCH && k < count; k++) {
            gw_id id = sleeper_id(k);
            uint8_t key[GW_ID_BYTES + 8];
            memcpy(key, id.b, GW_ID_BYTES);
            store_u64(key + GW_ID_BYTES, 1);
            struct span at = {key, sizeof key};
            store_batch_put(batch, TABLE_AGENTS, at, buf_span(&m.agent));
            store_batch_put(batch, TABLE_STATES, at, buf_span(&m.state));
        }
        store_apply(store, &batch, 1, &err);
        must(err, NULL, "fill");
        store_batch_free(batch);
        if (store_wants_idle(store)) {
            store_idle(store);
        }
    }
    store_idle(store);
    store_close(store);
    buf_free(&m.agent);
    buf_free(&m.state);
}

static gw_id make_model(struct bench *b, const char *name)
{
    gw_id made;
    int pid;
    char id[GW_ID_TEXT];
    struct gw_error why;
    gw_value r = gw_nil();
    host_start(b, name, NULL, &pid);
    struct gw_client *c = host_client(b, name);
    make_agent(c, "counter", id);
    must(gw_client_deactivate(c, id, NULL, PATIENCE_MS, &r, &why), &why, "deactivate");
    gw_value_free(&r);
    gw_client_close(c);
    host_stop(b, name);
    must(gw_id_parse(id, &made), NULL, "id");
    return made;
}

static void wake_some(struct bench *b, const char *name, size_t count, struct samples *s)
{
    struct gw_error why;
    gw_value r = gw_nil();
    struct gw_client *c = host_client(b, name);
    for (size_t i = 0; i < TOUCHED; i++) {
        gw_id id = sleeper_id(count / TOUCHED * i);
        char text[GW_ID_TEXT];
        double began = now_us();
        must(gw_client_send(c, gw_id_text(&id, text), "get", NULL, PATIENCE_MS, &r, &why), &why,
             "get");
        sample_add(s, now_us() - began);
    }
    gw_value_free(&r);
    gw_client_close(c);
}

static void measure(struct bench *b, const char *name, size_t count, const char *label)
{
    char figure[48], dir[300];
    struct samples start = {0}, rss = {0}, wake = {0};
    gw_id like = make_model(b, name);
    snprintf(dir, sizeof dir, "%s/hosts/%s", b->home, name);
    fill_store(dir, &like, count);
    for (int i = 0; i < 3; i++) {
        int pid;
        sample_add(&start, host_start(b, name, NULL, &pid));
        sample_add(&rss, rss_kb(pid) / 1024);
        if (i == 2) {
            wake_some(b, name, count, &wake);
        }
        host_stop(b, name);
    }
    snprintf(figure, sizeof figure, "sleepers_%s_start_ms", label);
    report(figure, sample_at(&start, 0.5), "ms", -1, start.n, NULL, 0);
    snprintf(figure, sizeof figure, "sleepers_%s_rss_mb", label);
    report(figure, sample_at(&rss, 0.5), "MiB", -1, rss.n, NULL, 0);
    snprintf(figure, sizeof figure, "sleepers_%s_wake_us", label);
    report(figure, sample_at(&wake, 0.5), "us", sample_at(&wake, 0.99), wake.n, NULL, 0);
    sample_free(&start);
    sample_free(&rss);
    sample_free(&wake);
}

void case_sleepers(struct bench *b)
{
    measure(b, "sleepers", 100000, "100k");
}

void case_sleepers_1m(struct bench *b)
{
    measure(b, "million", 1000000, "1m");
}

/* A fetch from its begin to its end: over real connections, with hosts that play their part as the
 * test says, honest or not. */
#include "tests/unit/host/server_rig.h"

#include <pthread.h>
#include <stdatomic.h>

#include "host/fetch_inner.h"
#include "tests/unit/persistence/scratch.h"

#define BYTES (6u * 1024 * 1024)

static struct host host; /* who fetches: beta */
static struct bulk *bulk;
static struct scratch dir_here, dir_there;
static struct chunk_store *here, *there;
static struct artifact_info want, other; /* what alpha has */

/* --- the mesh, as fetch.c sees it: in the place of host/core/asks.c --- */

/* All are alpha behind one address; which of them it is tells the number of the connection. */
static struct peer_part {
    const char *name;
    bool whole, silent;
    int part; /* chunks of the sample that it says to have */
} peers[6];
static size_t peer_count;
static unsigned asked;

static struct node_host view(size_t i)
{
    return (struct node_host){alpha->id, peers[i].name, server_url(server), false, true};
}

gw_err node_pick_host(struct node *node, const char *selector, struct node_host *ret,
                      struct gw_error *why)
{
    (void)node;
    for (size_t i = 0; i < peer_count; i++) {
        if (strcmp(peers[i].name, selector) == 0) {
            *ret = view(i);
            return GW_OK;
        }
    }
    return gw_fail(why, GW_EHOST_NOT_FOUND, "no \"%s\"", selector);
}

void node_each_host(struct node *node, bool (*visit)(void *arg, const struct node_host *host),
                    void *arg)
{
    (void)node;
    for (size_t i = 0; i < peer_count; i++) {
        struct node_host v = view(i);
        if (!visit(arg, &v)) {
            return;
        }
    }
}

struct answer {
    node_asked done;
    void *arg;
    const struct peer_part *of;
    bool part;
};

static void give_answer(evutil_socket_t fd, short what, void *arg)
{
    struct answer *a = arg;
    gw_value v = {.kind = GW_MAP};
    struct gw_error why = {0};
    char hash[CHUNK_HASH_TEXT];
    (void)fd, (void)what;
    if (a->of->silent) {
        gw_fail(&why, GW_ETIMEOUT, "it is silent");
    } else if (a->part) {
        assert_int_equal(gw_map_set(&v, "chunks", gw_int(a->of->part)), GW_OK);
    } else {
        assert_int_equal(gw_map_set(&v, "whole", gw_bool(a->of->whole)), GW_OK);
        assert_int_equal(gw_map_set(&v, "hash", gw_str(chunk_hash_text(&want.hash, hash))), GW_OK);
        assert_int_equal(gw_map_set(&v, "size", gw_uint(want.size)), GW_OK);
        assert_int_equal(gw_map_set(&v, "name", gw_str("a \x1b[2J name")), GW_OK);
    }
    a->done(a->arg, why.code, &v, &why);
    gw_value_free(&v);
    free(a);
}

void node_ask(struct node *node, const struct host_id *to, const char *op, gw_value args,
              int64_t timeout_ms, node_asked done, void *arg)
{
    struct answer *a = calloc(1, sizeof *a);
    struct timeval now = {0};
    /* they have one host_id: their names tell them apart */
    const struct candidate *c = (const void *)((const char *)to - offsetof(struct candidate, id));
    size_t i = 0;
    (void)node, (void)timeout_ms;
    while (strcmp(peers[i].name, c->name) != 0) {
        i++;
    }
    assert_string_equal(op, "artifacts.have");
    *a = (struct answer){done, arg, &peers[i], gw_map_get(&args, "chunks") != NULL};
    gw_value_free(&args);
    asked++;
    assert_int_equal(event_base_once(base, -1, EV_TIMEOUT, give_answer, a, &now), 0);
}

/* --- what alpha serves, by the number of the connection --- */

typedef gw_err (*part)(struct bulk_request *r, struct bulk_io *io);
static part parts[16];
static atomic_uint connections;

static gw_err honest(struct bulk_request *r, struct bulk_io *io)
{
    return fetch_serve(there, io, r->why);
}

static gw_err serve(struct bulk_request *r, struct bulk_io *io)
{
    unsigned n = atomic_fetch_add(&connections, 1);
    return n < 16 && parts[n] ? parts[n](r, io) : honest(r, io);
}

/* The recipe of something else under the hash that was asked for. */
static gw_err other_recipe(struct bulk_request *r, struct bulk_io *io)
{
    struct record_io rec;
    struct record in;
    struct chunk_ref refs[64];
    size_t n;
    GW_TRY(record_init(&rec, io, false, NULL, r->why));
    gw_err err = record_next(&rec, &in);
    err = err ? err : artifact_recipe(there, &other.id, 0, refs, 64, &n, r->why);
    if (err == GW_OK) {
        struct buf *out = record_begin(&rec, CHUNKS_PART, 6);
        mp_uint(out, other.size);
        mp_str(out, "other");
        mp_str(out, "a/b");
        fetch_wire_refs(out, refs, n);
        mp_bool(out, false);
        mp_int(out, 0);
        err = record_end(&rec);
        err = err ? err : record_next(&rec, &in);
    }
    record_deinit(&rec);
    return err;
}

/* Wrong bytes for the first chunk that is asked for. */
static gw_err liar(struct bulk_request *r, struct bulk_io *io)
{
    struct record_io rec;
    struct record in;
    struct chunk_ref refs[LIMIT_FETCH_WANT];
    size_t n;
    GW_TRY(record_init(&rec, io, false, NULL, r->why));
    gw_err err = record_next(&rec, &in);
    err = err ? err : fetch_wire_read_refs(&in.fields, refs, LIMIT_FETCH_WANT, &n);
    if (err == GW_OK) {
        uint8_t *p = calloc(1, CHUNK_MAX);
        for (size_t at = 0; at < refs[0].len && err == GW_OK; at += RECORD_DATA_BYTES) {
            size_t some = refs[0].len - at;
            some = some < RECORD_DATA_BYTES ? some : RECORD_DATA_BYTES;
            err = record_data(&rec, at + some == refs[0].len ? RECORD_LAST : 0, refs[0].hash.b, p,
                              some);
        }
        free(p);
    }
    err = err ? err : record_next(&rec, &in);
    record_deinit(&rec);
    return err;
}

/* Takes what is asked and says nothing, until the asker goes. */
static gw_err mute(struct bulk_request *r, struct bulk_io *io)
{
    uint8_t some[512];
    size_t n;
    gw_err err;
    (void)r;
    while ((err = bulk_read(io, some, sizeof some, &n)) == GW_OK) {
    }
    return err;
}

static gw_err shut(struct bulk_request *r, struct bulk_io *io)
{
    (void)r, (void)io;
    return GW_OK;
}

static const struct bulk_service services[] = {{"chunks", serve}, {0}};
static const struct bulk_route routes[] = {{0}};

static gw_err wants(void *arg, const struct http_head *head, api_role role, bool *ret,
                    struct gw_error *why)
{
    (void)arg;
    return bulk_wants(bulk, head, role, ret, why);
}

static void on_handover(void *arg, struct handover *h)
{
    (void)arg;
    bulk_take(bulk, h);
}

static const struct server_ops bulk_ops = {on_request, on_link, wants, on_handover};

static struct chunk_store *open_store(struct scratch *d)
{
    struct chunk_options o = {.quota = 0};
    struct chunk_store *s = NULL;
    struct gw_error why;
    char path[256];
    scratch_make(d);
    if (chunk_store_open(scratch_path(d, "artifacts", path), &o, &s, &why) != GW_OK) {
        fail_msg("%s", why.text);
    }
    return s;
}

static struct artifact_info put(uint64_t seed, size_t n)
{
    struct artifact_meta meta = {.name = "noise"};
    struct artifact_writer *w = NULL;
    struct artifact_info made;
    struct gw_error why;
    uint64_t *p = malloc(n);
    for (size_t i = 0; i < n / 8; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        p[i] = seed ^ (seed >> 29);
    }
    assert_int_equal(artifact_writer_new(there, &meta, &w, &why), GW_OK);
    assert_int_equal(artifact_writer_add(w, p, n, &why), GW_OK);
    assert_int_equal(artifact_writer_finish(w, NULL, &made, &why), GW_OK);
    artifact_writer_free(w);
    free(p);
    return made;
}

static int64_t wall_ms(void *ctx)
{
    (void)ctx;
    return 1800000000000;
}

static int open_all(void **state)
{
    struct gw_error why = {0};
    struct server_config c = config("127.0.0.1:0");
    struct bulk_config bc = {.base = base, .trust = beta, .services = services, .routes = routes};
    (void)state;
    c.ops = &bulk_ops;
    c.max_connections = 64;
    here = open_store(&dir_here);
    there = open_store(&dir_there);
    want = put(1, BYTES);
    other = put(2, BYTES);
    memset(parts, 0, sizeof parts);
    memset(peers, 0, sizeof peers);
    atomic_store(&connections, 0);
    asked = 0;
    assert_int_equal(bulk_open(&bc, &bulk, &why), GW_OK);
    host = (struct host){.base = base, .bulk = bulk, .chunks = here, .env = {.wall_ms = wall_ms}};
    return server_open(&c, &server, &why) == GW_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    server_close(server);
    bulk_close(bulk);
    turns_ms(5);
    assert_true(LIST_EMPTY(&host.fetches));
    assert_int_equal(host.fetch_count, 0);
    free(host.fetched);
    chunk_store_close(here);
    chunk_store_close(there);
    scratch_remove(&dir_here);
    scratch_remove(&dir_there);
    return 0;
}

static void mesh(size_t n, const struct peer_part *of)
{
    memcpy(peers, of, n * sizeof *of);
    peer_count = n;
}

/* --- who fetches --- */

static struct ended {
    unsigned count;
    gw_err err;
    struct gw_error why;
    struct fetch_result result;
    struct fetch_from sources[8];
    char names[8][16];
} ended;

static void on_end(void *arg, gw_err err, const struct fetch_result *r, const struct gw_error *why)
{
    struct ended *e = arg;
    e->count++;
    e->err = err;
    if (err != GW_OK) {
        assert_null(r);
        e->why = *why;
        return;
    }
    e->result = *r;
    for (size_t i = 0; i < r->source_count; i++) {
        e->sources[i] = r->sources[i];
        snprintf(e->names[i], sizeof e->names[i], "%s", r->sources[i].name);
    }
}

static struct fetch *begin(const struct fetch_want *w)
{
    ended = (struct ended){0};
    struct fetch *f = fetch_start(&host, w, on_end, &ended);
    assert_int_equal(ended.count, 0); /* never inside the call */
    return f;
}

static gw_err fetch_it(void)
{
    struct fetch_want w = {.name = {.by_hash = true, .hash = want.hash}};
    begin(&w);
    turn_until(ended.count);
    turn_until(host.fetch_count == 0);
    return ended.err;
}

static bool is_here(void)
{
    struct artifact_info info;
    struct gw_error why;
    return artifact_find(here, &want.hash, &info, &why) == GW_OK && info.size == BYTES;
}

static void test_from_one_host(void **state)
{
    (void)state;
    mesh(2, (struct peer_part[]){{"none", .whole = false}, {"whole", .whole = true}});
    assert_int_equal(fetch_it(), GW_OK);
    assert_true(is_here());
    assert_int_equal(ended.result.source_count, 1);
    assert_string_equal(ended.names[0], "whole");
    assert_int_equal(ended.sources[0].bytes, BYTES);
    assert_int_equal(ended.result.bytes, BYTES);
    assert_false(ended.result.was_here);
    assert_true(ended.result.info.expires_ms > 0); /* a copy does not stay */
    assert_int_equal(host.fetched_count, 1);
    assert_int_equal(host.fetched[0].bytes, BYTES);
    unsigned before = asked;
    assert_int_equal(fetch_it(), GW_OK);
    assert_true(ended.result.was_here);
    assert_int_equal(ended.result.source_count, 0);
    assert_int_equal(asked, before); /* nobody is asked for what is here */
}

static void test_by_its_id(void **state)
{
    struct fetch_want w = {.name = {.id = want.id, .host = "whole"}, .find = true};
    (void)state;
    mesh(2, (struct peer_part[]){{"none", .silent = true}, {"whole", .whole = true}});
    begin(&w);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_OK); /* only what it is */
    assert_int_equal(ended.result.info.size, BYTES);
    assert_string_equal(ended.result.info.name, "a ?[2J name");
    assert_string_equal(ended.names[0], "whole");
    assert_int_equal(atomic_load(&connections), 0);
    w.find = false;
    begin(&w);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_OK);
    assert_true(is_here());
}

static void test_nobody_has_it(void **state)
{
    (void)state;
    mesh(2, (struct peer_part[]){{"none", .whole = false}, {"silent", .silent = true}});
    assert_int_equal(fetch_it(), GW_ENOT_FOUND);
    peer_count = 0;
    assert_int_equal(fetch_it(), GW_ENOT_FOUND);
    assert_int_equal(atomic_load(&connections), 0);
}

static void test_a_recipe_of_something_else(void **state)
{
    (void)state;
    mesh(2, (struct peer_part[]){{"liar", .whole = true}, {"whole", .whole = true}});
    parts[0] = other_recipe; /* its chunks are fetched, and then the hash is wrong */
    assert_int_equal(fetch_it(), GW_OK);
    assert_true(is_here());
    mesh(1, (struct peer_part[]){{"liar", .whole = true}});
    struct gw_error why;
    assert_int_equal(artifact_remove(here, &ended.result.info.id, &why), GW_OK);
    atomic_store(&connections, 0);
    assert_int_equal(fetch_it(), GW_ECORRUPT);
    assert_false(is_here());
}

static void test_a_recipe_that_does_not_come(void **state)
{
    (void)state;
    mesh(2, (struct peer_part[]){{"gone", .whole = true}, {"whole", .whole = true}});
    parts[0] = shut;
    assert_int_equal(fetch_it(), GW_OK);
    assert_true(is_here());
}

static void test_a_source_that_lies_is_done_without(void **state)
{
    (void)state;
    mesh(3, (struct peer_part[]){
                {"one", .whole = true}, {"two", .whole = true}, {"three", .whole = true}});
    parts[1] = liar; /* 0 is the recipe */
    parts[2] = shut;
    assert_int_equal(fetch_it(), GW_OK);
    assert_true(is_here());
    assert_int_equal(ended.result.source_count, 1);
    assert_int_equal(ended.result.bytes, BYTES);
}

static void test_all_sources_lie(void **state)
{
    (void)state;
    mesh(2, (struct peer_part[]){{"one", .whole = true}, {"two", .whole = true}});
    parts[1] = parts[2] = liar;
    assert_int_equal(fetch_it(), GW_ECORRUPT);
    assert_non_null(strstr(ended.why.text, "it sent other bytes"));
    assert_false(is_here());
    assert_int_equal(fetch_it(), GW_OK); /* they have come to their senses */
}

/* Who has a part is a source as well, the first one being mute for a while. */
static void test_a_part_helps(void **state)
{
    (void)state;
    mesh(3,
         (struct peer_part[]){{"whole", .whole = true}, {"part", .part = 3}, {"none", .part = 0}});
    assert_int_equal(fetch_it(), GW_OK);
    assert_int_equal(asked, 3 + 2);
    assert_int_equal(ended.result.bytes, BYTES);
    assert_int_equal(atomic_load(&connections), 3); /* recipe, whole, part */
}

static void test_it_can_be_called_off(void **state)
{
    struct fetch_want w = {.name = {.by_hash = true, .hash = want.hash}};
    (void)state;
    mesh(2, (struct peer_part[]){{"one", .whole = true}, {"two", .whole = true}});
    parts[1] = parts[2] = mute;
    struct fetch *f = begin(&w);
    turn_until(atomic_load(&connections) == 3);
    uint64_t bytes, of;
    fetch_progress(f, &bytes, &of);
    assert_int_equal(bytes, 0);
    assert_int_equal(of, BYTES);
    fetch_cancel(f);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_ECANCELLED);
    turn_until(host.fetch_count == 0);
    parts[0] = mute; /* and while the recipe is awaited, by the end of the host */
    atomic_store(&connections, 0);
    begin(&w);
    turn_until(atomic_load(&connections) == 1);
    host.stopping = true;
    fetch_stop(&host);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_ESTOPPING);
    turn_until(host.fetch_count == 0);
}

static void test_so_many_at_once(void **state)
{
    struct fetch_want w = {.name = {.by_hash = true, .hash = want.hash}};
    struct ended many[LIMIT_FETCH_RUNNING + 1];
    unsigned busy = 0;
    (void)state;
    memset(many, 0, sizeof many);
    mesh(1, (struct peer_part[]){{"none", .whole = false}});
    for (size_t i = 0; i <= LIMIT_FETCH_RUNNING; i++) {
        (void)fetch_start(&host, &w, on_end, &many[i]);
    }
    for (size_t i = 0; i <= LIMIT_FETCH_RUNNING; i++) {
        turn_until(many[i].count);
        assert_true(many[i].err == GW_EBUSY || many[i].err == GW_ENOT_FOUND);
        busy += many[i].err == GW_EBUSY;
    }
    assert_int_equal(busy, 1);
    turn_until(host.fetch_count == 0);
}

static void test_chunks_from_one_host(void **state)
{
    struct chunk_ref refs[64];
    struct gw_error why;
    size_t n;
    bool missing[64];
    (void)state;
    mesh(1, (struct peer_part[]){{"whole", .whole = true}});
    assert_int_equal(artifact_recipe(there, &want.id, 0, refs, 64, &n, &why), GW_OK);
    refs[n].hash = chunk_hash_of("nobody has this", 15);
    refs[n].len = 15;
    ended = (struct ended){0};
    fetch_chunks(&host, refs, n + 1, "whole", on_end, &ended);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_OK);
    assert_int_equal(ended.result.missing, 1);
    assert_int_equal(ended.result.chunks, n);
    assert_int_equal(chunk_store_missing(here, refs, n, missing, &why), GW_OK);
    for (size_t i = 0; i < n; i++) {
        assert_false(missing[i]);
    }
    ended = (struct ended){0};
    fetch_chunks(&host, refs, n, "nobody", on_end, &ended);
    turn_until(ended.count);
    assert_int_equal(ended.err, GW_EHOST_NOT_FOUND);
    turn_until(host.fetch_count == 0);
}

static void test_names(void **state)
{
    static const char *const bad[] = {"",   "@alpha", "abc", "00000000000000000000000000",
                                      "zz", "../x",   NULL};
    struct fetch_name name;
    struct gw_error why;
    char text[200], hash[CHUNK_HASH_TEXT], id[GW_ID_TEXT];
    (void)state;
    snprintf(text, sizeof text, "%s@alpha", chunk_hash_text(&want.hash, hash));
    assert_int_equal(fetch_name_parse(text, &name, &why), GW_OK);
    assert_true(name.by_hash);
    assert_memory_equal(&name.hash, &want.hash, sizeof name.hash);
    assert_string_equal(name.host, "alpha");
    assert_int_equal(fetch_name_parse(gw_id_text(&want.id, id), &name, &why), GW_OK);
    assert_false(name.by_hash);
    assert_true(gw_id_equal(&name.id, &want.id));
    assert_string_equal(name.host, "");
    text[strlen(text) - 5] = '\0'; /* "...@" */
    assert_int_equal(fetch_name_parse(text, &name, &why), GW_EARG);
    for (size_t i = 0; bad[i]; i++) {
        if (strlen(bad[i]) != 26) {
            assert_int_equal(fetch_name_parse(bad[i], &name, &why), GW_EARG);
        }
    }
}

#define TEST_FETCH(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FETCH(test_from_one_host),
        TEST_FETCH(test_by_its_id),
        TEST_FETCH(test_nobody_has_it),
        TEST_FETCH(test_a_recipe_of_something_else),
        TEST_FETCH(test_a_recipe_that_does_not_come),
        TEST_FETCH(test_a_source_that_lies_is_done_without),
        TEST_FETCH(test_all_sources_lie),
        TEST_FETCH(test_a_part_helps),
        TEST_FETCH(test_it_can_be_called_off),
        TEST_FETCH(test_so_many_at_once),
        TEST_FETCH(test_chunks_from_one_host),
        TEST_FETCH(test_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

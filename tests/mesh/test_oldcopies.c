/* A host whose store is put back to an older copy: its peers remind it, it lets nothing run, and
 * after a start with --restored each agent is there once and new messages are applied once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/base/mp.h"
#include "protocol/frame.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/trap.h"

struct set { /* A and B at h0, C at h1 */
    struct mesh *m;
    gw_id a, b, c;
    char at[GW_ID_TEXT], bt[GW_ID_TEXT], ct[GW_ID_TEXT];
    struct store *backup;
};

static void open_set(struct set *s, uint64_t seed, size_t hosts)
{
    *s = (struct set){.m = mesh_new(seed, hosts)};
    mesh_start_all(s->m);
    s->a = mesh_create(s->m, 0, "tally");
    s->b = mesh_create(s->m, 0, "tally");
    s->c = mesh_create(s->m, 1, "tally");
    gw_id_text(&s->a, s->at);
    gw_id_text(&s->b, s->bt);
    gw_id_text(&s->c, s->ct);
    mesh_excuse(s->m, &s->a); /* epochs fall when a disk does: looked at in expect_whole */
    mesh_excuse(s->m, &s->b);
    mesh_excuse(s->m, &s->c);
}

static void close_set(struct set *s)
{
    store_close(s->backup);
    mesh_free(s->m);
}

static gw_err add(struct mesh *m, size_t via, const gw_id *agent)
{
    static unsigned number;
    char key[32];
    (void)snprintf(key, sizeof key, "add-%u", ++number);
    return mesh_add(m, via, agent, key);
}

static void must_add(struct mesh *m, size_t via, const gw_id *agent)
{
    gw_err err = add(m, via, agent);
    mesh_assert(m, err == GW_OK);
}

/* What `status` says of the store of a host. */
static bool stands(struct mesh *m, size_t host, const char *how)
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "status", "{}");
    bool same = strcmp(gw_map_str(&v, "standing", ""), how) == 0;
    gw_value_free(&v);
    return same;
}

struct wanted {
    struct mesh *m;
    size_t host;
    const char *how;
};
static bool is_so(void *arg)
{
    struct wanted *w = arg;
    return mesh_alive(w->m, w->host) && mesh_ready(w->m, w->host) && stands(w->m, w->host, w->how);
}
static void wait_for(struct mesh *m, size_t host, const char *how)
{
    for (int i = 0; i < 600 && !is_so(&(struct wanted){m, host, how}); i++) {
        mesh_run(m, 100);
    }
    mesh_assert(m, is_so(&(struct wanted){m, host, how}));
}

/* The state of `host` in the list of host `via`. */
static bool seen_as(struct mesh *m, size_t via, size_t host, const char *state)
{
    gw_value v = gw_nil();
    bool same = false;
    mesh_must(m, via, &v, "hosts", "{}");
    const gw_value *hosts = gw_map_get(&v, "hosts");
    for (size_t i = 0; i < hosts->list.n; i++) {
        const gw_value *one = &hosts->list.items[i];
        same |= strcmp(gw_map_str(one, "name", ""), mesh_host_name(m, host)) == 0 &&
                strcmp(gw_map_str(one, "state", ""), state) == 0;
    }
    gw_value_free(&v);
    return same;
}

static void put_back(struct set *s, size_t host, bool restored)
{
    mesh_crash(s->m, host);
    mesh_put_back(s->m, host, s->backup, restored);
    mesh_start(s->m, host);
}

static void restart_restored(struct set *s, size_t host)
{
    struct store *now;
    mesh_crash(s->m, host);
    now = mesh_backup(s->m, host);
    mesh_put_back(s->m, host, now, true);
    store_close(now);
    mesh_start(s->m, host);
}

static void expect_whole(struct set *s)
{
    mesh_heal(s->m);
    mesh_expect_whole(s->m);
    for (size_t i = 0; i < 2; i++) {
        mesh_assert(s->m, stands(s->m, i, "ok"));
    }
}

/* `seed` odd: the copy is made while the host is down, else while it runs. */
static void make_backup(struct set *s, size_t host, uint64_t seed)
{
    if (seed % 2) {
        mesh_crash(s->m, host);
        s->backup = mesh_backup(s->m, host);
        mesh_start(s->m, host);
        mesh_start_all(s->m);
    } else {
        s->backup = mesh_backup(s->m, host);
    }
}

static void test_old_store_is_noticed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct set s;
        open_set(&s, seed, 3);
        must_add(s.m, 0, &s.a);
        make_backup(&s, 0, seed);
        must_add(s.m, 0, &s.a);
        assert_int_equal(mesh_move(s.m, 0, &s.a, 1), GW_OK);
        must_add(s.m, 2, &s.a);
        put_back(&s, 0, false);
        wait_for(s.m, 0, "stale");
        mesh_run(s.m, 500);
        assert_true(seen_as(s.m, 0, 0, "stale"));
        assert_true(seen_as(s.m, 1, 0, "stale"));
        assert_int_equal(add(s.m, 0, &s.b), GW_ESTORE_STALE);
        assert_int_equal(mesh_op(s.m, 0, NULL, "create", "{'type': 'tally'}"), GW_ESTORE_STALE);
        assert_int_equal(add(s.m, 1, &s.a), GW_OK); /* the living one */
        mesh_must(s.m, 0, NULL, "show", "{'agent': '%s'}", s.bt);
        mesh_crash(s.m, 0); /* it stays so, also alone */
        for (size_t i = 1; i < 3; i++) {
            mesh_part(s.m, 0, i, true);
        }
        mesh_start(s.m, 0);
        wait_for(s.m, 0, "stale");
        for (size_t i = 1; i < 3; i++) {
            mesh_part(s.m, 0, i, false);
        }
        restart_restored(&s, 0);
        wait_for(s.m, 0, "ok");
        expect_whole(&s);
        uint64_t epoch;
        mesh_assert(s.m, mesh_where(s.m, &s.a, &epoch) == 1 && epoch == 2);
        mesh_assert(s.m, mesh_where(s.m, &s.b, &epoch) == 0 && epoch == 2);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.a) == 4);
        assert_int_equal(add(s.m, 0, &s.b), GW_OK);
        assert_int_equal(mesh_move(s.m, 2, &s.b, 2), GW_OK);
        mesh_must(s.m, 0, NULL, "dispose", "{'agent': '%s'}", s.at); /* the copy */
        mesh_run(s.m, 1000);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.a) == 4 && mesh_count(s.m, 2, &s.a) == 4);
        mesh_crash(s.m, 0);
        mesh_start_all(s.m);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.a) == 4);
        close_set(&s);
    }
}

/* It went round after the copy was made: what it was in between is lost, it is not, and it can go
 * where its old epochs are known. */
static void test_agent_that_came_back(void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed <= 14; seed++) {
        struct set s;
        uint64_t epoch;
        open_set(&s, seed, 3);
        make_backup(&s, 0, seed);
        assert_int_equal(mesh_move(s.m, 0, &s.a, 1), GW_OK);
        must_add(s.m, 0, &s.a);
        assert_int_equal(mesh_move(s.m, 0, &s.a, 0), GW_OK);
        put_back(&s, 0, true);
        wait_for(s.m, 0, "ok");
        expect_whole(&s);
        mesh_assert(s.m, mesh_where(s.m, &s.a, &epoch) == 0 && epoch == 4);
        assert_int_equal(mesh_move(s.m, 1, &s.a, 1), GW_OK);
        must_add(s.m, 2, &s.a);
        mesh_assert(s.m, mesh_count(s.m, 2, &s.a) == 1);
        expect_whole(&s);
        close_set(&s);
    }
}

static void relay(struct mesh *m, size_t via, const char *from, const char *to, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        mesh_must(m, via, NULL, "send", "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s'}}",
                  from, to);
    }
}

/* Both ends tell each other before, between and after: nothing new is taken for something old. */
static void test_streams_go_on(void **state)
{
    (void)state;
    for (uint64_t seed = 21; seed <= 26; seed++) {
        struct set s;
        open_set(&s, seed, 3);
        relay(s.m, 0, s.at, s.ct, 2);
        relay(s.m, 1, s.ct, s.at, 2);
        mesh_run(s.m, 2000);
        make_backup(&s, 0, seed);
        relay(s.m, 0, s.at, s.ct, 5);
        relay(s.m, 1, s.ct, s.at, 5);
        relay(s.m, 0, s.bt, s.ct, 3); /* a stream that the copy does not know */
        mesh_must(s.m, 0, NULL, "publish", "{'topic': 'none'}");
        mesh_run(s.m, 2000);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.c) == 10);
        put_back(&s, 0, seed % 3 != 0);
        if (seed % 3 == 0) { /* while it is held the other end waits */
            wait_for(s.m, 0, "stale");
            relay(s.m, 1, s.ct, s.at, 1);
            mesh_run(s.m, 3000);
            restart_restored(&s, 0);
        }
        int64_t waited = seed % 3 == 0;
        wait_for(s.m, 0, "ok");
        mesh_run(s.m, 1000);
        relay(s.m, 0, s.at, s.ct, 4);
        relay(s.m, 0, s.bt, s.ct, 4);
        relay(s.m, 1, s.ct, s.at, 4);
        expect_whole(&s);
        mesh_run(s.m, 30000);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.c) == 18);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.a) == 2 + waited + 4);
        assert_int_equal(mesh_move(s.m, 0, &s.a, 2), GW_OK); /* the base goes along */
        mesh_must(s.m, 2, NULL, "send", "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s'}}",
                  s.at, s.bt);
        relay(s.m, 2, s.at, s.ct, 1);
        mesh_run(s.m, 3000);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.c) == 19 && mesh_count(s.m, 1, &s.b) == 1);
        close_set(&s);
    }
}

/* The same copy is put back twice. */
static void test_twice_from_the_same_copy(void **state)
{
    struct set s;
    (void)state;
    open_set(&s, 31, 3);
    make_backup(&s, 0, 31);
    for (int i = 0; i < 3; i++) {
        relay(s.m, 0, s.at, s.ct, 3);
        mesh_run(s.m, 2000);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.c) == 3 * (i + 1));
        put_back(&s, 0, true);
        wait_for(s.m, 0, "ok");
        mesh_run(s.m, 1000);
        expect_whole(&s);
    }
    close_set(&s);
}

/* ... and a disk that is full, or a crash, at each commit of the second time: what it takes then as
 * the number of its start is durable before anybody hears of it. */
static void test_twice_with_faults(void **state)
{
    static const commit_fate fates[] = {COMMIT_FAIL, COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER};
    (void)state;
    for (size_t i = 0; i < 3 * 8; i++) {
        struct set s;
        struct trap t = {.k = 1 + i / 3, .fate = fates[i % 3]};
        open_set(&s, 600 + i, 3);
        make_backup(&s, 0, 31);
        put_back(&s, 0, true);
        wait_for(s.m, 0, "ok");
        relay(s.m, 0, s.at, s.ct, 3);
        mesh_run(s.m, 2000);
        mesh_crash(s.m, 0);
        trap_arm(&t, s.m);
        put_back(&s, 0, true);
        wait_for(s.m, 0, "ok");
        mesh_on_commit(s.m, NULL, NULL);
        mesh_crash(s.m, 0);
        mesh_start(s.m, 0);
        mesh_run(s.m, 3000);
        mesh_assert(s.m, stands(s.m, 0, "ok"));
        relay(s.m, 0, s.at, s.ct, 3);
        mesh_run(s.m, 2000);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.c) == 6);
        expect_whole(&s);
        close_set(&s);
    }
}

/* Nobody who remembers can be reached: it serves at once, and is told when they meet. */
static void test_alone(void **state)
{
    struct set s;
    (void)state;
    open_set(&s, 41, 3);
    make_backup(&s, 0, 42);
    must_add(s.m, 0, &s.b);
    mesh_run(s.m, 2000);
    mesh_part(s.m, 0, 1, true);
    mesh_part(s.m, 0, 2, true);
    put_back(&s, 0, false);
    wait_for(s.m, 0, "ok");
    for (int i = 0; i < 30; i++) { /* beyond the number that the others remember */
        must_add(s.m, 0, &s.b);
    }
    mesh_run(s.m, 20000);
    mesh_part(s.m, 0, 1, false);
    wait_for(s.m, 0, "stale");
    mesh_part(s.m, 0, 1, true);
    restart_restored(&s, 0); /* and so alone, too: after a while it does not wait any more */
    wait_for(s.m, 0, "restored");
    assert_int_equal(add(s.m, 0, &s.b), GW_EBUSY);
    wait_for(s.m, 0, "ok");
    must_add(s.m, 0, &s.b);
    mesh_part(s.m, 0, 1, false);
    mesh_part(s.m, 0, 2, false);
    expect_whole(&s);
    close_set(&s);
}

/* Who has an agent cannot be reached while the old copy is restored: both run, until they meet. */
static void test_owner_out_of_reach(void **state)
{
    (void)state;
    for (int restarted = 0; restarted < 3; restarted++) { /* 2: as restored, once more */
        struct set s;
        uint64_t epoch;
        open_set(&s, 45, 3);
        must_add(s.m, 0, &s.a);
        make_backup(&s, 0, 46);
        assert_int_equal(mesh_move(s.m, 0, &s.a, 1), GW_OK);
        must_add(s.m, 1, &s.a);
        mesh_run(s.m, 2000);
        mesh_crash(s.m, 0);
        mesh_part(s.m, 0, 1, true);
        mesh_part(s.m, 1, 2, true);
        put_back(&s, 0, true);
        wait_for(s.m, 0, "restored");
        wait_for(s.m, 0, "ok");
        must_add(s.m, 0, &s.a);
        if (restarted == 1) {
            mesh_crash(s.m, 0);
            mesh_start(s.m, 0);
            mesh_run(s.m, 1000);
        } else if (restarted == 2) {
            mesh_part(s.m, 0, 1, false);
            mesh_part(s.m, 1, 2, false);
            restart_restored(&s, 0);
            wait_for(s.m, 0, "ok");
        }
        expect_whole(&s);
        mesh_assert(s.m, mesh_where(s.m, &s.a, &epoch) == 1 && epoch == 2);
        mesh_assert(s.m, mesh_where(s.m, &s.b, NULL) == 0);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.a) == 2 && mesh_count(s.m, 2, &s.a) == 2);
        close_set(&s);
    }
}

static void test_both_restored(void **state)
{
    (void)state;
    for (uint64_t seed = 51; seed <= 54; seed++) {
        struct set s;
        uint64_t epoch;
        open_set(&s, seed, 3);
        relay(s.m, 0, s.at, s.ct, 2);
        mesh_run(s.m, 1000);
        s.backup = mesh_backup(s.m, 0);
        struct store *other = NULL;
        assert_int_equal(mesh_move(s.m, 0, &s.b, 1), GW_OK);
        if (seed % 2) {
            other = mesh_backup(s.m, 1); /* B is at both of them */
        }
        relay(s.m, 0, s.at, s.ct, 2);
        mesh_run(s.m, 1000);
        other = other ? other : mesh_backup(s.m, 1);
        mesh_run(s.m, 1000);
        relay(s.m, 0, s.at, s.ct, 2);
        mesh_run(s.m, 2000);
        int64_t got = seed % 2 ? 2 : 4;
        mesh_crash(s.m, 0);
        mesh_crash(s.m, 1);
        mesh_put_back(s.m, 0, s.backup, true);
        mesh_put_back(s.m, 1, other, true);
        mesh_start_all(s.m);
        wait_for(s.m, 0, "ok");
        wait_for(s.m, 1, "ok");
        expect_whole(&s);
        mesh_assert(s.m, mesh_where(s.m, &s.b, &epoch) == 1 && epoch == 3);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.c) == got);
        relay(s.m, 0, s.at, s.ct, 2);
        relay(s.m, 1, s.ct, s.at, 2);
        mesh_run(s.m, 3000);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.c) == got + 2);
        mesh_assert(s.m, mesh_count(s.m, 0, &s.a) == 2);
        store_close(other);
        close_set(&s);
    }
}

/* The copy has an agent as staged that became active after it was made. */
struct catching {
    struct set *s;
    bool done;
};
static mesh_fate catch_commit(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct catching *c = arg;
    if (frame->kind == FRAME_COMMIT && from == 1 && to == 0 && !c->done) {
        c->done = true;
        c->s->backup = mesh_backup(c->s->m, 0);
    }
    return FATE_PASS;
}

static void test_staged_in_the_copy(void **state)
{
    (void)state;
    for (int moved_on = 0; moved_on < 2; moved_on++) {
        struct set s;
        struct catching c = {&s, false};
        uint64_t epoch;
        open_set(&s, 61, 3);
        mesh_on_frame(s.m, catch_commit, &c);
        assert_int_equal(mesh_move(s.m, 1, &s.c, 0), GW_OK);
        mesh_assert(s.m, c.done);
        must_add(s.m, 1, &s.c);
        if (moved_on) {
            assert_int_equal(mesh_move(s.m, 1, &s.c, 2), GW_OK);
        }
        mesh_run(s.m, 3000);
        put_back(&s, 0, true);
        wait_for(s.m, 0, "ok");
        expect_whole(&s);
        mesh_assert(s.m, mesh_where(s.m, &s.c, &epoch) == (moved_on ? 2 : 0) && epoch == 3);
        mesh_assert(s.m, mesh_count(s.m, 1, &s.c) == moved_on);
        assert_int_equal(mesh_move(s.m, 1, &s.c, 1), GW_OK);
        expect_whole(&s);
        close_set(&s);
    }
}

/* A member that greets the restored host again and again, and answers nothing. */
static mesh_fate pester(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct buf *hello = arg;
    if (frame->kind == FRAME_HELLO && from == 1 && to == 0) {
        buf_reset(hello);
        buf_add(hello, frame->rest.p, (size_t)(frame->rest.end - frame->rest.p));
    }
    return frame->kind == FRAME_REPLY && from == 1 && to == 0 ? FATE_LOSE : FATE_PASS;
}

static void test_greeted_without_end(void **state)
{
    struct set s;
    struct buf hello = {0};
    (void)state;
    open_set(&s, 61, 3);
    make_backup(&s, 0, 62);
    mesh_on_frame(s.m, pester, &hello);
    put_back(&s, 0, true);
    wait_for(s.m, 0, "restored");
    mesh_run(s.m, 1000);
    for (int i = 0; i < 60 && !stands(s.m, 0, "ok"); i++) {
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_HELLO, 0, 3);
        buf_add(&frame, hello.data, hello.len);
        frame_end(&frame, at);
        mesh_inject(s.m, 1, 0, &frame);
        buf_free(&frame);
        mesh_run(s.m, 500);
    }
    mesh_assert(s.m, stands(s.m, 0, "ok"));
    mesh_on_frame(s.m, NULL, NULL);
    must_add(s.m, 0, &s.b);
    expect_whole(&s);
    buf_free(&hello);
    close_set(&s);
}

/* Each commit of the restored host, and of its first moments, fails or is the last of its process.
 */
static void test_restoring_is_broken_off(void **state)
{
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    (void)state;
    for (size_t f = 0; f < 3; f++) {
        struct trap t = {.fired = true};
        for (size_t k = f == 2; k < 30 && t.fired;
             k++) { /* a start whose first commit fails ends */
            struct set s;
            open_set(&s, 71 + k, 3);
            make_backup(&s, 0, k);
            relay(s.m, 0, s.at, s.ct, 2);
            assert_int_equal(mesh_move(s.m, 0, &s.b, 1), GW_OK);
            mesh_run(s.m, 2000);
            mesh_crash(s.m, 0);
            t = (struct trap){.k = k, .fate = fates[f]};
            trap_arm(&t, s.m);
            put_back(&s, 0, true);
            mesh_run(s.m, 5000);
            if (f == 0 && k == 0) { /* nothing is known of the word of the operator */
                restart_restored(&s, 0);
            }
            wait_for(s.m, 0, "ok");
            mesh_on_commit(s.m, NULL, NULL);
            relay(s.m, 0, s.at, s.ct, 2);
            expect_whole(&s);
            mesh_assert(s.m, mesh_where(s.m, &s.b, NULL) == 1);
            mesh_assert(s.m, mesh_count(s.m, 2, &s.c) == 4);
            close_set(&s);
        }
        assert_false(t.fired); /* all were reached */
    }
}

/* Killed at any commit, hosts stand where they stood. */
static void test_a_crash_is_no_old_copy(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct set s;
        open_set(&s, 100 + seed, 3);
        for (size_t i = 0; i < 4; i++) {
            struct trap t = {
                .k = seed / 2 + i * 3, .host = i % 3, .fate = COMMIT_CRASH_BEFORE + seed % 2};
            trap_arm(&t, s.m);
            struct mesh_call *call =
                mesh_ask(s.m, 1, "dispatch", "{'agent': '%s', 'to': 'h%zu'}", s.at, i % 3);
            (void)add(s.m, 1, &s.b);
            (void)mesh_wait(s.m, call, 3000);
            mesh_call_free(call);
            mesh_run(s.m, 2000);
            mesh_crash(s.m, (seed + i) % 3);
            mesh_heal(s.m);
        }
        expect_whole(&s);
        for (size_t i = 0; i < 3; i++) {
            mesh_assert(s.m, actor_events(s.m, i, "host.stale") == 0);
        }
        close_set(&s);
    }
}

/* What hosts remember of each other does not keep them awake. */
static commit_fate count_commit(void *arg, size_t host)
{
    (void)host;
    ++*(size_t *)arg;
    return COMMIT_PASS;
}

static void test_idle_hosts_write_nothing(void **state)
{
    struct set s;
    size_t commits = 0;
    (void)state;
    open_set(&s, 91, 3);
    relay(s.m, 0, s.at, s.ct, 3);
    mesh_run(s.m, 5000);
    mesh_on_commit(s.m, count_commit, &commits);
    mesh_run(s.m, 60000);
    assert_int_equal(commits, 0);
    close_set(&s);
}

/* A peer cannot talk a host out of its store. */
static void test_forged_verdict(void **state)
{
    struct set s;
    uint8_t bytes[16] = {1};
    (void)state;
    open_set(&s, 81, 2);
    for (uint64_t boot = 0; boot < 3; boot++) {
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_VERDICT, 0, 5);
        mp_uint(&frame, GW_ESTORE_STALE);
        mp_uint(&frame, boot * 1000);
        mp_bin(&frame, bytes, sizeof bytes);
        mp_uint(&frame, 1000000);
        mp_bin(&frame, bytes, boot == 2 ? 3 : sizeof bytes);
        frame_end(&frame, at);
        mesh_inject(s.m, 1, 0, &frame);
        buf_free(&frame);
    }
    mesh_run(s.m, 1000);
    wait_for(s.m, 0, "ok");
    must_add(s.m, 1, &s.a);
    close_set(&s);
}

/* A second link in the name of h0 at h1, over which comes the HELLO that h0 has sent, or one of
 * another instance. */
struct listening {
    struct buf hello;
    bool mute; /* PROBE is lost */
};
static mesh_fate listen(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct listening *l = arg;
    if (frame->kind == FRAME_HELLO && from == 0 && to == 1) {
        buf_reset(&l->hello);
        buf_add(&l->hello, frame->rest.p, (size_t)(frame->rest.end - frame->rest.p));
    }
    return l->mute && frame->kind == FRAME_PROBE ? FATE_LOSE : FATE_PASS;
}

static void second_link(struct set *s, const struct listening *l, bool other)
{
    struct host_id id = mesh_host_id(s->m, 0);
    struct buf hello = {0};
    buf_add(&hello, l->hello.data, l->hello.len);
    uint8_t *at = memmem(hello.data, hello.len, "instance", 8);
    mesh_assert(s->m, at);
    at[8 + 2 + 3] ^= other; /* the name, the head of 16 bytes */
    const struct frame frame = {.kind = FRAME_HELLO, .rest = mp_over(buf_span(&hello))};
    node_peer_rival(mesh_node(s->m, 1), &id);
    node_rival_frame(mesh_node(s->m, 1), &id, &frame);
    buf_free(&hello);
}

static void test_second_links(void **state)
{
    struct set s;
    struct listening l = {0};
    struct host_id id;
    (void)state;
    open_set(&s, 95, 2);
    id = mesh_host_id(s.m, 0);
    mesh_on_frame(s.m, listen, &l);
    mesh_cut(s.m, 0, 1);
    mesh_run(s.m, 10000);
    second_link(&s, &l, false); /* the same process has dialled again */
    mesh_assert(s.m, mesh_rivals_taken(s.m, 1) == 1);
    node_rival_down(mesh_node(s.m, 1), &id);

    second_link(&s, &l, true); /* another one, and the first lives */
    mesh_run(s.m, 2000);
    mesh_assert(s.m, mesh_rivals_ended(s.m, 1) == 1 && mesh_rival_word(s.m, 1)->len > 0);
    mesh_inject(s.m, 1, 0, mesh_rival_word(s.m, 1)); /* which knows that this was itself */
    mesh_run(s.m, 1000);
    mesh_assert(s.m, mesh_fatal(s.m, 0) == GW_OK);
    mesh_assert(s.m, actor_events(s.m, 1, "host.copied") == 1);

    l.mute = true; /* ... and the first does not answer */
    second_link(&s, &l, true);
    mesh_run(s.m, 2500);
    mesh_assert(s.m, mesh_rivals_taken(s.m, 1) == 1);
    mesh_run(s.m, 1000);
    mesh_assert(s.m, mesh_rivals_taken(s.m, 1) == 2 && mesh_rivals_ended(s.m, 1) == 1);
    node_rival_down(mesh_node(s.m, 1), &id);

    second_link(&s, &l, true); /* ... and its link goes */
    mesh_cut(s.m, 0, 1);
    mesh_run(s.m, 6000);
    mesh_assert(s.m, mesh_rivals_taken(s.m, 1) == 3);

    node_peer_rival(mesh_node(s.m, 1), &id); /* one that says nothing */
    mesh_run(s.m, 6000);
    mesh_assert(s.m, mesh_rivals_ended(s.m, 1) == 2);
    node_peer_rival(mesh_node(s.m, 1), &id);
    mesh_on_frame(s.m, NULL, NULL);
    buf_free(&l.hello);
    close_set(&s);
}

/* What frames about stores hold is whatever a member likes. */
static void test_hostile_frames(void **state)
{
    static const frame_kind kinds[] = {FRAME_STANDING, FRAME_VERDICT, FRAME_PROBE, FRAME_ALIVE};
    struct set s;
    (void)state;
    open_set(&s, 96, 2);
    for (int i = 0; i < 400; i++) {
        struct buf frame = {0};
        size_t fields = mesh_random(s.m, 7);
        size_t at = frame_begin(&frame, kinds[mesh_random(s.m, 4)], 0, fields);
        for (size_t f = 0; f < fields; f++) {
            uint8_t bytes[20] = {(uint8_t)mesh_random(s.m, 256)};
            switch (mesh_random(s.m, 4)) {
            case 0: mp_uint(&frame, mesh_random(s.m, UINT64_MAX)); break;
            case 1: mp_bin(&frame, bytes, mesh_random(s.m, 2) ? 16 : mesh_random(s.m, 20)); break;
            case 2: mp_uint(&frame, mesh_random(s.m, 80)); break;
            default: mp_str(&frame, "text"); break;
            }
        }
        frame_end(&frame, at);
        mesh_inject(s.m, 1, 0, &frame);
        buf_free(&frame);
    }
    mesh_run(s.m, 2000);
    wait_for(s.m, 0, "ok");
    mesh_assert(s.m, mesh_fatal(s.m, 0) == GW_OK);
    mesh_start_all(s.m);
    must_add(s.m, 1, &s.a);
    close_set(&s);
}

static void test_hostile_hello(void **state)
{
    struct set s;
    struct listening l = {0};
    (void)state;
    open_set(&s, 97, 2);
    mesh_on_frame(s.m, listen, &l);
    mesh_cut(s.m, 0, 1);
    mesh_run(s.m, 5000);
    mesh_on_frame(s.m, NULL, NULL);
    for (int i = 0; i < 300; i++) {
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_HELLO, 0, 3);
        size_t from = frame.len;
        buf_add(&frame, l.hello.data, l.hello.len);
        for (size_t flips = mesh_random(s.m, 4); flips-- > 0;) {
            frame.data[from + mesh_random(s.m, l.hello.len)] = (uint8_t)mesh_random(s.m, 256);
        }
        frame_end(&frame, at);
        mesh_inject(s.m, 0, 1, &frame);
        buf_free(&frame);
        mesh_run(s.m, mesh_random(s.m, 100));
    }
    mesh_run(s.m, 70000); /* a peer that was dropped is dialled again */
    mesh_crash(s.m, 0);
    mesh_start_all(s.m);
    mesh_run(s.m, 2000);
    mesh_assert(s.m, stands(s.m, 1, "ok"));
    buf_free(&l.hello);
    close_set(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_store_is_noticed),
        cmocka_unit_test(test_agent_that_came_back),
        cmocka_unit_test(test_streams_go_on),
        cmocka_unit_test(test_twice_from_the_same_copy),
        cmocka_unit_test(test_twice_with_faults),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_owner_out_of_reach),
        cmocka_unit_test(test_both_restored),
        cmocka_unit_test(test_staged_in_the_copy),
        cmocka_unit_test(test_greeted_without_end),
        cmocka_unit_test(test_restoring_is_broken_off),
        cmocka_unit_test(test_a_crash_is_no_old_copy),
        cmocka_unit_test(test_idle_hosts_write_nothing),
        cmocka_unit_test(test_forged_verdict),
        cmocka_unit_test(test_second_links),
        cmocka_unit_test(test_hostile_frames),
        cmocka_unit_test(test_hostile_hello),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

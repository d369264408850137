/* Topics: each publication reaches each subscriber once, in its publisher's order, whoever moves,
 * sleeps or crashes meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/scene.h"

#define SUBS 3

struct club {
    struct mesh *m;
    gw_id speaker, subs[SUBS]; /* the speaker at h0, sub i at h<i> */
};

static gw_err send(struct mesh *m, size_t via, const gw_id *agent, const char *method,
                   const char *args, const char *key)
{
    char id[GW_ID_TEXT];
    return mesh_op(m, via, NULL, "send",
                   "{'agent': '%s', 'method': '%s', 'args': {%s}, 'key': '%s'}",
                   gw_id_text(agent, id), method, args, key);
}

static void must(struct mesh *m, const gw_id *agent, const char *method, const char *args)
{
    static unsigned n;
    char key[32];
    snprintf(key, sizeof key, "must-%u", n++);
    assert_int_equal(send(m, 0, agent, method, args, key), GW_OK);
}

static void club_open(struct club *c, uint64_t seed)
{
    c->m = mesh_new(seed, 3);
    mesh_start_all(c->m);
    c->speaker = mesh_create(c->m, 0, "tally");
    for (size_t i = 0; i < SUBS; i++) {
        c->subs[i] = mesh_create(c->m, i, "tally");
        must(c->m, &c->subs[i], "follow", "'topic': 'news'");
    }
    mesh_run(c->m, 500);
}

static void start_dead(struct mesh *m)
{
    for (size_t h = 0; h < 3; h++) {
        if (!mesh_alive(m, h)) {
            mesh_start(m, h);
        }
    }
}

/* Until it is acknowledged, through changing hosts, under one key. */
static void announce(struct club *c, size_t number)
{
    char args[64], key[32];
    gw_err err = GW_OK;
    snprintf(args, sizeof args, "'topic': 'news', 'number': %zu", number);
    snprintf(key, sizeof key, "say-%zu", number);
    for (size_t i = 0; i < 20; i++) {
        err = send(c->m, (number + i) % 3, &c->speaker, "announce", args, key);
        if (err == GW_OK) {
            return;
        }
        start_dead(c->m);
        mesh_run(c->m, 500);
    }
    mesh_fail(c->m, "publication %zu is never acknowledged: %s", number, gw_err_name(err));
}

/* What an agent heard of a topic: "0 1 2". Static storage. */
static const char *heard(struct mesh *m, const gw_id *agent, const char *topic)
{
    static char text[2048];
    char word[80];
    size_t n = 0, len = (size_t)snprintf(word, sizeof word, "%s#", topic);
    const char *at = scene_history(m, 0, agent);
    text[0] = '\0';
    while ((at = strstr(at, word))) {
        at += len;
        n += (size_t)snprintf(text + n, sizeof text - n, n ? " %ld" : "%ld", strtol(at, NULL, 10));
    }
    return text;
}

static void expect_all(struct club *c, size_t count)
{
    char want[2048] = "";
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(want + n, sizeof want - n, n ? " %zu" : "%zu", i);
    }
    for (size_t i = 0; i < SUBS; i++) {
        const char *got = heard(c->m, &c->subs[i], "news");
        if (strcmp(got, want) != 0) {
            mesh_fail(c->m, "subscriber %zu has heard: %s", i, got);
        }
    }
}

static int64_t known(struct mesh *m, size_t host, const char *topic)
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "topics", "{'topic': '%s'}", topic);
    const gw_value *list = gw_map_get(&v, "topics");
    int64_t n = list && list->list.n > 0 ? gw_map_int(&list->list.items[0], "subscribers", -1) : 0;
    gw_value_free(&v);
    return n;
}

/* --- who hears what --- */

static void test_scopes(void **state)
{
    (void)state;
    struct club c;
    club_open(&c, 1);
    must(c.m, &c.subs[0], "follow", "'topic': 'local', 'mesh': false");
    must(c.m, &c.subs[1], "follow", "'topic': 'local', 'mesh': false");
    must(c.m, &c.subs[2], "follow", "'topic': 'local', 'mesh': true");
    mesh_run(c.m, 500);
    for (size_t i = 0; i < 3; i++) {
        announce(&c, i);
    }
    must(c.m, &c.speaker, "announce", "'topic': 'local', 'number': 7");
    must(c.m, &c.speaker, "announce", "'topic': 'nobody', 'number': 8");
    mesh_run(c.m, 2000);
    expect_all(&c, 3);
    assert_string_equal(heard(c.m, &c.subs[0], "local"), "7");
    assert_string_equal(heard(c.m, &c.subs[1], "local"), "");
    assert_string_equal(heard(c.m, &c.subs[2], "local"), "7");
    assert_int_equal(known(c.m, 0, "local"), 2);
    assert_int_equal(known(c.m, 1, "local"), 2);
    assert_int_equal(known(c.m, 2, "news"), SUBS);
    assert_int_equal(known(c.m, 2, "nobody"), 0);
    mesh_free(c.m);
}

/* A publisher may hear itself, and a subscription ends. */
static void test_unsubscribe(void **state)
{
    (void)state;
    struct club c;
    club_open(&c, 2);
    must(c.m, &c.speaker, "follow", "'topic': 'news'");
    announce(&c, 0);
    mesh_run(c.m, 1000);
    must(c.m, &c.subs[1], "unfollow", "'topic': 'news'");
    must(c.m, &c.subs[1], "unfollow", "'topic': 'never'");
    announce(&c, 1);
    mesh_run(c.m, 2000);
    assert_string_equal(heard(c.m, &c.speaker, "news"), "0 1");
    assert_string_equal(heard(c.m, &c.subs[1], "news"), "0");
    assert_string_equal(heard(c.m, &c.subs[2], "news"), "0 1");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(known(c.m, i, "news"), SUBS);
        mesh_crash(c.m, i);
    }
    mesh_start_all(c.m);
    mesh_run(c.m, 1000);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(known(c.m, i, "news"), SUBS);
    }
    mesh_free(c.m);
}

/* A host that could not be told: the owner does not take it, and the entry goes without a word. */
static void test_stale_entries_heal(void **state)
{
    (void)state;
    for (int dispose = 0; dispose < 2; dispose++) {
        struct club c;
        char id[GW_ID_TEXT];
        club_open(&c, 3);
        mesh_part(c.m, 0, 1, true);
        mesh_run(c.m, 100);
        if (dispose) {
            mesh_expect_disposed(c.m, &c.subs[1]);
            mesh_must(c.m, 1, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&c.subs[1], id));
        } else {
            assert_int_equal(send(c.m, 1, &c.subs[1], "unfollow", "'topic': 'news'", "u"), GW_OK);
        }
        assert_int_equal(known(c.m, 0, "news"), SUBS);
        announce(&c, 0);
        mesh_heal(c.m);
        mesh_run(c.m, 20000);
        assert_int_equal(known(c.m, 0, "news"), SUBS - 1);
        assert_int_equal(actor_events(c.m, 0, "message.failed"), 0);
        if (!dispose) {
            assert_string_equal(heard(c.m, &c.subs[1], "news"), "");
            must(c.m, &c.subs[1], "follow", "'topic': 'news'"); /* and again */
            mesh_run(c.m, 500);
            announce(&c, 1);
            mesh_run(c.m, 1000);
            assert_string_equal(heard(c.m, &c.subs[1], "news"), "1");
        }
        mesh_free(c.m);
    }
}

/* --- once, and in order --- */

static void test_across_moves_and_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct club c;
        club_open(&c, seed);
        for (size_t i = 0; i < 20; i++) {
            announce(&c, i);
            const gw_id *who = mesh_random(c.m, 3) ? &c.subs[mesh_random(c.m, SUBS)] : &c.speaker;
            switch (mesh_random(c.m, 6)) {
            case 0:
            case 1: (void)mesh_move(c.m, 0, who, mesh_random(c.m, 3)); break;
            case 2:
                mesh_run(c.m, (int64_t)mesh_random(c.m, 3));
                mesh_crash(c.m, mesh_random(c.m, 3));
                mesh_start_all(c.m);
                break;
            case 3: mesh_cut(c.m, 0, 1 + mesh_random(c.m, 2)); break;
            default: break;
            }
        }
        mesh_heal(c.m);
        mesh_run(c.m, 60000);
        mesh_expect_whole(c.m);
        expect_all(&c, 20);
        mesh_free(c.m);
    }
}

struct crash_at {
    size_t host, k, seen;
    commit_fate fate;
    bool fired;
};
static commit_fate at_commit(void *arg, size_t host)
{
    struct crash_at *x = arg;
    if (x->fired || host != x->host || x->seen++ != x->k) {
        return COMMIT_PASS;
    }
    x->fired = true;
    return x->fate;
}

/* Each commit of each host, before and after, while a subscriber moves and two things are said. */
static void test_crash_at_each_commit(void **state)
{
    (void)state;
    size_t fired = 0;
    for (size_t host = 0; host < 3; host++) {
        for (size_t k = 0; k < 12; k++) {
            for (commit_fate fate = COMMIT_CRASH_BEFORE; fate <= COMMIT_FAIL; fate++) {
                struct club c;
                struct crash_at x = {.host = host, .k = k, .fate = fate};
                club_open(&c, 5);
                mesh_on_commit(c.m, at_commit, &x);
                char id[GW_ID_TEXT];
                struct mesh_call *move = mesh_ask(c.m, 2, "dispatch", "{'agent': '%s', 'to': 'h2'}",
                                                  gw_id_text(&c.subs[1], id));
                for (size_t i = 0; i < 2; i++) {
                    announce(&c, i);
                }
                mesh_call_free(move);
                mesh_heal(c.m);
                mesh_run(c.m, 20000);
                expect_all(&c, 2);
                fired += x.fired;
                mesh_free(c.m);
            }
        }
    }
    assert_in_range(fired, 30, 108);
}

/* One that sleeps, and whose host is down: it is there when it is back. */
static void test_down_and_asleep(void **state)
{
    (void)state;
    struct club c;
    char id[GW_ID_TEXT];
    club_open(&c, 6);
    mesh_must(c.m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}",
              gw_id_text(&c.subs[1], id));
    mesh_crash(c.m, 1);
    mesh_crash(c.m, 2);
    mesh_crash(c.m, 0); /* what it has heard is on disk */
    mesh_start(c.m, 0);
    mesh_run(c.m, 2000);
    for (size_t i = 0; i < 3; i++) {
        char args[64], key[16];
        snprintf(args, sizeof args, "'topic': 'news', 'number': %zu", i);
        snprintf(key, sizeof key, "k%zu", i);
        assert_int_equal(send(c.m, 0, &c.speaker, "announce", args, key), GW_OK);
    }
    mesh_heal(c.m);
    mesh_run(c.m, 20000);
    assert_int_equal(mesh_move(c.m, 0, &c.subs[1], 0), GW_OK);
    mesh_must(c.m, 0, NULL, "activate", "{'agent': '%s'}", gw_id_text(&c.subs[1], id));
    mesh_run(c.m, 2000);
    expect_all(&c, 3);
    mesh_free(c.m);
}

/* --- people and tools --- */

static void publish(struct club *c, size_t number, const char *key)
{
    mesh_must(c->m, 0, NULL, "publish", "{'topic': 'news', 'args': {'number': %zu}, 'key': '%s'}",
              number, key);
}

static void test_publish_from_outside(void **state)
{
    (void)state;
    struct club c;
    club_open(&c, 7);
    publish(&c, 0, "a");
    publish(&c, 0, "a"); /* the same request */
    publish(&c, 1, "b");
    mesh_crash(c.m, 0); /* what was acknowledged is on disk, and so is its key */
    mesh_start_all(c.m);
    publish(&c, 1, "b");
    publish(&c, 2, "c");
    mesh_run(c.m, 20000);
    expect_all(&c, 3);
    assert_int_equal(mesh_op(c.m, 0, NULL, "publish", "{'topic': 'no topic'}"), GW_EARG);
    assert_int_equal(mesh_op(c.m, 0, NULL, "publish", "{'topic': 'x', 'method': '..'}"), GW_EARG);
    mesh_must(c.m, 0, NULL, "publish", "{'topic': 'nobody'}");
    mesh_free(c.m);
}

/* --- limits, and what peers may say --- */

static void test_limit_of_an_agent(void **state)
{
    (void)state;
    struct club c;
    char args[64];
    club_open(&c, 8);
    for (int i = 1; i < LIMIT_TOPICS_PER_AGENT; i++) {
        snprintf(args, sizeof args, "'topic': 't%d'", i);
        must(c.m, &c.subs[0], "follow", args);
    }
    assert_int_equal(send(c.m, 0, &c.subs[0], "follow", "'topic': 'more'", "x"), GW_EBUSY);
    assert_int_equal(send(c.m, 0, &c.subs[0], "follow", "'topic': 'not valid'", "y"), GW_EARG);
    must(c.m, &c.subs[0], "follow", "'topic': 't1'"); /* it has that one */
    assert_int_equal(mesh_move(c.m, 0, &c.subs[0], 1), GW_OK);
    mesh_run(c.m, 500);
    assert_int_equal(known(c.m, 2, "t63"), 1);
    mesh_free(c.m);
}

static void inject(struct club *c, void (*fill)(struct buf *b, const gw_id *agent),
                   const gw_id *agent)
{
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_TOPICS, 0, 1);
    fill(&frame, agent);
    frame_end(&frame, at);
    mesh_inject(c->m, 1, 0, &frame);
    buf_free(&frame);
    mesh_run(c->m, 100);
}
static void entry(struct buf *b, const gw_id *agent, uint64_t epoch, const char *topic, bool on)
{
    mp_array(b, 4);
    mp_id(b, agent);
    mp_uint(b, epoch);
    mp_str(b, topic);
    mp_bool(b, on);
}
static void fill_text(struct buf *b, const gw_id *agent)
{
    (void)agent;
    mp_str(b, "entries");
}
static void fill_many(struct buf *b, const gw_id *agent)
{
    mp_array(b, 1001);
    for (int i = 0; i < 1001; i++) {
        entry(b, agent, 1, "many", true);
    }
}
static void fill_names(struct buf *b, const gw_id *agent)
{
    mp_array(b, 1);
    entry(b, agent, 1, "../evil", true);
}
static void fill_half(struct buf *b, const gw_id *agent)
{
    mp_array(b, 2);
    entry(b, agent, UINT64_MAX, "half", true);
    mp_array(b, 1);
    mp_id(b, agent);
}
static void fill_off(struct buf *b, const gw_id *agent)
{
    mp_array(b, 1);
    entry(b, agent, 99, "news", false);
}

static void test_hostile_frames(void **state)
{
    (void)state;
    struct club c;
    gw_id stranger = {{1, 2, 3, 4, 5, 6, 7}}, nil = {{0}};
    club_open(&c, 9);
    inject(&c, fill_text, &stranger);
    inject(&c, fill_many, &stranger);
    inject(&c, fill_names, &stranger);
    inject(&c, fill_half, &nil);
    assert_int_equal(known(c.m, 0, "many"), 0);
    assert_int_equal(known(c.m, 0, "half"), 0);
    inject(&c, fill_off, &c.subs[0]); /* of an agent that lives here, h0 knows itself */
    assert_int_equal(known(c.m, 0, "news"), SUBS);
    inject(&c, fill_half, &stranger); /* nobody: forgotten at the first publication */
    assert_int_equal(known(c.m, 0, "half"), 1);
    must(c.m, &c.speaker, "announce", "'topic': 'half', 'number': 1");
    mesh_run(c.m, 20000);
    assert_int_equal(known(c.m, 0, "half"), 0);
    announce(&c, 0);
    mesh_run(c.m, 2000);
    expect_all(&c, 1);
    mesh_free(c.m);
}

/* Two publications of people on their way to the disk, the first of which is rolled back: the
 * second is heard once, also after a crash. */
static commit_fate fail_once(void *arg, size_t host)
{
    bool *on = arg;
    commit_fate fate = host == 0 && *on ? COMMIT_FAIL : COMMIT_PASS;
    *on = *on && host != 0;
    return fate;
}

static void test_two_at_once_and_a_full_disk(void **state)
{
    (void)state;
    bool failing = false;
    struct mesh *m = actor_mesh(31, 2);
    gw_id id = mesh_create(m, 1, "tally");
    actor_must(m, 1, &id, "follow", "{'topic': 'news'}");
    mesh_run(m, 2000);
    mesh_on_commit(m, fail_once, &failing);
    mesh_part(m, 0, 1, true);
    mesh_run(m, 1000);
    failing = true;
    struct mesh_call *first =
        mesh_ask(m, 0, "publish", "{'topic': 'news', 'args': {'number': 1}, 'key': 'a'}");
    struct mesh_call *second =
        mesh_ask(m, 0, "publish", "{'topic': 'news', 'args': {'number': 2}, 'key': 'b'}");
    mesh_run(m, 500);
    assert_true(first->done && first->err == GW_EDISK_FULL);
    assert_true(second->done && second->err == GW_OK);
    mesh_part(m, 0, 1, false);
    mesh_run(m, 20000);
    mesh_crash(m, 0);
    mesh_heal(m);
    mesh_run(m, 10000);
    assert_int_equal(actor_lines(m, 1, &id, "news#1"), 0);
    assert_int_equal(actor_lines(m, 1, &id, "news#2"), 1);
    assert_int_equal(actor_rows(m, 0, TABLE_OUTBOX), 0);
    mesh_call_free(first);
    mesh_call_free(second);
    mesh_expect_whole(m);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_unsubscribe),
        cmocka_unit_test(test_stale_entries_heal),
        cmocka_unit_test(test_across_moves_and_crashes),
        cmocka_unit_test(test_crash_at_each_commit),
        cmocka_unit_test(test_down_and_asleep),
        cmocka_unit_test(test_publish_from_outside),
        cmocka_unit_test(test_limit_of_an_agent),
        cmocka_unit_test(test_hostile_frames),
        cmocka_unit_test(test_two_at_once_and_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

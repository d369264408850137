/* Files that travel with agents (host/core/files*.c): moves, clones, faults at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "protocol/value.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/porter.h"

#define CONTENT 0xc0ffee00

struct play {
    struct mesh *m;
    gw_id agent;
    char id[GW_ID_TEXT];
};

/* A porter at h0 with "/data/a" to move, as "a". */
static struct play play_open(uint64_t seed, size_t hosts)
{
    struct play p = {.m = porter_mesh(seed, hosts)};
    p.agent = mesh_create(p.m, 0, "porter");
    (void)gw_id_text(&p.agent, p.id);
    mesh_file_put(p.m, 0, "/data/a", CONTENT);
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/a", "a", false), GW_OK);
    return p;
}

static const char *last_line(struct play *p, size_t via)
{
    static char text[8192];
    (void)snprintf(text, sizeof text, "%s", actor_history(p->m, via, &p->agent));
    return text;
}

static char *work_path(const struct play *p, const char *name, char ret[128])
{
    (void)snprintf(ret, 128, "agents/%s/%s", p->id, name);
    return ret;
}

static bool is_at(struct play *p, size_t host, const char *name)
{
    char path[128];
    uint64_t content = 0;
    return mesh_file_get(p->m, host, work_path(p, name, path), &content) && content == CONTENT;
}

static void test_a_file_moves(void **state)
{
    (void)state;
    struct play p = play_open(1, 2);
    gw_value v = gw_nil();
    mesh_must(p.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h1'}", p.id);
    mesh_run(p.m, 100);
    assert_true(is_at(&p, 1, "a"));
    assert_false(mesh_file_get(p.m, 0, "/data/a", NULL));
    assert_string_equal(last_line(&p, 1), "leave a=c0ffee00 arrive a=c0ffee00");
    mesh_must(p.m, 0, &v, "show", "{'agent': '%s'}", p.id);
    const gw_value *files = gw_map_get(&v, "files");
    assert_int_equal(files->list.n, 1);
    assert_string_equal(gw_map_str(&files->list.items[0], "origin", ""), "h0:/data/a");
    assert_string_equal(gw_map_str(&files->list.items[0], "mode", ""), "move");
    assert_int_equal(gw_map_int(&files->list.items[0], "size", -1), CONTENT % 1000);
    gw_value_free(&v);
    mesh_must(p.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h0'}", p.id); /* and back */
    mesh_run(p.m, 100);
    assert_true(is_at(&p, 0, "a"));
    assert_int_equal(porter_count(p.m, 1, ""), 0);
    assert_int_equal(porter_count(p.m, 0, "incoming"), 0);
    assert_int_equal(actor_rows(p.m, 1, TABLE_FILES), 0);
    assert_int_equal(actor_rows(p.m, 0, TABLE_FILES), 1);
    mesh_expect_whole(p.m);
    mesh_free(p.m);
}

static void test_a_copy_stays(void **state)
{
    (void)state;
    struct play p = play_open(2, 2);
    mesh_file_put(p.m, 0, "/data/b", CONTENT);
    assert_int_equal(porter_carry(p.m, 1, &p.agent, "/data/b", "b", true), GW_OK);
    mesh_must(p.m, 1, NULL, "retract", "{'agent': '%s'}", p.id);
    mesh_run(p.m, 100);
    assert_true(mesh_file_get(p.m, 0, "/data/b", NULL));
    assert_false(mesh_file_get(p.m, 0, "/data/a", NULL));
    assert_true(is_at(&p, 1, "a") && is_at(&p, 1, "b"));
    assert_string_equal(last_line(&p, 0),
                        "leave a=c0ffee00 b=c0ffee00 retract a=c0ffee00 b=c0ffee00");
    mesh_free(p.m);
}

/* In the folder of the agent there is also what it did not register: that stays behind. */
static void test_scratch_goes(void **state)
{
    (void)state;
    struct play p = play_open(3, 2);
    char path[128];
    mesh_file_put(p.m, 0, work_path(&p, "scratch", path), 7);
    mesh_must(p.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h1'}", p.id);
    mesh_run(p.m, 100);
    assert_int_equal(porter_count(p.m, 0, ""), 0);
    assert_int_equal(porter_count(p.m, 1, ""), 1);
    mesh_file_put(p.m, 1, work_path(&p, "scratch", path), 7);
    mesh_must(p.m, 0, NULL, "dispose", "{'agent': '%s'}", p.id);
    mesh_run(p.m, 100);
    assert_int_equal(porter_count(p.m, 1, ""), 0);
    assert_int_equal(actor_rows(p.m, 1, TABLE_FILES), 0);
    mesh_free(p.m);
}

/* One without registered files has a work folder all the same. */
static void test_scratch_alone(void **state)
{
    (void)state;
    struct mesh *m = porter_mesh(4, 2);
    char id[GW_ID_TEXT], path[128];
    gw_id a = mesh_create(m, 0, "porter");
    (void)snprintf(path, sizeof path, "agents/%s/scratch", gw_id_text(&a, id));
    mesh_file_put(m, 0, path, 7);
    assert_int_equal(mesh_move(m, 0, &a, 1), GW_OK);
    mesh_run(m, 100);
    assert_int_equal(porter_count(m, 0, "") + porter_count(m, 1, ""), 0);
    mesh_expect_whole(m);
    mesh_free(m);
}

static void test_asleep_and_with_its_own_wish(void **state)
{
    (void)state;
    struct play p = play_open(5, 3);
    mesh_must(p.m, 0, NULL, "deactivate", "{'agent': '%s'}", p.id);
    mesh_run(p.m, 5000); /* it rests */
    mesh_must(p.m, 2, NULL, "dispatch", "{'agent': '%s', 'to': 'h1'}", p.id);
    mesh_run(p.m, 3000);
    assert_true(is_at(&p, 1, "a"));
    assert_false(mesh_file_get(p.m, 0, "/data/a", NULL));
    mesh_file_put(p.m, 1, "/data/late", CONTENT);
    mesh_must(p.m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'carry_and_go', 'args': {'path': '/data/late', 'to': "
              "'h2'}, 'text': true}",
              p.id);
    mesh_run(p.m, 3000);
    assert_string_equal(last_line(&p, 0),
                        "wake a=c0ffee00 go a=c0ffee00 late=c0ffee00 leave a=c0ffee00 "
                        "late=c0ffee00 arrive a=c0ffee00 late=c0ffee00");
    assert_true(is_at(&p, 2, "a") && is_at(&p, 2, "late"));
    assert_int_equal(porter_count(p.m, 1, ""), 0);
    mesh_free(p.m);
}

static void expect_clone(struct play *p, const char *at, size_t host)
{
    gw_value v = gw_nil();
    char path[128];
    uint64_t content = 0;
    mesh_must(p->m, 0, &v, "clone", "{'agent': '%s', 'to': '%s'}", p->id, at);
    mesh_run(p->m, 100);
    gw_id clone = actor_id_of(p->m, &v);
    (void)snprintf(path, sizeof path, "agents/%s/a", gw_map_str(&v, "agent", ""));
    assert_true(mesh_file_get(p->m, host, path, &content));
    assert_int_equal(content, CONTENT);
    assert_true(mesh_file_get(p->m, 0, "/data/a", NULL));
    assert_string_equal(actor_history(p->m, 0, &clone), "clone a=c0ffee00");
    assert_int_equal(porter_count(p->m, host, "incoming"), 0);
    gw_value_free(&v);
}

static void test_clones_have_copies(void **state)
{
    (void)state;
    struct play p = play_open(6, 2);
    expect_clone(&p, "h1", 1);
    expect_clone(&p, "h0", 0);
    mesh_expect_whole(p.m);
    mesh_free(p.m);
}

static void test_limits_and_names(void **state)
{
    (void)state;
    struct play p = play_open(7, 1);
    static const char *const bad[] = {"", ".", "..", "a/b", "../x", ".godwit-x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/a", bad[i], false), GW_EARG);
    }
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "/etc/passwd", "p", false), GW_EDENIED);
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/../etc/passwd", "p", false), GW_EARG);
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "data/a", "p", false), GW_EARG);
    for (int i = 1; i < LIMIT_CARRIED_PER_AGENT; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/a", name, true), GW_OK);
    }
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/a", "more", true), GW_EBUSY);
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/a", "n1", true), GW_OK); /* again */
    actor_must(p.m, 0, &p.agent, "shed", "{'name': 'n1'}");
    actor_must(p.m, 0, &p.agent, "shed", "{'name': 'never'}");
    assert_int_equal(porter_carry(p.m, 0, &p.agent, "/data/a", "more", true), GW_OK);
    assert_int_equal(actor_rows(p.m, 0, TABLE_FILES), LIMIT_CARRIED_PER_AGENT);
    mesh_free(p.m);
}

static gw_err move_fails(struct play *p, const char *part)
{
    struct mesh_call *c = mesh_ask(p->m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", p->id);
    gw_err err = mesh_wait(p->m, c, 600000);
    if (!strstr(c->why.text, part)) {
        mesh_fail(p->m, "\"%s\" is not in \"%s\"", part, c->why.text);
    }
    mesh_call_free(c);
    mesh_run(p->m, 65000); /* what nobody fetches is dropped there by then */
    assert_int_equal(porter_count(p->m, 1, ""), 0);
    assert_int_equal(mesh_where(p->m, &p->agent, NULL), 0);
    actor_must(p->m, 0, &p->agent, "look", "{}");
    mesh_expect_whole(p->m);
    return err;
}

static file_fate always(void *arg, size_t from, size_t to, const char *path)
{
    (void)from, (void)to, (void)path;
    return *(file_fate *)arg;
}

/* Each is told clearly, the agent goes on, and the next try works. */
static void test_what_calls_a_move_off(void **state)
{
    (void)state;
    struct play p = play_open(8, 2);
    file_fate fate = FILE_CHANGE;
    mesh_file_remove(p.m, 0, "/data/a");
    assert_int_equal(move_fails(&p, "\"a\" is gone: /data/a"), GW_ENOT_FOUND);
    mesh_file_put(p.m, 0, "/data/a", CONTENT);
    mesh_on_file(p.m, always, &fate);
    assert_int_equal(move_fails(&p, "changes while it is sent"), GW_ECONFLICT);
    fate = FILE_BREAK;
    assert_int_equal(move_fails(&p, "broke"), GW_EUNREACHABLE);
    fate = FILE_FULL;
    assert_int_equal(move_fails(&p, "full"), GW_EDISK_FULL);
    mesh_on_file(p.m, NULL, NULL);
    mesh_file_put(p.m, 0, "/data/a", CONTENT);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    mesh_run(p.m, 100);
    assert_true(is_at(&p, 1, "a"));
    assert_int_equal(porter_count(p.m, 0, ""), 0);
    mesh_free(p.m);
}

struct once {
    size_t k, seen;
    file_fate fate;
};

static file_fate at_kth(void *arg, size_t from, size_t to, const char *path)
{
    struct once *o = arg;
    (void)path;
    return from != to && o->seen++ == o->k ? o->fate : FILE_PASS;
}

/* Changed while it was read: what arrives is the last of it. */
static void test_a_change_is_sent_again(void **state)
{
    (void)state;
    struct play p = play_open(9, 2);
    struct once o = {.fate = FILE_CHANGE};
    char path[128];
    uint64_t content = 0;
    mesh_on_file(p.m, at_kth, &o);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    mesh_run(p.m, 100);
    assert_int_equal(o.seen, 2);
    assert_true(mesh_file_get(p.m, 1, work_path(&p, "a", path), &content));
    assert_int_equal(content, CONTENT + 1);
    assert_int_equal(porter_count(p.m, 0, ""), 0);
    mesh_free(p.m);
}

/* Behind the freeze somebody else writes to it: it is kept, and told of (I6). */
static mesh_fate change_at_commit(void *arg, size_t from, size_t to, const struct frame *frame)
{
    (void)from, (void)to;
    if (frame->kind == FRAME_COMMIT) {
        mesh_file_put(arg, 0, "/data/a", 5);
    }
    return FATE_PASS;
}

static void test_what_changed_is_kept(void **state)
{
    (void)state;
    struct play p = play_open(10, 2);
    uint64_t content = 0;
    mesh_on_frame(p.m, change_at_commit, p.m);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    mesh_run(p.m, 100);
    assert_true(is_at(&p, 1, "a"));
    assert_true(mesh_file_get(p.m, 0, "/data/a", &content));
    assert_int_equal(content, 5);
    assert_int_equal(actor_events(p.m, 0, "file.kept"), 1);
    mesh_free(p.m);
}

/* It answers while its files flow; life-cycle verbs are told of the ticket. */
static file_fate slow(void *arg, size_t from, size_t to, const char *path)
{
    struct play *p = arg;
    struct mesh_call *look = mesh_ask(p->m, 1, "send", "{'agent': '%s', 'method': 'look'}", p->id);
    struct mesh_call *sleep = mesh_ask(p->m, 0, "deactivate", "{'agent': '%s'}", p->id);
    (void)from, (void)to, (void)path;
    mesh_call_free(look);
    mesh_call_free(sleep);
    return FILE_PASS;
}

static void test_it_runs_while_they_flow(void **state)
{
    (void)state;
    struct play p = play_open(11, 2);
    mesh_on_file(p.m, slow, &p);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    mesh_run(p.m, 1000);
    assert_true(is_at(&p, 1, "a"));
    assert_non_null(strstr(last_line(&p, 0), "look a=c0ffee00"));
    assert_non_null(strstr(last_line(&p, 0), "arrive a=c0ffee00"));
    assert_int_equal(mesh_where(p.m, &p.agent, NULL), 1);
    mesh_free(p.m);
}

static void test_drain_takes_them_along(void **state)
{
    (void)state;
    struct mesh *m = porter_mesh(12, 2);
    for (int i = 0; i < 6; i++) {
        char path[40];
        gw_id a = mesh_create(m, 0, "porter");
        (void)snprintf(path, sizeof path, "/data/%d", i);
        mesh_file_put(m, 0, path, CONTENT + (uint64_t)i);
        if (i % 2) {
            assert_int_equal(porter_carry(m, 0, &a, path, "f", false), GW_OK);
        }
    }
    mesh_must(m, 0, NULL, "drain", "{'to': 'h1'}");
    mesh_run(m, 1000);
    assert_int_equal(porter_count(m, 0, ""), 3);
    assert_int_equal(porter_count(m, 1, "agents/"), 3);
    assert_int_equal(porter_count(m, 1, ""), 3);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* ---- faults at every place ---- */

struct cut {
    size_t k, seen;
    mesh_fate fate;
    bool fired;
};

static mesh_fate cut_at(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct cut *c = arg;
    (void)from, (void)to;
    if (frame->kind < FRAME_OFFER || frame->kind > FRAME_LOCATE || c->seen++ != c->k) {
        return FATE_PASS;
    }
    c->fired = true;
    return c->fate;
}

struct commit_cut {
    size_t k, seen, host;
    commit_fate fate;
    bool fired;
};

static commit_fate commit_at(void *arg, size_t host)
{
    struct commit_cut *c = arg;
    if (host != c->host || c->seen++ != c->k) {
        return COMMIT_PASS;
    }
    c->fired = true;
    return c->fate;
}

/* The agent is at one host, its file there and nowhere else, whatever has happened. */
static void expect_one(struct play *p)
{
    mesh_heal(p->m);
    mesh_run(p->m, 70000);
    mesh_heal(p->m);
    mesh_expect_whole(p->m);
    size_t at = mesh_where(p->m, &p->agent, NULL);
    actor_must(p->m, at, &p->agent, "look", "{}");
    const char *log = last_line(p, at);
    mesh_assert(p->m, strcmp(strrchr(log, ' '), " a=c0ffee00") == 0);
    mesh_assert(p->m, porter_count(p->m, 0, "") + porter_count(p->m, 1, "") == 1);
    mesh_assert(p->m, porter_count(p->m, at, "") == 1);
    mesh_assert(p->m, !strstr(log, "gone"));
    assert_int_equal(mesh_move(p->m, 0, &p->agent, 1 - at), GW_OK);
    mesh_run(p->m, 1000);
    mesh_assert(p->m, is_at(p, 1 - at, "a"));
    mesh_assert(p->m, porter_count(p->m, at, "") == 0);
}

static void test_cut_at_every_frame(void **state)
{
    (void)state;
    static const mesh_fate fates[] = {FATE_LOSE,       FATE_CUT,      FATE_TWICE,
                                      FATE_CRASH_FROM, FATE_CRASH_TO, FATE_CRASH_TO_AFTER};
    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        bool fired = true;
        for (size_t k = 0; fired; k++) {
            struct play p = play_open(100 + 20 * i + k, 2);
            struct cut c = {.k = k, .fate = fates[i]};
            mesh_on_frame(p.m, cut_at, &c);
            struct mesh_call *call =
                mesh_ask(p.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", p.id);
            (void)mesh_wait(p.m, call, 30000);
            mesh_call_free(call);
            expect_one(&p);
            fired = c.fired;
            mesh_free(p.m);
        }
    }
}

static void test_cut_at_every_commit(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t i = 0; i < 6; i++) {
        bool fired = true;
        for (size_t k = 0; fired; k++) {
            struct play p = play_open(300 + 20 * i + k, 2);
            struct commit_cut c = {.k = k, .host = i % 2, .fate = fates[i / 2]};
            mesh_on_commit(p.m, commit_at, &c);
            struct mesh_call *call =
                mesh_ask(p.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", p.id);
            (void)mesh_wait(p.m, call, 30000);
            mesh_call_free(call);
            mesh_run(p.m, 3000);
            expect_one(&p);
            fired = c.fired;
            mesh_free(p.m);
        }
    }
}

/* Between any two events of a move, either host. */
static void test_crash_at_any_moment(void **state)
{
    (void)state;
    for (uint64_t seed = 500; seed < 620; seed++) {
        struct play p = play_open(seed, 2);
        struct mesh_call *call = mesh_ask(p.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", p.id);
        uint64_t steps = mesh_random(p.m, 160);
        for (uint64_t i = 0; i < steps; i++) {
            (void)mesh_step(p.m);
        }
        mesh_crash(p.m, seed % 2);
        (void)mesh_wait(p.m, call, 30000);
        mesh_call_free(call);
        expect_one(&p);
        mesh_free(p.m);
    }
}

/* A start right after a move, in good order or not, keeps them. */
static void test_a_restart_keeps_them(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct play p = play_open(20, 2);
        assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
        for (size_t host = 0; host < 2; host++) {
            if (clean) {
                mesh_stop(p.m, host);
            } else {
                mesh_crash(p.m, host);
            }
        }
        mesh_start_all(p.m);
        mesh_run(p.m, 1000);
        assert_true(is_at(&p, 1, "a"));
        expect_one(&p);
        mesh_free(p.m);
    }
}

/* ---- what fails here, and is done later ---- */

struct refusing { /* what is done on one host alone, and begins like this */
    const char *path;
    size_t count;
};

static file_fate refuse_here(void *arg, size_t from, size_t to, const char *path)
{
    struct refusing *r = arg;
    bool hit = from == to && r->path && strncmp(path, r->path, strlen(r->path)) == 0;
    r->count += hit;
    return hit ? FILE_FULL : FILE_PASS;
}

/* The source cannot remove it now, and then not before it is stopped. */
static void test_a_removal_is_made_up_for(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct play p = play_open(30, 2);
        struct refusing r = {.path = "/data/"};
        mesh_on_file(p.m, refuse_here, &r);
        assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
        mesh_run(p.m, 5000);
        assert_true(r.count > 1);
        assert_true(mesh_file_get(p.m, 0, "/data/a", NULL));
        assert_int_equal(actor_rows(p.m, 0, TABLE_FILES), 1);
        if (restart) {
            mesh_stop(p.m, 0);
            mesh_start_all(p.m);
        }
        r.path = NULL;
        mesh_run(p.m, 5000);
        assert_false(mesh_file_get(p.m, 0, "/data/a", NULL));
        assert_int_equal(actor_rows(p.m, 0, TABLE_FILES), 0);
        expect_one(&p);
        mesh_free(p.m);
    }
}

/* Asked to end before its files have their place: nothing of them stays. */
static void test_an_end_before_the_adoption(void **state)
{
    (void)state;
    struct play p = play_open(31, 2);
    struct refusing r = {.path = "incoming/"};
    mesh_on_file(p.m, refuse_here, &r);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    mesh_run(p.m, 3000);
    assert_int_equal(porter_count(p.m, 1, "incoming"), 1);
    struct mesh_call *c = mesh_ask(p.m, 0, "dispose", "{'agent': '%s'}", p.id);
    mesh_run(p.m, 5000);
    r.path = NULL;
    mesh_assert(p.m, mesh_wait(p.m, c, 60000) == GW_OK);
    mesh_call_free(c);
    mesh_run(p.m, 3000);
    assert_int_equal(porter_count(p.m, 0, "") + porter_count(p.m, 1, ""), 0);
    mesh_free(p.m);
}

/* Its files have no place yet: what would read them waits for that. */
static void test_who_wants_to_go_on_waits_for_them(void **state)
{
    (void)state;
    static const char *const asks[] = {"dispatch", "clone", "drain"};
    for (size_t i = 0; i < 3; i++) {
        struct play p = play_open(40 + i, 3);
        struct refusing r = {.path = "incoming/"};
        mesh_on_file(p.m, refuse_here, &r);
        assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
        struct mesh_call *c = i < 2 ? mesh_ask(p.m, 1, asks[i], "{'agent': '%s', 'to': 'h2'}", p.id)
                                    : mesh_ask(p.m, 1, asks[i], "{'to': 'h2'}");
        mesh_run(p.m, 4000);
        r.path = NULL;
        gw_err err = mesh_wait(p.m, c, 30000);
        mesh_assert(p.m, err == GW_OK);
        mesh_call_free(c);
        mesh_run(p.m, 3000);
        assert_int_equal(porter_count(p.m, 2, "agents/"), 1);
        assert_int_equal(porter_count(p.m, 1, ""), i == 1);
        mesh_expect_whole(p.m);
        mesh_free(p.m);
    }
}

static mesh_fate crash_at_commit(void *arg, size_t from, size_t to, const struct frame *frame)
{
    (void)from;
    return frame->kind == FRAME_COMMIT && to == *(size_t *)arg ? FATE_CRASH_TO : FATE_PASS;
}

/* It comes back before it is over that it has left, and leaves again: what then ends is the first
 * move alone. */
static void test_back_before_it_is_over(void **state)
{
    (void)state;
    struct play p = play_open(50, 3);
    struct refusing r = {.path = "/data/"};
    size_t last = 2;
    mesh_on_file(p.m, refuse_here, &r);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 0), GW_OK);
    mesh_run(p.m, 3000);
    assert_true(is_at(&p, 0, "a") && mesh_file_get(p.m, 0, "/data/a", NULL));
    mesh_on_frame(p.m, crash_at_commit, &last);
    struct mesh_call *c = mesh_ask(p.m, 0, "dispatch", "{'agent': '%s', 'to': 'h2'}", p.id);
    mesh_run(p.m, 5000);
    mesh_on_frame(p.m, NULL, NULL);
    r.path = NULL; /* the first one ends now, the second one is in doubt */
    mesh_run(p.m, 5000);
    mesh_assert(p.m, !mesh_file_get(p.m, 0, "/data/a", NULL));
    mesh_assert(p.m, is_at(&p, 0, "a"));
    mesh_start_all(p.m);
    (void)mesh_wait(p.m, c, 30000);
    mesh_call_free(c);
    mesh_run(p.m, 5000);
    mesh_assert(p.m, is_at(&p, 2, "a") && porter_count(p.m, 0, "") == 0);
    mesh_expect_whole(p.m);
    mesh_free(p.m);
}

/* The same without files: it finds nothing of its earlier stay. */
static void test_back_without_files(void **state)
{
    (void)state;
    struct play p = play_open(51, 2);
    struct refusing r = {.path = "/data/"};
    char path[128];
    mesh_on_file(p.m, refuse_here, &r);
    mesh_file_put(p.m, 0, work_path(&p, "scratch", path), 7);
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 1), GW_OK);
    actor_must(p.m, 1, &p.agent, "shed", "{'name': 'a'}");
    assert_int_equal(mesh_move(p.m, 0, &p.agent, 0), GW_OK);
    mesh_run(p.m, 3000);
    mesh_assert(p.m, !mesh_file_get(p.m, 0, work_path(&p, "scratch", path), NULL));
    mesh_file_put(p.m, 0, work_path(&p, "new", path), 8);
    r.path = NULL;
    mesh_run(p.m, 3000);
    mesh_assert(p.m, mesh_file_get(p.m, 0, work_path(&p, "new", path), NULL));
    mesh_assert(p.m, porter_count(p.m, 0, "") == 1);
    mesh_free(p.m);
}

/* Of a clone that stays here, whose source may be at work for long: only who began it ends it. */
static void test_what_is_copied_here_does_not_expire(void **state)
{
    (void)state;
    struct play p = play_open(52, 1);
    struct node *n = p.m->hosts[0].node;
    struct gw_error why;
    gw_id id = {{9}};
    assert_int_equal(files_expect(n, &n->self->id, &id, &id, 0, &why), GW_OK);
    mesh_run(p.m, 130000);
    assert_non_null(n->files_expected);
    files_drop(n, &id, &id);
    mesh_free(p.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_moves),
        cmocka_unit_test(test_a_copy_stays),
        cmocka_unit_test(test_scratch_goes),
        cmocka_unit_test(test_scratch_alone),
        cmocka_unit_test(test_asleep_and_with_its_own_wish),
        cmocka_unit_test(test_clones_have_copies),
        cmocka_unit_test(test_limits_and_names),
        cmocka_unit_test(test_what_calls_a_move_off),
        cmocka_unit_test(test_a_change_is_sent_again),
        cmocka_unit_test(test_what_changed_is_kept),
        cmocka_unit_test(test_it_runs_while_they_flow),
        cmocka_unit_test(test_drain_takes_them_along),
        cmocka_unit_test(test_cut_at_every_frame),
        cmocka_unit_test(test_cut_at_every_commit),
        cmocka_unit_test(test_crash_at_any_moment),
        cmocka_unit_test(test_a_restart_keeps_them),
        cmocka_unit_test(test_a_removal_is_made_up_for),
        cmocka_unit_test(test_an_end_before_the_adoption),
        cmocka_unit_test(test_who_wants_to_go_on_waits_for_them),
        cmocka_unit_test(test_back_before_it_is_over),
        cmocka_unit_test(test_back_without_files),
        cmocka_unit_test(test_what_is_copied_here_does_not_expire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

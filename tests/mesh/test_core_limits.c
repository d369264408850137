/* What others can make a host hold has an end (I8), lists and streams of answers, selectors. Each
 * limit is met, and passed by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "tests/mesh/actor.h"

static const char *id_text(const gw_id *id)
{
    static char text[4][GW_ID_TEXT];
    static int next;
    next = (next + 1) % 4;
    return gw_id_text(id, text[next]);
}

/* --- mailboxes --- */
static void test_mailbox(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh_new(201, 2);
    mesh_set_limits(m, 0, (struct node_limits){.mailbox = 5});
    mesh_start_all(m);
    mesh_be_impatient(m);
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 1, "actor");
    struct mesh_call *calls[7];
    mesh_crash_runner(m, 0);
    mesh_run(m, 1); /* it is being started: what comes waits */
    for (size_t i = 0; i < 7; i++) {
        calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", id_text(&a));
    }
    for (size_t i = 5; i < 7; i++) {
        assert_true(calls[i]->done && calls[i]->err == GW_EBUSY);
    }
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(mesh_wait(m, calls[i], 60000), i < 5 ? GW_OK : GW_EBUSY);
        mesh_call_free(calls[i]);
    }
    assert_int_equal(mesh_count(m, 0, &a), 5);
    /* tells of other agents are kept at their senders meanwhile */
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", id_text(&a));
    for (int i = 0; i < 8; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "r%d", i);
        assert_int_equal(actor_relay(m, 1, &b, &a, i, key), GW_OK);
    }
    mesh_run(m, 10000);
    assert_int_equal(actor_rows(m, 0, TABLE_INBOX), 5);
    assert_int_equal(actor_rows(m, 1, TABLE_OUTBOX), 3);
    mesh_must(m, 0, NULL, "activate", "{'agent': '%s'}", id_text(&a));
    mesh_run(m, 30000);
    assert_int_equal(mesh_count(m, 0, &a), 13);
    assert_int_equal(actor_rows(m, 1, TABLE_OUTBOX), 0);
    mesh_free(m);
}

static void test_mailbox_bytes(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh_new(202, 1);
    mesh_set_limits(m, 0, (struct node_limits){.mailbox_bytes = 2000});
    mesh_start_all(m);
    mesh_be_impatient(m);
    gw_id a = mesh_create(m, 0, "actor");
    struct mesh_call *calls[4];
    char text[801];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    mesh_crash_runner(m, 0);
    mesh_run(m, 1);
    for (size_t i = 0; i < 4; i++) {
        calls[i] =
            mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'shout', 'args': {'text': '%s'}}",
                     id_text(&a), text);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mesh_wait(m, calls[i], 60000), i < 3 ? GW_OK : GW_EBUSY);
        mesh_call_free(calls[i]);
    }
    actor_must(m, 0, &a, "add", "{}"); /* the count went down with what was done */
    mesh_free(m);
}

/* --- outboxes --- */
static gw_err flood(struct mesh *m, const gw_id *a, const gw_id *to, int n)
{
    return mesh_op(
        m, 0, NULL, "send",
        "{'agent': '%s', 'method': 'flood', 'args': {'to': '%s', 'n': %d}, 'text': true}",
        id_text(a), id_text(to), n);
}

static void test_outbox(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(203, 2);
    gw_id a = mesh_create(m, 0, "actor"), to = mesh_create(m, 1, "actor");
    mesh_part(m, 0, 1, true);
    mesh_run(m, 6000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(flood(m, &a, &to, LIMIT_OUTBOX_MESSAGES / 2), GW_OK);
    }
    assert_int_equal(flood(m, &a, &to, 1), GW_EBUSY);
    actor_must(m, 0, &a, "add", "{}"); /* its state is as it was, and it goes on */
    assert_int_equal(actor_rows(m, 0, TABLE_OUTBOX), LIMIT_OUTBOX_MESSAGES);
    mesh_part(m, 0, 1, false);
    mesh_run(m, 120000);
    assert_int_equal(actor_rows(m, 0, TABLE_OUTBOX), 0);
    assert_int_equal(mesh_count(m, 1, &to), LIMIT_OUTBOX_MESSAGES);
    mesh_free(m);
}

/* --- recorded answers --- */
static void test_recorded_answers(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(204, 2);
    gw_id a = mesh_create(m, 0, "actor");
    for (int i = 0; i <= LIMIT_REQUESTS_PER_AGENT; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(mesh_add(m, 0, &a, key), GW_OK);
    }
    assert_int_equal(actor_rows(m, 0, TABLE_REQUESTS), LIMIT_REQUESTS_PER_AGENT);
    assert_int_equal(mesh_add(m, 0, &a, "k1"), GW_OK); /* kept: answered */
    assert_int_equal(mesh_count(m, 0, &a), LIMIT_REQUESTS_PER_AGENT + 1);
    assert_int_equal(mesh_add(m, 0, &a, "k0"), GW_OK); /* the oldest has gone: applied again */
    assert_int_equal(mesh_count(m, 0, &a), LIMIT_REQUESTS_PER_AGENT + 2);
    mesh_free(m);
}

/* Large answers are kept as far as they can travel with the agent. */
static void test_recorded_bytes(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(205, 2);
    gw_id a = mesh_create(m, 0, "actor");
    for (int i = 0; i < 30; i++) {
        mesh_must(m, 0, NULL, "send",
                  "{'agent': '%s', 'method': 'big', 'args': {'bytes': 3000000}, 'key': 'k%d'}",
                  id_text(&a), i);
    }
    assert_int_equal(actor_rows(m, 0, TABLE_REQUESTS), 2);
    mesh_must(m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'big', 'args': {'bytes': 3000000}, 'key': 'k29'}",
              id_text(&a));
    assert_int_equal(mesh_count(m, 0, &a), 30);
    assert_int_equal(mesh_move(m, 0, &a, 1), GW_OK);
    mesh_must(m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'big', 'args': {'bytes': 3000000}, 'key': 'k29'}",
              id_text(&a));
    assert_int_equal(mesh_count(m, 0, &a), 30);
    mesh_free(m);
}

/* --- hints --- */
static void test_hints(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(206, 2);
    struct host_id host = mesh_host_id(m, 1);
    for (uint32_t round = 0; round < LIMIT_HINTS / LIMIT_PAGE + 3; round++) {
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
        mp_array(&frame, LIMIT_PAGE);
        for (uint32_t i = 0; i < LIMIT_PAGE; i++) {
            gw_id id = {{9}};
            store_u64(id.b + 8, round * LIMIT_PAGE + i);
            mp_array(&frame, 4);
            mp_id(&frame, &id);
            mp_uint(&frame, 5);
            mp_bin(&frame, host.b, HOST_ID_BYTES);
            mp_bool(&frame, false);
        }
        frame_end(&frame, at);
        mesh_inject(m, 1, 0, &frame);
        buf_free(&frame);
        mesh_run(m, 10);
    }
    assert_int_equal(mesh_node(m, 0)->hint_count, LIMIT_HINTS);
    gw_id first = {{9}}, last = {{9}};
    store_u64(last.b + 8, (LIMIT_HINTS / LIMIT_PAGE + 3) * LIMIT_PAGE - 1);
    assert_null(location_find(mesh_node(m, 0), &first)); /* the oldest went */
    assert_non_null(location_find(mesh_node(m, 0), &last));
    mesh_free(m);
}

/* --- staged agents of one peer --- */
static void test_staged(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh_new(207, 2);
    mesh_set_limits(m, 1, (struct node_limits){.staged = 2});
    mesh_start_all(m);
    gw_id agents[3];
    struct mesh_call *calls[3];
    size_t busy = 0;
    for (size_t i = 0; i < 3; i++) {
        agents[i] = mesh_create(m, 0, "actor");
    }
    for (size_t i = 0; i < 3; i++) {
        calls[i] = mesh_ask(m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", id_text(&agents[i]));
    }
    for (size_t i = 0; i < 3; i++) {
        gw_err err = mesh_wait(m, calls[i], 60000);
        assert_true(err == GW_OK || err == GW_EBUSY);
        busy += err == GW_EBUSY;
        mesh_call_free(calls[i]);
    }
    assert_int_equal(busy, 1);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* --- lists --- */
static size_t list_all(struct mesh *m, const char *filter, size_t limit)
{
    char cursor[GW_ID_TEXT + 16] = "", before[GW_ID_TEXT] = "";
    size_t n = 0;
    for (size_t pages = 0; pages < 100; pages++) {
        gw_value v = gw_nil();
        mesh_must(m, 0, &v, "agents", "{'limit': %zu%s%s}", limit, filter, cursor);
        const gw_value *list = gw_map_get(&v, "agents");
        mesh_assert(m, list->list.n <= limit);
        for (size_t i = 0; i < list->list.n; i++, n++) {
            const char *id = gw_map_str(&list->list.items[i], "agent", "");
            mesh_assert(m, strcmp(before, id) < 0);
            (void)snprintf(before, sizeof before, "%s", id);
        }
        const char *next = gw_map_str(&v, "next", NULL);
        bool more = next != NULL;
        mesh_assert(m, !more || (list->list.n == limit && strcmp(next, before) == 0));
        (void)snprintf(cursor, sizeof cursor, ", 'after': '%.26s'", more ? next : "");
        gw_value_free(&v);
        if (!more) {
            return n;
        }
    }
    mesh_fail(m, "the list has no end");
}

static void test_pages(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(208, 3);
    for (int i = 0; i < 40; i++) {
        gw_id a = mesh_create(m, (size_t)i % 2, i % 4 ? "actor" : "tally");
        if (i % 5 == 0) {
            mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", id_text(&a));
        }
    }
    static const size_t limits[] = {1, 7, 19, 20, 21, 40, 1000};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        assert_int_equal(list_all(m, "", limits[i]), 20);
        assert_int_equal(list_all(m, ", 'all': true", limits[i]), 40);
        assert_int_equal(list_all(m, ", 'type': 'tally', 'all': true", limits[i]), 10);
        assert_int_equal(list_all(m, ", 'status': 'inactive', 'all': true", limits[i]), 8);
        assert_int_equal(list_all(m, ", 'status': 'staged'", limits[i]), 0);
    }
    assert_int_equal(mesh_op(m, 0, NULL, "agents", "{'after': '../../x'}"), GW_EARG);
    assert_int_equal(mesh_op(m, 0, NULL, "agents", "{'limit': 0}"), GW_EARG);
    assert_int_equal(mesh_op(m, 0, NULL, "agents", "{'limit': 1001}"), GW_EARG);
    mesh_crash(m, 1); /* who does not answer is named */
    mesh_run(m, 6000);
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "agents", "{'all': true, 'limit': 1000}");
    assert_int_equal(gw_map_get(&v, "agents")->list.n, 20);
    assert_int_equal(gw_map_get(&v, "errors")->list.n, 1);
    gw_value_free(&v);
    mesh_free(m);
}

/* An agent that is not on disk yet is in no list, and nobody can talk to it. */
static void test_unborn(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(209, 2);
    struct mesh_call *create = mesh_ask(m, 0, "create", "{'type': 'actor', 'alias': 'soon'}");
    struct mesh_call *list = mesh_ask(m, 0, "agents", "{}");
    assert_true(list->done);
    assert_int_equal(gw_map_get(&list->value, "agents")->list.n, 0);
    struct mesh_call *tell =
        mesh_ask(m, 0, "send", "{'agent': 'soon', 'method': 'add', 'tell': true}");
    struct mesh_call *ask = mesh_ask(m, 0, "send", "{'agent': 'soon', 'method': 'add'}");
    assert_int_equal(mesh_wait(m, create, 60000), GW_OK);
    assert_int_equal(mesh_wait(m, tell, 60000), GW_OK);
    assert_int_equal(mesh_wait(m, ask, 60000), GW_OK);
    mesh_call_free(list);
    mesh_call_free(create);
    mesh_call_free(tell);
    mesh_call_free(ask);
    /* one that fails leaves no row of what was sent to it */
    create = mesh_ask(m, 0, "create", "{'type': 'actor', 'alias': 'never', 'state': {'nix': 1}}");
    tell = mesh_ask(m, 0, "send", "{'agent': 'never', 'method': 'add', 'tell': true}");
    assert_int_equal(mesh_wait(m, create, 60000), GW_EARG);
    assert_int_equal(mesh_wait(m, tell, 60000), GW_EAGENT_NOT_FOUND);
    mesh_call_free(create);
    mesh_call_free(tell);
    mesh_run(m, 1000);
    assert_int_equal(actor_rows(m, 0, TABLE_INBOX), 0);
    mesh_free(m);
}

/* --- events and logs --- */
static void test_events_kept(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh_new(210, 1);
    mesh_set_limits(m, 0, (struct node_limits){.events = 100});
    mesh_start_all(m);
    gw_id a = mesh_create(m, 0, "actor");
    for (int i = 0; i < 2300; i++) {
        mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'nix', 'tell': true}",
                  id_text(&a));
    }
    mesh_run(m, 10000);
    size_t rows = actor_rows(m, 0, TABLE_EVENTS);
    mesh_assert(m, rows >= 100 && rows < 100 + 1100);
    mesh_free(m);
}

static void test_follow(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(211, 2);
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 0, "actor");
    struct mesh_call *all = mesh_ask(m, 0, "events", "{'follow': true}");
    struct mesh_call *one =
        mesh_ask(m, 0, "events", "{'follow': true, 'agent': '%s'}", id_text(&a));
    struct mesh_call *lines =
        mesh_ask(m, 0, "logs", "{'follow': true, 'agent': '%s'}", id_text(&a));
    for (int i = 0; i < 30; i++) {
        mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'nix', 'tell': true}",
                  id_text(i % 3 ? &b : &a));
        mesh_must(m, 0, NULL, "send",
                  "{'agent': '%s', 'method': 'shout', 'args': {'text': 'line %d'}}",
                  id_text(i % 3 ? &b : &a), i);
        mesh_run(m, i % 2);
    }
    mesh_run(m, 1000);
    assert_false(all->done || one->done || lines->done);
    int64_t before = 0;
    size_t failed = 0;
    for (size_t i = 0; i < all->items.list.n; i++) {
        const gw_value *e = &all->items.list.items[i];
        mesh_assert(m, gw_map_int(e, "seq", 0) == before + 1); /* each, once, in order */
        before = gw_map_int(e, "seq", 0);
        failed += strcmp(gw_map_str(e, "kind", ""), "message.failed") == 0;
    }
    assert_int_equal(failed, 30);
    assert_int_equal(one->items.list.n, 11); /* its create, and ten that failed */
    assert_int_equal(lines->items.list.n, 10);
    assert_string_equal(gw_map_str(&lines->items.list.items[3], "text", ""), "line 9");
    struct mesh_call *last = mesh_ask(m, 0, "logs", "{'limit': 2}");
    assert_int_equal(mesh_wait(m, last, 1000), GW_OK);
    assert_int_equal(last->items.list.n, 2);
    assert_string_equal(gw_map_str(&last->items.list.items[1], "text", ""), "line 29");
    mesh_call_free(last);
    last = mesh_ask(m, 0, "events", "{'limit': 3, 'since': %lld}", (long long)before - 5);
    assert_int_equal(mesh_wait(m, last, 1000), GW_OK);
    assert_int_equal(last->items.list.n, 3);
    mesh_call_free(last);
    mesh_call_free(all);
    mesh_call_free(one);
    mesh_call_free(lines);
    mesh_free(m);
}

/* A caller that goes while something is given to it, as a door tells it: from inside. */
static bool leave(struct op_call *call, const gw_value *value)
{
    (void)value;
    call->on_gone(call->gone_arg);
    return false;
}

struct door {
    struct op_call call;
    bool answered;
};
static void door_answer(struct op_call *call, gw_err err, gw_value *result,
                        const struct gw_error *why)
{
    struct door *d = (struct door *)call;
    (void)err, (void)why;
    assert_false(d->answered);
    d->answered = true;
    gw_value_free(result);
    gw_value_free(&call->args);
}

static void follow_and_leave(struct mesh *m, struct door *d, const char *op)
{
    *d = (struct door){
        .call = {.op = op_find(op), .role = ROLE_ADMIN, .answer = door_answer, .item = leave}};
    assert_int_equal(gw_map_set(&d->call.args, "follow", gw_bool(true)), GW_OK);
    node_call(mesh_node(m, 0), &d->call);
}

static void test_follower_that_leaves(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(212, 1);
    struct door doors[4];
    gw_id a = mesh_create(m, 0, "actor");
    for (size_t i = 0; i < 4; i++) {
        follow_and_leave(m, &doors[i], i % 2 ? "logs" : "events");
    }
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'shout', 'args': {'text': 'x'}}",
              id_text(&a));
    mesh_run(m, 1000);
    for (size_t i = 0; i < 4; i++) {
        assert_true(doors[i].answered);
    }
    mesh_free(m);
}

/* --- selectors --- */
static void test_selectors(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(213, 4); /* t0: h0, h2; t1: h1, h3 */
    char host[HOST_ID_TEXT];
    struct host_id id = mesh_host_id(m, 3);
    gw_id a = mesh_create(m, 0, "actor");
    static const struct {
        const char *to;
        gw_err err;
    } rows[] = {
        {"all", GW_EARG},
        {"nix", GW_EHOST_NOT_FOUND},
        {"tag:nix", GW_EHOST_NOT_FOUND},
        {"", GW_EARG},
        {"tag:", GW_EARG},
        {"tag:t0,!tag:t0", GW_EHOST_NOT_FOUND},
        {"tag:t0,!h2", GW_EARG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gw_err err =
            mesh_op(m, 0, NULL, "dispatch", "{'agent': '%s', 'to': '%s'}", id_text(&a), rows[i].to);
        if (err != rows[i].err && rows[i].err != GW_EARG) {
            mesh_fail(m, "\"%s\" is answered by %s", rows[i].to, gw_err_name(err));
        }
        assert_int_not_equal(err, GW_OK);
    }
    size_t seen[4] = {0};
    for (int i = 0; i < 40; i++) {
        gw_value v = gw_nil();
        mesh_must(m, 0, &v, "create", "{'type': 'actor', 'at': '%s'}", i % 2 ? "tag:t1" : "any");
        gw_id made = actor_id_of(m, &v);
        mesh_expect(m, &made);
        size_t at = mesh_where(m, &made, NULL);
        seen[at]++;
        mesh_assert(m, i % 2 == 0 || at % 2 == 1);
        gw_value_free(&v);
    }
    for (size_t i = 0; i < 4; i++) {
        mesh_assert(m, seen[i] > 0); /* each has its chance */
    }
    mesh_must(m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'tag:t0'}",
              id_text(&a)); /* rather another than here */
    assert_int_equal(mesh_where(m, &a, NULL), 2);
    mesh_must(m, 1, NULL, "dispatch", "{'agent': '%s', 'to': '%s'}", id_text(&a),
              host_id_text(&id, host));
    assert_int_equal(mesh_where(m, &a, NULL), 3);
    mesh_must(m, 1, NULL, "dispatch", "{'agent': '%s', 'to': 'https://h1.test:7420'}", id_text(&a));
    assert_int_equal(mesh_where(m, &a, NULL), 1);
    mesh_crash(m, 3);
    mesh_run(m, 6000);
    assert_int_equal(mesh_op(m, 1, NULL, "dispatch", "{'agent': '%s', 'to': 'h3'}", id_text(&a)),
                     GW_EUNREACHABLE);
    gw_err err = mesh_op(m, 1, NULL, "dispatch", "{'agent': '%s', 'to': 'tag:t1'}", id_text(&a));
    assert_true(err == GW_EHOST_NOT_FOUND ||
                err == GW_EUNREACHABLE); /* the only other one is down */
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mailbox),        cmocka_unit_test(test_mailbox_bytes),
        cmocka_unit_test(test_outbox),         cmocka_unit_test(test_recorded_answers),
        cmocka_unit_test(test_recorded_bytes), cmocka_unit_test(test_hints),
        cmocka_unit_test(test_staged),         cmocka_unit_test(test_pages),
        cmocka_unit_test(test_unborn),         cmocka_unit_test(test_events_kept),
        cmocka_unit_test(test_follow),         cmocka_unit_test(test_follower_that_leaves),
        cmocka_unit_test(test_selectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Operations on files: who does the work, and what of it is told through a third host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/value.h"
#include "tests/mesh/virtual.h"

#define COPY(from, to) "{'sources': ['/a'], 'dst': '/b', 'from': '" from "', 'to': '" to "'}"

static struct mesh *linked(uint64_t seed, size_t hosts)
{
    struct mesh *m = mesh_new(seed, hosts);
    mesh_start_all(m);
    return m;
}

static size_t begun(const struct mesh *m, size_t host)
{
    size_t ended;
    return mesh_file_copies(m, host, &ended);
}

static size_t over(const struct mesh *m, size_t host)
{
    size_t ended;
    (void)mesh_file_copies(m, host, &ended);
    return ended;
}

static void told(const struct mesh_call *c, const char *from, const char *to)
{
    assert_int_equal(c->items.list.n, 20);
    for (size_t i = 0; i < c->items.list.n; i++) {
        const gw_value *item = &c->items.list.items[i];
        assert_int_equal(gw_map_int(item, "bytes", 0), i + 1);
        assert_string_equal(gw_map_str(item, "from", ""), from);
        assert_string_equal(gw_map_str(item, "to", ""), to);
    }
    assert_true(gw_map_bool(&c->items.list.items[19], "done", false));
}

static void copied(struct mesh *m, size_t via, const char *args, const char *from, const char *to)
{
    struct mesh_call *c = mesh_ask(m, via, "files.copy", "%s", args);
    assert_int_equal(mesh_wait(m, c, 10000), GW_OK);
    told(c, from, to);
    mesh_call_free(c);
}

/* The host that has the sources does it; its items come through whoever was asked, in order. */
static void test_third_host(void **state)
{
    (void)state;
    struct mesh *m = linked(901, 3);
    copied(m, 2, COPY("h0", "h1"), "h0", "h1");
    copied(m, 0, COPY("h0", "h1"), "h0", "h1");
    copied(m, 1, COPY("h0", "h1"), "h0", "h1");
    assert_int_equal(begun(m, 0), 3);
    assert_int_equal(begun(m, 1) + begun(m, 2), 0);
    mesh_free(m);
}

/* What is not named is the host that was asked, also when the work is done elsewhere. */
static void test_unnamed_hosts(void **state)
{
    (void)state;
    struct mesh *m = linked(902, 3);
    copied(m, 2, "{'sources': ['/a'], 'dst': '/b', 'from': 'h0'}", "h0", "h2");
    copied(m, 2, "{'sources': ['/a'], 'dst': '/b', 'to': 'h1'}", "h2", "h1");
    copied(m, 2, "{'sources': ['/a'], 'dst': '/b'}", "h2", "h2");
    copied(m, 2, COPY("h2", "h2"), "h2", "h2");
    mesh_free(m);
}

/* A caller that goes away calls it off where it runs. */
static void test_caller_leaves(void **state)
{
    (void)state;
    struct mesh *m = linked(903, 3);
    for (size_t via = 0; via < 3; via += 2) {
        struct mesh_call *c = mesh_ask(m, via, "files.copy", COPY("h0", "h1"));
        size_t before = over(m, 0);
        mesh_run(m, via == 0 ? 0 : 500);
        mesh_call_leave(c);
        mesh_run(m, 400);
        assert_int_equal(over(m, 0), before + 1);
        assert_false(c->done);
        mesh_call_free(c);
    }
    mesh_free(m);
}

/* CANCEL leaves before what waits on the link: it is repeated when an item comes all the same. */
static bool lost_one;
static mesh_fate lose_first_cancel(void *arg, size_t from, size_t to, const struct frame *f)
{
    (void)arg, (void)from, (void)to;
    if (f->kind == FRAME_CANCEL && !lost_one) {
        lost_one = true;
        return FATE_LOSE;
    }
    return FATE_PASS;
}

static void test_cancel_too_early(void **state)
{
    (void)state;
    struct mesh *m = linked(904, 2);
    lost_one = false;
    mesh_on_frame(m, lose_first_cancel, NULL);
    struct mesh_call *c = mesh_ask(m, 1, "files.copy", COPY("h0", "h1"));
    mesh_call_leave(c);
    mesh_run(m, 600);
    assert_true(lost_one);
    assert_int_equal(begun(m, 0), 1);
    assert_int_equal(over(m, 0), 1);
    mesh_call_free(c);
    mesh_free(m);
}

static void refused(struct mesh *m, size_t via, const char *args, gw_err err, const char *text)
{
    struct mesh_call *c = mesh_ask(m, via, "files.copy", "%s", args);
    assert_int_equal(mesh_wait(m, c, 10000), err);
    if (!strstr(c->why.text, text)) {
        fail_msg("\"%s\" is not in: %s", text, c->why.text);
    }
    mesh_call_free(c);
}

static void test_refused(void **state)
{
    (void)state;
    struct mesh *m = linked(905, 3);
    refused(m, 2, COPY("nobody", "h1"), GW_EHOST_NOT_FOUND, "nobody");
    refused(m, 2, COPY("h0", "nobody"), GW_EHOST_NOT_FOUND, "nobody"); /* said by h0 */
    refused(m, 2, COPY("all", "h1"), GW_EARG, "all");
    refused(m, 2, COPY("h0", "all"), GW_EARG, "all");
    refused(m, 2, COPY("", "h1"), GW_EARG, "selector");
    mesh_crash(m, 1);
    mesh_run(m, 30000);
    refused(m, 2, COPY("h1", "h0"), GW_EUNREACHABLE, "h1");
    refused(m, 2, COPY("h0", "h1"), GW_EUNREACHABLE, "h1");
    assert_int_equal(begun(m, 0), 0);
    mesh_free(m);
}

/* The source, or the host that was asked, goes down in the middle. */
static void test_lost(void **state)
{
    (void)state;
    for (size_t victim = 0; victim < 3; victim += 2) {
        struct mesh *m = linked(906 + victim, 3);
        struct mesh_call *c = mesh_ask(m, 2, "files.copy", COPY("h0", "h1"));
        mesh_run(m, 700);
        assert_false(c->done);
        mesh_crash(m, victim);
        assert_int_equal(mesh_wait(m, c, 60000), GW_EUNREACHABLE);
        if (!strstr(c->why.text, victim == 0 ? "h0" : "h2")) {
            fail_msg("%s", c->why.text);
        }
        assert_in_range(c->items.list.n, 2, 8);
        mesh_call_free(c);
        mesh_run(m, 5000);
        mesh_free(m);
    }
}

static void test_ls(void **state)
{
    (void)state;
    struct mesh *m = linked(909, 3);
    static const struct {
        const char *args, *host;
    } cases[] = {{"{'on': 'h1', 'path': '/'}", "h1"}, {"{}", "h2"}, {"{'on': 'h2'}", "h2"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gw_value v = gw_nil();
        mesh_must(m, 2, &v, "files.ls", "%s", cases[i].args);
        assert_string_equal(gw_map_str(&v, "host", ""), cases[i].host);
        gw_value_free(&v);
    }
    assert_int_equal(mesh_op(m, 2, NULL, "files.ls", "{'on': 'nobody'}"), GW_EHOST_NOT_FOUND);
    mesh_free(m);
}

/* The end of a transfer is an event of each host that took part. */
static void test_events(void **state)
{
    (void)state;
    struct mesh *m = linked(910, 2);
    gw_value hosts = gw_nil();
    mesh_must(m, 0, &hosts, "hosts", "{}");
    struct host_id other = {{0}};
    const gw_value *list = gw_map_get(&hosts, "hosts");
    for (size_t i = 0; i < list->list.n; i++) {
        if (!gw_map_bool(&list->list.items[i], "self", true)) {
            const char *id = gw_map_str(&list->list.items[i], "host_id", "");
            assert_int_equal(host_id_parse(id, &other), GW_OK);
        }
    }
    gw_value_free(&hosts);
    struct node_transfer t = {.other = &other, .files = 3, .bytes = 12};
    node_transfer_ended(mesh_node(m, 0), &t);
    t.received = true;
    node_transfer_ended(mesh_node(m, 0), &t);
    t.err = GW_EDISK_FULL;
    t.reason = "no space is left";
    node_transfer_ended(mesh_node(m, 0), &t);
    struct mesh_call *c = mesh_ask(m, 0, "events", "{'kind': 'files'}");
    assert_int_equal(mesh_wait(m, c, 1000), GW_OK);
    assert_int_equal(c->items.list.n, 3);
    static const char *const kinds[] = {"files.sent", "files.received", "files.failed"};
    for (size_t i = 0; i < 3; i++) {
        const gw_value *e = &c->items.list.items[i];
        assert_string_equal(gw_map_str(e, "kind", ""), kinds[i]);
        assert_string_equal(gw_map_str(e, "peer", ""), "h1");
        assert_string_equal(gw_map_str(e, "text", ""),
                            i < 2 ? "3 files, 12 bytes" : "3 files, 12 bytes; no space is left");
    }
    mesh_call_free(c);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_third_host),
        cmocka_unit_test(test_unnamed_hosts),
        cmocka_unit_test(test_caller_leaves),
        cmocka_unit_test(test_cancel_too_early),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_ls),
        cmocka_unit_test(test_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

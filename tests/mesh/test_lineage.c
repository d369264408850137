/* Parents and children: what ends with its parent ends once, wherever it is and whatever fails
 * meanwhile; what outlives it lives on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/actor.h"
#include "tests/mesh/trap.h"

struct family {
    struct mesh *m;
    gw_id parent, child, grandchild, loose;
};

static gw_id bear(struct mesh *m, size_t host, const gw_id *parent, bool outlive)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "create", "{'type': 'tally', 'parent': '%s', 'outlive': %s}",
              gw_id_text(parent, id), outlive ? "true" : "false");
    gw_id child = actor_id_of(m, &v);
    gw_value_free(&v);
    return child;
}

static void family_open(struct family *f, uint64_t seed)
{
    f->m = actor_mesh(seed, 3);
    f->parent = mesh_create(f->m, 0, "tally");
    f->child = bear(f->m, 1, &f->parent, false);
    f->grandchild = bear(f->m, 2, &f->child, false);
    f->loose = bear(f->m, 2, &f->parent, true);
    mesh_expect_disposed(f->m, &f->parent);
    mesh_expect_disposed(f->m, &f->child);
    mesh_expect_disposed(f->m, &f->grandchild);
    mesh_expect(f->m, &f->loose);
}

static void dispose(struct mesh *m, const gw_id *agent)
{
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < 100; i++) {
        gw_err err = mesh_alive(m, i % 3) ? mesh_op(m, i % 3, NULL, "dispose", "{'agent': '%s'}",
                                                    gw_id_text(agent, id))
                                          : GW_EUNREACHABLE;
        if (err == GW_OK || err == GW_EDISPOSED) {
            return;
        }
        mesh_run(m, 300);
    }
    mesh_fail(m, "dispose is never acknowledged");
}

static size_t shown(struct mesh *m, const gw_id *agent, const char *member)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, 2, &v, "show", "{'agent': '%s'}", gw_id_text(agent, id));
    const gw_value *x = gw_map_get(&v, member);
    size_t n = x->kind == GW_LIST ? x->list.n : x->kind == GW_STR;
    gw_value_free(&v);
    return n;
}

static void expect_ended(struct family *f)
{
    size_t left = mesh_copies(f->m, &f->parent) + mesh_copies(f->m, &f->child) +
                  mesh_copies(f->m, &f->grandchild);
    if (left > 0) {
        mesh_fail(f->m, "%zu of the family are left", left);
    }
    assert_int_equal(mesh_copies(f->m, &f->loose), 1);
    assert_int_equal(shown(f->m, &f->loose, "parent"), 0);
    for (size_t i = 0; i < 3; i++) {
        if (actor_rows(f->m, i, TABLE_WATCHES) > 0) {
            mesh_fail(f->m, "h%zu still has rows of the family", i);
        }
    }
}

static void test_end_with_the_parent(void **state)
{
    (void)state;
    struct family f;
    family_open(&f, 1);
    mesh_run(f.m, 1000);
    assert_int_equal(shown(f.m, &f.parent, "children"), 2);
    assert_int_equal(shown(f.m, &f.parent, "watchers"), 0);
    assert_int_equal(shown(f.m, &f.child, "parent"), 1);
    assert_int_equal(shown(f.m, &f.child, "monitors"), 0);
    dispose(f.m, &f.parent);
    mesh_run(f.m, 3000);
    expect_ended(&f);
    assert_int_equal(actor_events(f.m, 2, "agent.orphan"), 1);
    assert_int_equal(actor_events(f.m, 1, "agent.dispose"), 1);
    mesh_free(f.m);
}

/* A child that ends leaves its parent's list. */
static void test_child_ends_first(void **state)
{
    (void)state;
    struct family f;
    family_open(&f, 2);
    mesh_run(f.m, 1000);
    dispose(f.m, &f.child);
    mesh_run(f.m, 3000);
    assert_int_equal(shown(f.m, &f.parent, "children"), 1);
    assert_int_equal(mesh_copies(f.m, &f.grandchild), 0);
    dispose(f.m, &f.parent);
    mesh_run(f.m, 3000);
    expect_ended(&f);
    mesh_free(f.m);
}

static void test_born_to_nobody(void **state)
{
    (void)state;
    struct family f;
    family_open(&f, 3);
    dispose(f.m, &f.parent); /* perhaps before it has heard of its children */
    gw_id late = bear(f.m, 1, &f.parent, false);
    mesh_expect_disposed(f.m, &late);
    mesh_run(f.m, 5000);
    assert_int_equal(mesh_copies(f.m, &late), 0);
    expect_ended(&f);
    mesh_free(f.m);
}

/* Out of reach is not the end. */
static void test_a_lost_parent_has_not_ended(void **state)
{
    (void)state;
    struct family f;
    family_open(&f, 4);
    mesh_run(f.m, 1000);
    mesh_crash(f.m, 0);
    mesh_run(f.m, 200000);
    assert_int_equal(mesh_copies(f.m, &f.child), 1);
    mesh_start(f.m, 0);
    mesh_run(f.m, 5000);
    dispose(f.m, &f.parent);
    mesh_run(f.m, 12000);
    expect_ended(&f);
    mesh_free(f.m);
}

/* The parent ends while its child moves and the grandchild sleeps; one fault on the way. */
static bool end_with(struct trap *t, uint64_t seed)
{
    struct family f;
    char child[GW_ID_TEXT], grandchild[GW_ID_TEXT];
    family_open(&f, seed);
    if (seed % 3) {
        mesh_run(f.m, 200);
    }
    trap_arm(t, f.m);
    struct mesh_call *move = mesh_ask(f.m, 1, "dispatch", "{'agent': '%s', 'to': 'h%d'}",
                                      gw_id_text(&f.child, child), seed % 2 ? 2 : 0);
    (void)mesh_op(f.m, mesh_alive(f.m, 2) ? 2 : 1, NULL, "deactivate", "{'agent': '%s'}",
                  gw_id_text(&f.grandchild, grandchild));
    mesh_run(f.m, (int64_t)mesh_random(f.m, 6));
    dispose(f.m, &f.parent);
    mesh_run(f.m, 3000);
    mesh_call_free(move);
    mesh_heal(f.m);
    mesh_run(f.m, 12000);
    for (size_t i = 0; i < 3; i++) {
        mesh_crash(f.m, i);
    }
    mesh_heal(f.m);
    expect_ended(&f);
    mesh_expect_whole(f.m);
    mesh_free(f.m);
    return t->fired;
}

static void test_across_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL,
                                        COMMIT_SLOW};
    for (size_t f = 0; f < 4; f++) {
        for (size_t host = 0; host < 3; host++) {
            bool hit = true;
            for (size_t k = 0; hit; k++) {
                struct trap t = {.host = host, .k = k, .fate = fates[f]};
                hit = end_with(&t, k);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end_with_the_parent),
        cmocka_unit_test(test_child_ends_first),
        cmocka_unit_test(test_born_to_nobody),
        cmocka_unit_test(test_a_lost_parent_has_not_ended),
        cmocka_unit_test(test_across_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

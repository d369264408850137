/* Metrics of hosts: what happened is what they count, on the side where it happened, and the text
 * is what a reader of format 0.0.4 takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

static char text[64 * 1024];

static void scrape(struct mesh *m, size_t host)
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "metrics", "{}");
    (void)snprintf(text, sizeof text, "%s", gw_map_str(&v, "text", ""));
    gw_value_free(&v);
}

/* The value of the line with this name and these labels; -1 when there is none. */
static double value(const char *series)
{
    size_t n = strlen(series);
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, series, n) == 0 && line[n] == ' ') {
            return strtod(line + n + 1, NULL);
        }
    }
    return -1;
}

#define expect(m, series, wanted)                                                                  \
    do {                                                                                           \
        double got_ = value(series);                                                               \
        if (got_ != (double)(wanted)) {                                                            \
            mesh_fail((m), "%s:%d: %s is %g, not %g\n%s", __FILE__, __LINE__, series, got_,        \
                      (double)(wanted), text);                                                     \
        }                                                                                          \
    } while (0)

static void add_times(struct mesh *m, size_t via, const gw_id *agent, int times)
{
    for (int i = 0; i < times; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key-%d", i);
        assert_int_equal(mesh_add(m, via, agent, key), GW_OK);
    }
}

static struct mesh *two_hosts(uint64_t seed)
{
    struct mesh *m = mesh_new(seed, 2);
    mesh_start_all(m);
    return m;
}

static void test_messages(void **state)
{
    (void)state;
    struct mesh *m = two_hosts(1);
    gw_id agent = mesh_create(m, 0, "tally");
    char id[GW_ID_TEXT];
    gw_id_text(&agent, id);
    scrape(m, 0);
    double runs = value("godwit_handler_seconds_count");
    double commits = value("godwit_store_commits_total");
    add_times(m, 1, &agent, 5); /* asked at h1, done at h0 */
    assert_int_equal(mesh_count(m, 0, &agent), 5);
    assert_int_not_equal(mesh_op(m, 0, NULL, "send", "{'agent': '%s', 'method': 'spoil'}", id),
                         GW_OK);
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'tell': true}", id);
    mesh_run(m, 100);
    scrape(m, 0);
    expect(m, "godwit_messages_total{outcome=\"ok\"}", 7);
    expect(m, "godwit_messages_total{outcome=\"error\"}", 1);
    expect(m, "godwit_messages_total{outcome=\"crashed\"}", 0);
    expect(m, "godwit_message_seconds_count", 8);
    expect(m, "godwit_handler_seconds_count", runs + 8);
    expect(m, "godwit_store_commits_total", commits + 7); /* 5 adds, the tell accepted and run */
    assert_true(value("godwit_message_seconds_sum") > 0);
    assert_true(value("godwit_store_commit_seconds_sum") > 0);
    expect(m, "godwit_mailbox_queued", 0);
    scrape(m, 1);
    expect(m, "godwit_messages_total{outcome=\"ok\"}", 0);
    mesh_free(m);
}

static void test_crash(void **state)
{
    (void)state;
    struct mesh *m = two_hosts(2);
    gw_id agent = mesh_create(m, 0, "tally");
    char id[GW_ID_TEXT];
    struct mesh_call *call =
        mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", gw_id_text(&agent, id));
    mesh_crash_runner(m, 0);
    assert_int_equal(mesh_wait(m, call, 10000), GW_ECRASHED);
    mesh_call_free(call);
    scrape(m, 0);
    expect(m, "godwit_messages_total{outcome=\"crashed\"}", 1);
    expect(m, "godwit_runner_restarts_total", 1);
    mesh_run(m, 1000);
    scrape(m, 0);
    expect(m, "godwit_runners{state=\"up\"}", 1);
    expect(m, "godwit_runners{state=\"starting\"}", 0);
    mesh_free(m);
}

/* Waiting behind a slow commit, and taken along by a move, is in no mailbox afterwards. */
static void test_agents_and_moves(void **state)
{
    (void)state;
    struct mesh *m = two_hosts(3);
    gw_id agent = mesh_create(m, 0, "tally"), other = mesh_create(m, 0, "tally");
    char id[GW_ID_TEXT];
    struct mesh_call *calls[10];
    for (size_t i = 0; i < 10; i++) {
        calls[i] =
            mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", gw_id_text(&agent, id));
    }
    scrape(m, 0);
    assert_true(value("godwit_mailbox_queued") > 0 && value("godwit_mailbox_queued") < 10);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(mesh_wait(m, calls[i], 10000), GW_OK);
        mesh_call_free(calls[i]);
    }
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", gw_id_text(&other, id));
    scrape(m, 0);
    expect(m, "godwit_mailbox_queued", 0);
    expect(m, "godwit_agents{status=\"active\",type=\"tally\"}", 1);
    expect(m, "godwit_agents{status=\"inactive\",type=\"tally\"}", 1);
    expect(m, "godwit_links_up", 1);
    expect(m, "godwit_peers", 1);
    assert_int_equal(mesh_move(m, 0, &agent, 1), GW_OK);
    mesh_run(m, 1000);
    scrape(m, 0);
    expect(m, "godwit_agents{status=\"active\",type=\"tally\"}", 0);
    expect(m, "godwit_agents{status=\"moving\",type=\"tally\"}", -1);
    expect(m, "godwit_moves_total{end=\"out\"}", 1);
    expect(m, "godwit_move_seconds_count", 1);
    expect(m, "godwit_moves_open", 0);
    scrape(m, 1);
    expect(m, "godwit_agents{status=\"active\",type=\"tally\"}", 1);
    expect(m, "godwit_moves_total{end=\"in\"}", 1);
    expect(m, "godwit_move_seconds_count", 0);
    gw_id home = mesh_create(m, 1, "homebody");
    assert_int_not_equal(mesh_move(m, 1, &home, 0), GW_OK);
    mesh_part(m, 0, 1, true);
    mesh_run(m, 10000);
    scrape(m, 1);
    expect(m, "godwit_moves_total{end=\"aborted\"}", 1);
    expect(m, "godwit_links_up", 0);
    expect(m, "godwit_peers", 1);
    mesh_free(m);
}

static commit_fate fail_commit(void *arg, size_t host)
{
    bool *once = arg;
    bool fire = *once && host == 0;
    *once = *once && !fire;
    return fire ? COMMIT_FAIL : COMMIT_PASS;
}

static void test_rollbacks(void **state)
{
    (void)state;
    struct mesh *m = two_hosts(4);
    gw_id agent = mesh_create(m, 0, "tally");
    bool once = true;
    mesh_on_commit(m, fail_commit, &once);
    assert_int_equal(mesh_add(m, 0, &agent, "once"), GW_EDISK_FULL);
    scrape(m, 0);
    expect(m, "godwit_store_rollbacks_total", 1);
    expect(m, "godwit_messages_total{outcome=\"error\"}", 1);
    mesh_free(m);
}

/* Each family: HELP, TYPE, its series; histograms ascend and end with +Inf = _count. */
static void test_form(void **state)
{
    (void)state;
    struct mesh *m = two_hosts(5);
    gw_id agent = mesh_create(m, 0, "tally");
    add_times(m, 0, &agent, 20);
    scrape(m, 0);
    char family[64] = "", type[16] = "";
    double last = 0, infinite = -1;
    size_t families = 0, series = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char name[64];
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%63s", family), 1);
            families++;
            last = 0;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%63s %15s", name, type), 2);
            assert_string_equal(name, family);
        } else {
            char *space = strrchr(line, ' '), *end;
            assert_non_null(space);
            double v = strtod(space + 1, &end);
            assert_true(*end == '\0' && v >= 0);
            assert_int_equal(strncmp(line, family, strlen(family)), 0);
            if (strstr(line, "_bucket{")) {
                assert_true(v >= last);
                last = v;
                infinite = strstr(line, "le=\"+Inf\"") ? v : -1;
            } else if (strcmp(type, "histogram") == 0 && strstr(line, "_count ")) {
                assert_true(v == infinite || infinite == -1);
                assert_true(v == last);
            }
            series++;
        }
    }
    assert_true(families >= 20 && series > families);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_agents_and_moves),
        cmocka_unit_test(test_rollbacks),
        cmocka_unit_test(test_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

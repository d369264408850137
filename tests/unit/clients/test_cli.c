/* The command line against a scripted host: what is asked, what is printed where, and the exit
 * codes. */
#include "clients/cli/cli.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include "tests/unit/clients/fake_host.h"

#include <cmocka.h>

#include "clients/cli/commands.h"
#include "protocol/json.h"
#include "tests/unit/clients/run_cli.h"

static char *home;
static struct fake fake;
static char asked[8192];               /* "op {args}" of the last call, the key taken out */
static const char *_Atomic reply_json; /* what the fake answers; NULL = an error */
static atomic_int reply_code;
static atomic_bool hang; /* no answer */

static bool script(struct fake *f, struct fake_call *c)
{
    struct gw_error e = {.code = reply_code, .text = "no agent \"x\x1b\"", .hint = "look again"};
    if (c->kind != FRAME_CALL) {
        return true;
    }
    struct buf args = {0};
    gw_value clean = gw_nil();
    for (size_t i = 0; c->args.kind == GW_MAP && i < c->args.map.n; i++) {
        const struct gw_member *m = &c->args.map.items[i];
        gw_value copy = gw_nil();
        if (strcmp(m->key, "key") == 0 && m->value.s.n == 32) {
            continue;
        }
        if (gw_value_copy(&m->value, &copy) != GW_OK || gw_map_set(&clean, m->key, copy) != GW_OK) {
            abort();
        }
    }
    if (json_write(&clean, 0, &args) != GW_OK) {
        abort();
    }
    snprintf(asked, sizeof asked, "%s %.*s", c->op, (int)args.len, (char *)args.data);
    buf_free(&args);
    gw_value_free(&clean);
    if (strcmp(c->op, "events") == 0 || strcmp(c->op, "logs") == 0) {
        for (int i = 1; i <= 2; i++) {
            gw_value item = gw_nil();
            if (gw_map_set(&item, "seq", gw_int(i)) != GW_OK ||
                gw_map_set(&item, "time_ms", gw_int(1000)) != GW_OK ||
                gw_map_set(&item, "kind", gw_str("arrive")) != GW_OK ||
                gw_map_set(&item, "peer", gw_str("beta")) != GW_OK ||
                gw_map_set(&item, "text", gw_str("a\x1b[2J")) != GW_OK) {
                abort();
            }
            fake_item(c, item);
        }
    }
    if (hang) {
        return true;
    }
    if (!reply_json) {
        fake_reply_error(c, reply_code, NULL, &e);
        return strcmp(c->op, "stop") != 0;
    }
    gw_value answer = gw_nil();
    if (json_parse(reply_json, strlen(reply_json), &answer, NULL) != GW_OK) {
        abort();
    }
    fake_reply(c, answer);
    (void)f;
    return strcmp(c->op, "stop") != 0;
}

/* A command of the caller that reads its own options. */
static char seen_args[256];
static int host_main(int argc, char **argv)
{
    seen_args[0] = '\0';
    for (int i = 0; i < argc; i++) {
        strncat(seen_args, argv[i], 40);
        strncat(seen_args, "|", 2);
    }
    return 42;
}
static const struct cli_command extra[] = {
    {.name = "host", .args = "--name NAME", .summary = "run a host", .main = host_main},
    {.name = "runner", .args = "", .summary = "of the host", .main = host_main, .hidden = true},
};

#define RUN(...)                                                                                   \
    (asked[0] = '\0', run_words((const char *[]){"godwit", __VA_ARGS__, NULL}, extra, 2))

/* ---- without a host ---- */

static void help_and_version(void **state)
{
    (void)state;
    assert_int_equal(RUN("--version"), 0);
    assert_int_equal(strncmp(out, "godwit ", 7), 0);
    assert_string_equal(err, "");
    assert_int_equal(RUN("--help"), 0);
    PRINTS(out, "  host ");
    PRINTS(out, "  mesh token");
    PRINTS(out, "--token-file FILE");
    assert_null(strstr(out, "runner"));
    assert_int_equal(RUN("send", "--help"), 0);
    PRINTS(out, "usage: godwit send [OPTION]... AGENT METHOD [KEY=VALUE]...");
    PRINTS(out, "--tell");
    assert_int_equal(RUN("help", "mesh", "token"), 0);
    PRINTS(out, "--ttl DURATION");
    assert_int_equal(RUN("help", "mesh"), 0);
    PRINTS(out, "mesh revoke");
    assert_int_equal(RUN("mesh", "--help"), 0);
    PRINTS(out, "mesh revoke");
    assert_int_equal(RUN("help", "host"), 42);
    assert_string_equal(seen_args, "host|--help|");
    const char *none[] = {"godwit", NULL};
    assert_int_equal(run_words(none, extra, 2), 2);
    assert_string_equal(out, "");
    PRINTS(err, "commands:");
}

static void wrong_usage(void **state)
{
    (void)state;
    assert_int_equal(RUN("sned", "a", "b"), 2);
    assert_string_equal(out, "");
    PRINTS(err, "godwit: there is no command \"sned\"");
    PRINTS(err, "hint: did you mean \"godwit send\"?");
    assert_int_equal(RUN("mesh", "tokem"), 2);
    PRINTS(err, "did you mean \"godwit mesh token");
    assert_int_equal(RUN("mesh"), 2);
    PRINTS(err, "needs a command");
    assert_int_equal(RUN("frobnicate"), 2);
    PRINTS(err, "\"godwit help\" lists");
    assert_int_equal(RUN("send", "a"), 2);
    PRINTS(err, "\"send\" needs more arguments: AGENT METHOD [KEY=VALUE]...");
    PRINTS(err, "see \"godwit send --help\"");
    assert_int_equal(RUN("status", "too", "much"), 2);
    PRINTS(err, "no place for \"too\"");
    assert_int_equal(RUN("send", "--tel=5", "a", "b"), 2);
    assert_int_equal(RUN("--timeout", "soon", "status"), 2);
    PRINTS(err, "--timeout: \"soon\" is not a duration");
    assert_int_equal(RUN("send", "a", "m", "novalue"), 2);
    PRINTS(err, "\"novalue\" is not of the form key=value");
    assert_int_equal(RUN("--json", "send", "a"), 2);
    assert_string_equal(out, "");
    PRINTS(err, "{\"error\": {\"code\": \"arg\", \"message\": \"\\\"send\\\" needs more arguments");
}

static void no_host_runs(void **state)
{
    (void)state;
    assert_int_equal(RUN("status"), 5);
    PRINTS(err, "godwit: no host runs under");
    PRINTS(err, "hint: start one: godwit host --name NAME --detach");
    assert_int_equal(RUN("-H", "../x", "status"), 2);
    assert_int_equal(RUN("mesh", "status", "--json"), 0);
    PRINTS(out, "\"mesh_id\": null");
}

static void commands_of_the_caller(void **state)
{
    (void)state;
    assert_int_equal(RUN("host", "--name", "alpha", "--json"), 42);
    assert_string_equal(seen_args, "host|--name|alpha|--json|");
    assert_int_equal(RUN("--json", "-q", "host", "--name", "alpha"), 42);
    assert_string_equal(seen_args, "host|--json|-q|--name|alpha|");
}

/* ---- with a host ---- */

static void begin(const char *json)
{
    reply_json = json;
    reply_code = GW_EAGENT_NOT_FOUND;
    hang = false;
    if (fake.script) {
        return;
    }
    fake = (struct fake){.script = script};
    fake_start(&fake, home, "alpha");
}

static void global_options(void **state)
{
    (void)state;
    begin("{\"name\": \"alpha\", \"pid\": 7, \"uptime_ms\": 65000}");
    assert_int_equal(RUN("status"), 0);
    assert_string_equal(asked, "status null");
    PRINTS(out, "name:      alpha\n");
    PRINTS(out, "uptime_ms: 1m 5s\n");
    assert_int_equal(RUN("--json", "status"), 0);
    assert_string_equal(out, "{\"name\": \"alpha\", \"pid\": 7, \"uptime_ms\": 65000}\n");
    assert_int_equal(RUN("-H", "alpha", "status", "--json"), 0);
    assert_int_equal(RUN("status", "--host=alpha", "-v"), 0);
    PRINTS(err, "connected to host \"alpha\"");
    assert_int_equal(RUN("status", "-H", "https://127.0.0.1:1"), 3);
    PRINTS(err, "ca.crt");
}

static void creating(void **state)
{
    (void)state;
    begin("{\"agent\": \"01ARZ3NDEKTSV4RRFFQ69G5FAV\", \"type\": \"counter\", \"host\": \"alpha\","
          " \"epoch\": 1}");
    assert_int_equal(
        RUN("create", "counter", "count=5", "--alias", "c", "tags:=[1]", "--at", "tag:gpu"), 0);
    assert_string_equal(asked, "create {\"type\": \"counter\", \"state\": {\"count\": \"5\", "
                               "\"tags\": [1]}, \"at\": \"tag:gpu\", \"alias\": \"c\", "
                               "\"text\": true}");
    assert_string_equal(out, "01ARZ3NDEKTSV4RRFFQ69G5FAV\n");
    PRINTS(err, "created counter on host \"alpha\"");
    assert_int_equal(RUN("-q", "create", "counter"), 0);
    assert_string_equal(asked, "create {\"type\": \"counter\"}");
    assert_string_equal(err, "");
    assert_int_equal(RUN("create", "counter", "--op-key", "K", "--json"), 0);
    assert_string_equal(asked, "create {\"type\": \"counter\", \"key\": \"K\"}");
    assert_string_equal(out, "{\"agent\": \"01ARZ3NDEKTSV4RRFFQ69G5FAV\", \"type\": \"counter\", "
                             "\"host\": \"alpha\", \"epoch\": 1}\n");
}

static void sending(void **state)
{
    (void)state;
    begin("{\"reply\": {\"count\": 5}, \"host\": \"beta\", \"epoch\": 2}");
    assert_int_equal(RUN("send", "c", "increment", "by=-5", "--timeout", "5s"), 0);
    assert_string_equal(asked, "send {\"args\": {\"by\": \"-5\"}, \"agent\": \"c\", \"method\": "
                               "\"increment\", \"text\": true, \"timeout\": 5000}");
    assert_string_equal(out, "count: 5\n");
    assert_string_equal(err, "");
    assert_int_equal(RUN("send", "c", "increment", "by:=5", "--tell", "--no-wake", "--priority",
                         "0", "--op-key", "K"),
                     0);
    assert_string_equal(asked,
                        "send {\"args\": {\"by\": 5}, \"agent\": \"c\", \"method\": \"increment\", "
                        "\"text\": false, \"timeout\": 30000, \"tell\": true, \"no_wake\": true, "
                        "\"priority\": 0, \"key\": \"K\"}");
    assert_string_equal(out, "");
    assert_int_equal(RUN("send", "c", "increment", "--json"), 0);
    assert_string_equal(out, "{\"reply\": {\"count\": 5}, \"host\": \"beta\", \"epoch\": 2}\n");
}

static void errors_and_codes(void **state)
{
    (void)state;
    static const struct {
        gw_err code;
        int exit_code;
    } rows[] = {{GW_EFAIL, 1},        {GW_EARG, 2},      {GW_EAGENT_NOT_FOUND, 3}, {GW_EDENIED, 4},
                {GW_EUNREACHABLE, 5}, {GW_ECONFLICT, 6}, {GW_ETIMEOUT, 124}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(NULL);
        reply_code = rows[i].code;
        assert_int_equal(RUN("show", "x"), rows[i].exit_code);
        assert_string_equal(out, "");
        assert_string_equal(err, "godwit: no agent \"x?\"\nhint: look again\n");
    }
    begin(NULL);
    assert_int_equal(RUN("show", "x", "--json"), 3);
    assert_string_equal(out, "");
    assert_string_equal(err, "{\"error\": {\"code\": \"agent_not_found\", \"message\": "
                             "\"no agent \\\"x\\u001b\\\"\", \"hint\": \"look again\"}}\n");
    begin("{}");
    hang = true;
    assert_int_equal(RUN("show", "x", "--timeout", "100ms"), 124);
    PRINTS(err, "did not answer \"show\" within 100 ms");
    hang = false;
}

static void lists(void **state)
{
    (void)state;
    begin("{\"hosts\": [{\"name\": \"alpha\", \"host_id\": \"X1\", \"url\": \"https://a:1\", "
          "\"state\": \"alive\", \"tags\": [\"lab\", \"disk\"], \"properties\": [], \"self\": "
          "true}]}");
    assert_int_equal(RUN("hosts"), 0);
    PRINTS(out, "NAME ");
    PRINTS(out, "alpha alive https://a:1 lab,disk -          true X1\n");
    begin("{\"agents\": [{\"agent\": \"01\", \"type\": \"c\", \"host\": \"alpha\", \"status\": "
          "\"active\", \"epoch\": 12, \"alias\": null}], \"next\": \"CUR\"}");
    assert_int_equal(RUN("agents", "--all", "--type", "c", "--limit", "1", "--after", "x"), 0);
    assert_string_equal(asked,
                        "agents {\"all\": true, \"limit\": 1, \"type\": \"c\", \"after\": \"x\"}");
    PRINTS(out, "01    c    alpha active    12 -\n");
    PRINTS(err, "more: --after CUR");
    begin("{\"agents\": [], \"next\": null}");
    assert_int_equal(RUN("agents"), 0);
    assert_string_equal(out, "");
    PRINTS(err, "no agents");
    begin("{\"moves\": []}");
    assert_int_equal(RUN("moves", "--all"), 0);
    PRINTS(err, "no moves in flight");
    begin("{\"letters\": [{\"letter\": 3, \"time\": null, \"agent\": \"01\", \"type\": \"c\", "
          "\"method\": \"m\", \"bytes\": 9, \"error\": \"it ended\"}], \"next\": 3}");
    assert_int_equal(RUN("dead", "list", "--limit", "1", "--after", "2"), 0);
    assert_string_equal(asked, "dead {\"limit\": 1, \"after\": 2}");
    PRINTS(out, "3 -    01    c    m          9 it ended\n");
    PRINTS(err, "more: --after 3");
    begin("{\"letters\": [], \"next\": null}");
    assert_int_equal(RUN("dead", "list"), 0);
    PRINTS(err, "no dead letters");
    begin("{\"text\": \"a 1\\nb\\u001b 2\\n\"}");
    assert_int_equal(RUN("metrics"), 0);
    PRINTS(out, "a 1\nb? 2\n");
    begin("{\"types\": [{\"name\": \"counter\", \"version\": 1, \"fields\": [{\"name\": \"count\","
          " \"type\": \"int\"}], \"methods\": [{\"signature\": "
          "\"increment(by: int = 1) -> (count: int)\"}, {\"signature\": \"value()\", \"read\": "
          "true}]}], \"broken\": [{\"plugin\": \"x.so\"}]}");
    assert_int_equal(RUN("types"), 0);
    PRINTS(out, "counter       1 -          increment,value\n");
    assert_int_equal(RUN("types", "counter"), 0);
    assert_string_equal(asked, "types {\"name\": \"counter\"}");
    PRINTS(out, "  count: int\n");
    PRINTS(out, "  increment(by: int = 1) -> (count: int)\n");
    PRINTS(out, "  value()  (read only)\n");
    PRINTS(err, "not loaded: x.so");
}

static void life(void **state)
{
    (void)state;
    begin("{\"agent\": \"01\", \"host\": \"beta\", \"epoch\": 2, \"status\": \"active\"}");
    assert_int_equal(RUN("dispatch", "01", "beta", "--inactive"), 0);
    assert_string_equal(asked, "dispatch {\"agent\": \"01\", \"to\": \"beta\", \"inactive\": true, "
                               "\"timeout\": 30000}");
    PRINTS(out, "host:   beta\n");
    assert_int_equal(RUN("retract", "01", "--require", "gpu", "--require", "ssd"), 0);
    assert_string_equal(asked, "retract {\"agent\": \"01\", \"require\": [\"gpu\", \"ssd\"], "
                               "\"timeout\": 30000}");
    assert_int_equal(RUN("clone", "01"), 0);
    assert_string_equal(asked, "clone {\"agent\": \"01\", \"timeout\": 30000}");
    assert_string_equal(out, "01\n");
    begin("{\"agent\": \"01\", \"dry_run\": true, \"possible\": false, \"code\": \"refused\"}");
    assert_int_equal(RUN("dispatch", "01", "beta", "--dry-run"), 6);
    assert_string_equal(asked, "dispatch {\"agent\": \"01\", \"to\": \"beta\", \"dry_run\": true, "
                               "\"timeout\": 30000}");
    assert_int_equal(RUN("clone", "01", "--dry-run"), 6);
    begin("{\"agent\": \"01\", \"dry_run\": true, \"possible\": true}");
    assert_int_equal(RUN("retract", "01", "beta", "--dry-run"), 0);
    begin("{\"agent\": \"01\", \"host\": \"beta\", \"epoch\": 2, \"status\": \"active\"}");
    assert_int_equal(RUN("itinerary", "01", "look@beta", "tag:lab", "--arg", "by=2", "--wait"), 0);
    assert_string_equal(
        asked, "itinerary {\"agent\": \"01\", \"stops\": [{\"to\": \"beta\", \"method\": \"look\", "
               "\"args\": {\"by\": \"2\"}, \"policy\": \"wait\"}, {\"to\": \"tag:lab\", "
               "\"policy\": \"wait\"}], \"text\": true, \"home\": true}");
    assert_int_equal(RUN("itinerary", "01", "--cancel"), 0);
    assert_string_equal(asked, "itinerary {\"agent\": \"01\", \"cancel\": true}");
    assert_int_equal(RUN("itinerary", "01", "a", "--cancel"), 2);
    assert_int_equal(RUN("itinerary", "01", "@a"), 2);
    assert_int_equal(RUN("deactivate", "01", "--no-wake-on-message"), 0);
    assert_string_equal(asked, "deactivate {\"agent\": \"01\", \"wake_on_message\": false}");
    assert_int_equal(RUN("activate", "01"), 0);
    assert_int_equal(RUN("dispose", "01"), 0);
    assert_string_equal(asked, "dispose {\"agent\": \"01\"}");
    assert_int_equal(RUN("moves", "resolve", "T1", "--source-destroyed"), 0);
    assert_string_equal(asked, "resolve {\"ticket\": \"T1\", \"source_destroyed\": true}");
    begin("{\"token\": \"godwit-token-1.x\", \"expires\": \"soon\", \"uses\": 3, \"warning\": "
          "\"this machine only\"}");
    assert_int_equal(RUN("mesh", "token", "--ttl", "2h", "--uses", "3", "--tag", "a", "--tag", "b"),
                     0);
    assert_string_equal(asked, "token {\"ttl\": 7200000, \"uses\": 3, \"tags\": [\"a\", \"b\"]}");
    assert_string_equal(out, "godwit-token-1.x\n");
    PRINTS(err, "valid until soon, for 3 use(s)\nwarning: this machine only\n");
    begin("{\"id\": \"T\", \"revoked\": true}");
    assert_int_equal(RUN("mesh", "revoke", "T"), 0);
    assert_string_equal(asked, "revoke {\"token\": \"T\"}");
}

static void event_lines(void **state)
{
    (void)state;
    begin("null");
    assert_int_equal(RUN("events", "--since", "5", "--agent", "01", "--limit", "9"), 0);
    assert_string_equal(asked, "events {\"since\": 5, \"agent\": \"01\", \"limit\": 9}");
    assert_string_equal(out, "1970-01-01T00:00:01.000Z 1 arrive peer=beta a?[2J\n"
                             "1970-01-01T00:00:01.000Z 2 arrive peer=beta a?[2J\n");
    assert_int_equal(RUN("logs", "01", "--json"), 0);
    assert_string_equal(asked, "logs {\"agent\": \"01\"}");
    PRINTS(out, "{\"seq\": 1, \"time_ms\": 1000, \"kind\": \"arrive\", \"peer\": \"beta\", "
                "\"text\": \"a\\u001b[2J\"}\n{\"seq\": 2");
}

static void *press_ctrl_c(void *arg)
{
    (void)arg;
    usleep(200000);
    kill(getpid(), SIGINT);
    return NULL;
}

static void following_until_ctrl_c(void **state)
{
    (void)state;
    begin("null");
    hang = true;
    pthread_t thread;
    pthread_create(&thread, NULL, press_ctrl_c, NULL);
    assert_int_equal(RUN("events", "-f"), CLI_EXIT_INTERRUPTED);
    pthread_join(thread, NULL);
    assert_string_equal(asked, "events {\"follow\": true}");
    PRINTS(out, " 2 arrive ");
    assert_string_equal(err, "");
    /* a call that may have been applied says under which key */
    pthread_create(&thread, NULL, press_ctrl_c, NULL);
    assert_int_equal(RUN("send", "a", "m", "--op-key", "K9"), CLI_EXIT_INTERRUPTED);
    pthread_join(thread, NULL);
    PRINTS(err, "--op-key K9");
    hang = false;
}

static void stopping(void **state)
{
    (void)state;
    begin("{\"name\": \"alpha\", \"host_id\": \"X1\", \"pid\": 0}");
    assert_int_equal(RUN("stop"), 0);
    assert_string_equal(out, "host \"alpha\" stopped\n");
    assert_int_equal(RUN("stop", "alpha", "--json"), 0);
    assert_string_equal(
        out, "{\"name\": \"alpha\", \"host_id\": \"X1\", \"pid\": 0, \"stopped\": true}\n");
    /* a process that does not end: our own */
    char json[128];
    snprintf(json, sizeof json, "{\"name\": \"alpha\", \"pid\": %d}", getpid());
    begin(json);
    assert_int_equal(RUN("stop", "--timeout", "300ms"), 124);
    PRINTS(err, "host \"alpha\" was asked to stop and is still there");
    assert_int_equal(RUN("stop", "beta"), 3);
}

static void full_disk(void **state)
{
    (void)state;
    begin("{\"name\": \"alpha\"}");
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {strdup("godwit"), strdup("--version"), NULL};
        if (!freopen("/dev/full", "w", stdout)) {
            _exit(99);
        }
        _exit(cli_main(2, argv, NULL, 0));
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 1);
}

/* Every command and option has its line in docs/cli.md. */
static void docs_are_complete(void **state)
{
    (void)state;
    FILE *f = fopen("docs/cli.md", "r");
    if (!f) {
        skip(); /* not run from the root of the tree */
    }
    static char docs[262144];
    docs[fread(docs, 1, sizeof docs - 1, f)] = '\0';
    fclose(f);
    for (size_t i = 0; i < commands_count; i++) {
        char head[96], option[96];
        snprintf(head, sizeof head, "\n### %s\n", commands[i].name);
        const char *section = strstr(docs, head);
        if (!section) {
            fail_msg("docs/cli.md has no section \"%s\"", commands[i].name);
        }
        const char *end = strstr(section + 5, "\n### ");
        for (const struct cli_option *o = commands[i].options; o && o->name; o++) {
            snprintf(option, sizeof option, "--%s", o->name);
            const char *at = strstr(section, option);
            if (!at || (end && at > end)) {
                fail_msg("docs/cli.md, %s: no line for %s", commands[i].name, option);
            }
        }
    }
    for (const struct cli_option *o = cli_global_options; o->name; o++) {
        char option[96];
        snprintf(option, sizeof option, "--%s", o->name);
        assert_non_null(strstr(docs, option));
    }
}

static int setup(void **state)
{
    (void)state;
    home = strdup(fake_home());
    unsetenv("NO_COLOR");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (fake.script) {
        fake_stop(&fake);
    }
    fake_home_remove(home);
    free(home);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(wrong_usage),
        cmocka_unit_test(no_host_runs),
        cmocka_unit_test(commands_of_the_caller),
        cmocka_unit_test(global_options),
        cmocka_unit_test(creating),
        cmocka_unit_test(sending),
        cmocka_unit_test(errors_and_codes),
        cmocka_unit_test(lists),
        cmocka_unit_test(life),
        cmocka_unit_test(event_lines),
        cmocka_unit_test(following_until_ctrl_c),
        cmocka_unit_test(stopping),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(docs_are_complete),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

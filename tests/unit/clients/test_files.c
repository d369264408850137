/* The commands on files against a scripted host, the line of progress, and paths of this machine.
 */
#include <locale.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>

#include "tests/unit/clients/fake_host.h"

#include <cmocka.h>

#include "clients/cli/copy_line.h"
#include "clients/cli/local_path.h"
#include "protocol/json.h"
#include "tests/unit/clients/run_cli.h"

static char *home, *here;
static struct fake fake;
static char asked[8192];                /* "op {args}" of the last call */
static const char *_Atomic items[9];    /* what the fake streams: JSON, NULL ends it */
static const char *_Atomic pages[3];    /* answers of files.ls, one after the other */
static atomic_int answer_code, page_at; /* of the stream; GW_OK */
static atomic_bool hang;                /* no answer, but to CANCEL */

static gw_value parsed(const char *json)
{
    gw_value v = gw_nil();
    struct gw_error why;
    if (json_parse(json, strlen(json), &v, &why) != GW_OK) {
        fprintf(stderr, "%s: %s\n", json, why.text);
        abort();
    }
    return v;
}

static bool script(struct fake *f, struct fake_call *c)
{
    struct buf args = {0};
    (void)f;
    if (c->kind != FRAME_CALL) {
        return true;
    }
    if (json_write(&c->args, 0, &args) != GW_OK) {
        abort();
    }
    snprintf(asked, sizeof asked, "%s %.*s", c->op, (int)args.len, (char *)args.data);
    buf_free(&args);
    if (strcmp(c->op, "files.ls") == 0) {
        fake_reply(c, parsed(pages[page_at++]));
        return true;
    }
    for (size_t i = 0; items[i]; i++) {
        fake_item(c, parsed(items[i]));
    }
    struct gw_error why = {.code = answer_code, .text = "host \"beta\" is not reachable"};
    if (!hang && answer_code != GW_OK) {
        fake_reply_error(c, answer_code, NULL, &why);
    } else if (!hang) {
        fake_reply(c, gw_nil());
    }
    return true;
}

#define RUN(...)                                                                                   \
    (asked[0] = '\0', run_words((const char *[]){"godwit", __VA_ARGS__, NULL}, NULL, 0))

static void streams(const char *first, const char *second, const char *third)
{
    items[0] = first;
    items[1] = second;
    items[2] = third;
    items[3] = NULL;
    answer_code = GW_OK;
    hang = false;
}

#define DONE                                                                                       \
    "{\"done\": true, \"files\": 2, \"bytes\": 3145728, \"sent_bytes\": 1024, "                    \
    "\"saved_bytes\": 3144704, \"seconds\": 1.5, \"hash\": null, \"failed\": 0, \"from\": "        \
    "\"alpha\", \"to\": \"beta\"}"
#define DONE_WITH_FAULTS                                                                           \
    "{\"done\": true, \"files\": 1, \"bytes\": 5, \"sent_bytes\": 5, \"saved_bytes\": 0, "         \
    "\"seconds\": 0.1, \"hash\": \"aa\", \"failed\": 2, \"from\": \"alpha\", \"to\": \"beta\"}"

/* ---- what is asked ---- */

static void asks(const char *args)
{
    char wanted[8192];
    snprintf(wanted, sizeof wanted, "files.copy %s", args);
    assert_string_equal(asked, wanted);
}

static void arguments(void **state)
{
    (void)state;
    char wanted[4096];
    streams(DONE, NULL, NULL);
    assert_int_equal(RUN("files", "push", "a", "/b/", "beta:~/x"), 0);
    snprintf(wanted, sizeof wanted,
             "{\"dst\": \"~/x\", \"to\": \"beta\", \"sources\": [\"%s/a\", \"/b/\"]}", here);
    asks(wanted);
    assert_int_equal(
        RUN("files", "pull", "-r", "tag:gpu,!tag:old:/v/*.log", "tag:gpu,!tag:old:", "logs/"), 0);
    snprintf(wanted, sizeof wanted,
             "{\"recursive\": true, \"dst\": \"%s/logs/\", \"from\": \"tag:gpu,!tag:old\", "
             "\"sources\": [\"/v/*.log\", \"\"]}",
             here);
    asks(wanted);
    assert_int_equal(RUN("files", "copy", "-rn", "--move", "--overwrite", "--update", "--verify",
                         "--exclude", "*.o", "--exclude", ".git", "--limit", "10M", "--compress",
                         "never", "alpha:/x", "https://127.0.0.1:7420:/y:z"),
                     0);
    asks("{\"recursive\": true, \"move\": true, \"overwrite\": true, \"update\": true, "
         "\"verify\": true, \"dry_run\": true, \"exclude\": [\"*.o\", \".git\"], \"limit\": "
         "10485760, \"compress\": \"never\", \"dst\": \"/y:z\", \"to\": "
         "\"https://127.0.0.1:7420\", \"from\": \"alpha\", \"sources\": [\"/x\"]}");
}

static void wrong_usage(void **state)
{
    (void)state;
    static const struct {
        const char *words[5], *says;
    } cases[] = {
        {{"push", "a"}, "needs more arguments"},
        {{"push", "a", "/b"}, "does not name a host and a path"},
        {{"pull", "/a", "b"}, "does not name a host and a path"},
        {{"copy", "alpha:a", "beta"}, "does not name a host and a path"},
        {{"copy", "alpha:a", "gamma:a", "beta:"}, "sources of two hosts"},
        {{"push", "--limit", "0", "a", "beta:"}, "--limit 0"},
        {{"push", "--limit=ten", "a", "beta:"}, "is not a size"},
        {{"push", "--limit=9223372036854775808", "a", "beta:"}, "is not a size"},
        {{"push", "--compress=zip", "a", "beta:"}, "is not auto, always or never"},
        {{"push", "", "beta:"}, "a path is empty"},
        {{"push", "\xff", "beta:"}, "is not UTF-8"},
        {{"ls", "beta:\xff"}, "is not UTF-8"},
        {{"ls", "/x"}, "does not name a host and a path"},
    };
    streams(DONE, NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *words[8] = {"godwit", "files"};
        memcpy(words + 2, cases[i].words, sizeof cases[i].words);
        asked[0] = '\0';
        assert_int_equal(run_words(words, NULL, 0), 2);
        PRINTS(err, cases[i].says);
        assert_string_equal(asked, "");
    }
    /* a place where a path of here is meant */
    assert_int_equal(RUN("files", "push", "alpha:/x", "beta:/y"), 0);
    PRINTS(err, "\"alpha:/x\" is taken for a path here");
}

/* ---- what is printed ---- */

static void results(void **state)
{
    (void)state;
    streams("{\"files\": 1, \"files_total\": 2, \"bytes\": 5, \"path\": \"a\"}", DONE, NULL);
    assert_int_equal(RUN("files", "push", "a", "beta:"), 0);
    assert_string_equal(out, "");
    assert_string_equal(err, "2 files, 3 MiB in 1.5s (2 MiB/s), 1 KiB sent, 3 MiB there already\n");
    assert_int_equal(RUN("files", "push", "a", "beta:", "-q"), 0);
    assert_string_equal(err, "");
    assert_int_equal(RUN("files", "push", "a", "beta:", "--json"), 0);
    assert_string_equal(out, "{\"files\": 2, \"bytes\": 3145728, \"sent_bytes\": 1024, "
                             "\"saved_bytes\": 3144704, \"seconds\": 1.5, \"hash\": null, "
                             "\"failed\": 0, \"from\": \"alpha\", \"to\": \"beta\", \"errors\": "
                             "[]}\n");
    assert_string_equal(err, "");
    streams("{\"path\": \"a\\u001b[2Jb\", \"would\": \"send\"}", DONE, NULL);
    assert_int_equal(RUN("files", "push", "-n", "a", "beta:"), 0);
    assert_string_equal(out, "send a?[2Jb\n");
    assert_string_equal(err, "2 files, 3 MiB; would send 1 KiB, 3 MiB there already\n");
}

static void failures(void **state)
{
    (void)state;
    streams("{\"path\": \"a\\n\\u001b[2J\", \"code\": \"exists\", \"reason\": \"is there\"}",
            DONE_WITH_FAULTS, NULL);
    assert_int_equal(RUN("files", "push", "a", "beta:"), 1);
    PRINTS(err, "godwit: a??[2J: is there\n");
    PRINTS(err, "1 file, 5 B in 100 ms (50 B/s), 5 B sent\n");
    PRINTS(err, "godwit: 2 could not be copied; not all of them are named\n");
    assert_int_equal(RUN("files", "push", "a", "beta:", "--json"), 1);
    PRINTS(out, "\"errors\": [{\"path\": \"a\\n\\u001b[2J\", \"code\": \"exists\", \"reason\": "
                "\"is there\"}]}");
    assert_string_equal(err, "");
    /* as a whole */
    streams(NULL, NULL, NULL);
    answer_code = GW_EUNREACHABLE;
    assert_int_equal(RUN("files", "push", "a", "beta:"), 5);
    PRINTS(err, "host \"beta\" is not reachable");
    PRINTS(err, "hint: what is there stays: the same command again goes on from there");
    /* a report that does not end as it should */
    streams("{\"files\": 1}", NULL, NULL);
    assert_int_equal(RUN("files", "push", "a", "beta:"), 1);
    PRINTS(err, "the report of the copy is not whole");
}

static void *press_ctrl_c(void *arg)
{
    (void)arg;
    while (!asked[0]) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    kill(getpid(), SIGINT);
    return NULL;
}

static void interrupted(void **state)
{
    (void)state;
    pthread_t thread;
    int before = fake.cancels;
    streams("{\"files\": 1}", NULL, NULL);
    hang = true;
    asked[0] = '\0';
    pthread_create(&thread, NULL, press_ctrl_c, NULL);
    assert_int_equal(RUN("files", "push", "a", "beta:"), CLI_EXIT_INTERRUPTED);
    pthread_join(thread, NULL);
    PRINTS(err, "the same command again goes on from there");
    assert_int_equal(RUN("files", "push", "a", "beta:", "--timeout", "50ms"), 124);
    for (int i = 0; i < 2000 && fake.cancels < before + 2; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(fake.cancels, before + 2);
}

/* ---- ls ---- */

#define PAGE_1                                                                                     \
    "{\"host\": \"beta\", \"host_id\": \"ID\", \"path\": \"/x\", \"entries\": ["                   \
    "{\"name\": \"a\\u001b[2J\", \"type\": \"file\", \"size\": 2048, \"mode\": 420, \"mtime\": "   \
    "\"2026-11-22T10:00:00.000Z\"}, "                                                              \
    "{\"name\": \"d\", \"type\": \"folder\", \"size\": 0, \"mode\": 1005, \"mtime\": "             \
    "\"2026-11-22T10:00:00.000Z\"}], \"next\": \"d\"}"
#define PAGE_2                                                                                     \
    "{\"host\": \"beta\", \"host_id\": \"ID\", \"path\": \"/x\", \"entries\": ["                   \
    "{\"name\": \"l\", \"type\": \"link\", \"size\": 1, \"mode\": 511, \"mtime\": "                \
    "\"2026-11-22T10:00:00.000Z\", \"target\": \"a\"}, "                                           \
    "{\"name\": \"s\", \"type\": \"other\", \"size\": 0, \"mode\": 4005, \"mtime\": "              \
    "\"2026-11-22T10:00:00.000Z\"}], \"next\": null}"

static void listing(void **state)
{
    (void)state;
    pages[0] = PAGE_1;
    pages[1] = PAGE_2;
    page_at = 0;
    assert_int_equal(RUN("files", "ls", "tag:x:~/y"), 0);
    assert_string_equal(asked, "files.ls {\"path\": \"~/y\", \"on\": \"ID\", \"after\": \"d\"}");
    assert_string_equal(out, " SIZE MODIFIED                 NAME\n"
                             "2 KiB 2026-11-22T10:00:00.000Z a?[2J\n"
                             "    - 2026-11-22T10:00:00.000Z d/\n"
                             "    - 2026-11-22T10:00:00.000Z l -> a\n"
                             "    - 2026-11-22T10:00:00.000Z s\n");
    page_at = 0;
    assert_int_equal(RUN("files", "ls", "-l", "beta:"), 0);
    PRINTS(out, "-rw-r--r-- 2 KiB 2026");
    PRINTS(out, "drwxr-xr-t     - 2026");
    PRINTS(out, "lrwxrwxrwx     - 2026");
    PRINTS(out, "?rwSr-Sr-t     - 2026");
    page_at = 0;
    assert_int_equal(RUN("files", "ls", "beta:", "--json"), 0);
    PRINTS(out,
           "{\"host\": \"beta\", \"path\": \"/x\", \"entries\": [{\"name\": \"a\\u001b[2J\", ");
    PRINTS(out, "\"target\": \"a\"}, {\"name\": \"s\"");
    assert_null(strstr(out, "next"));
}

/* ---- the line ---- */

static void line_is(const struct copy_line *l, unsigned width, const char *wanted)
{
    struct buf text = {0};
    copy_line_add(l, width, &text);
    buf_add(&text, "", 1);
    assert_true(buf_ok(&text));
    assert_string_equal((char *)text.data, wanted);
    buf_free(&text);
}

static void take(struct copy_line *l, const char *json, int64_t now_ms)
{
    gw_value item = parsed(json);
    copy_line_take(l, &item, now_ms);
    gw_value_free(&item);
}

static void progress(void **state)
{
    (void)state;
    struct copy_line l = {0};
    line_is(&l, 79, "  0%  0 B of 0 B");
    take(&l, "{\"files_total\": 1, \"bytes_total\": 104857600, \"path\": \"a/b\\u0007c\"}", 1000);
    line_is(&l, 79, "  0%  0 B of 100 MiB  a/b?c");
    take(&l, "{\"bytes\": 10485760}", 1010); /* too soon for a rate */
    line_is(&l, 79, " 10%  10 MiB of 100 MiB  a/b?c");
    take(&l, "{\"bytes\": 10485760}", 2000);
    line_is(&l, 79, " 10%  10 MiB of 100 MiB  10 MiB/s  10s left  a/b?c");
    take(&l, "{\"bytes\": 31457280, \"saved_bytes\": 1048576}", 3000); /* 20 MiB/s, smoothed */
    line_is(&l, 79, " 30%  30 MiB of 100 MiB  12.5 MiB/s  6s left  saved 1 MiB  a/b?c");
    take(&l, "{\"bytes\": 104857600, \"files\": 3, \"files_total\": 4}", 4000);
    line_is(&l, 90, "100%  100 MiB of 100 MiB  26.9 MiB/s  0 ms left  saved 1 MiB  3/4  a/b?c");
    line_is(&l, 30, "100%  100 MiB of 100 MiB  26.9");
    line_is(&l, 70, "100%  100 MiB of 100 MiB  26.9 MiB/s  0 ms left  saved 1 MiB  3/4");
    /* a source that grows is never more than all of it */
    take(&l, "{\"bytes\": 209715200}", 4001);
    line_is(&l, 10, "100%  200 ");
}

/* The end of a long name is shown, whole characters of it. */
static void long_names(void **state)
{
    (void)state;
    struct copy_line l = {0};
    take(&l, "{\"files\": 1, \"files_total\": 1, \"path\": \"photos/2026/berlin/eins.jpg\"}", 0);
    line_is(&l, 44, "100%  0 B of 0 B  ...os/2026/berlin/eins.jpg");
    char item[4096];
    int n = snprintf(item, sizeof item, "{\"path\": \"");
    for (int i = 0; i < 300; i++) {
        n += snprintf(item + n, sizeof item - (size_t)n, "\u00e9");
    }
    snprintf(item + n, sizeof item - (size_t)n, "z\"}");
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    take(&l, item, 0);
    line_is(&l, 25, "100%  0 B of 0 B  ...\u00e9\u00e9\u00e9z");
}

/* ---- paths ---- */

static void path_is(const char *typed, bool is_source, const char *wanted)
{
    char *path = NULL, expanded[8192];
    struct gw_error why;
    if (local_path(typed, is_source, &path, &why) != GW_OK) {
        fail_msg("\"%s\": %s", typed, why.text);
    }
    snprintf(expanded, sizeof expanded, "%s%s", wanted[0] == '/' ? "" : here,
             wanted[0] == '/' ? wanted : wanted + 1);
    assert_string_equal(path, expanded);
    free(path);
}

static void local_paths(void **state)
{
    (void)state;
    path_is("a", false, "./a");
    path_is("./a//b/./c", false, "./a/b/c");
    path_is("/", false, "/");
    path_is("//x/", false, "/x/");
    path_is(".", true, "./");
    path_is("./", true, "./");
    path_is("a/.", true, "./a/");
    path_is("~", false, "./~");
    path_is("nothing*here", true, "./nothing*here");
    /* a name that looks like a pattern, and is there */
    close(open("a[1]*?\\", O_CREAT | O_WRONLY, 0600));
    path_is("a[1]*?\\", true, "./a\\[1]\\*\\?\\\\");
    path_is("a[1]*?\\", false, "./a[1]*?\\");
    assert_int_equal(unlink("a[1]*?\\"), 0);
}

/* ".." goes up from where a link leads, as it does for every other program; $PWD is what we are
 * told about where we are, when it is right. */
static void links_in_paths(void **state)
{
    (void)state;
    char real[4096], *path = NULL, wanted[8192];
    assert_int_equal(mkdir("deep", 0700) | mkdir("deep/er", 0700), 0);
    assert_int_equal(symlink("deep/er", "link"), 0);
    assert_non_null(realpath(".", real));
    snprintf(wanted, sizeof wanted, "%s/deep/x", real);
    assert_int_equal(local_path("link/../x", false, &path, NULL), GW_OK);
    assert_string_equal(path, wanted);
    free(path);
    snprintf(wanted, sizeof wanted, "%s/deep", real);
    assert_int_equal(local_path("link/..", false, &path, NULL), GW_OK);
    assert_string_equal(path, wanted);
    free(path);
    path_is("link/x", false, "./link/x");
    assert_int_equal(local_path("none/../x", false, &path, NULL), GW_ENOT_FOUND);
    assert_int_equal(local_path("", false, &path, NULL), GW_EARG);
    assert_int_equal(chdir("link"), 0);
    snprintf(wanted, sizeof wanted, "%s/link", here);
    setenv("PWD", wanted, 1);
    snprintf(wanted, sizeof wanted, "%s/link/x", here);
    assert_int_equal(local_path("x", false, &path, NULL), GW_OK);
    assert_string_equal(path, wanted);
    free(path);
    setenv("PWD", "/tmp", 1);
    snprintf(wanted, sizeof wanted, "%s/deep/er/x", real);
    assert_int_equal(local_path("x", false, &path, NULL), GW_OK);
    assert_string_equal(path, wanted);
    free(path);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(unlink("link") | rmdir("deep/er") | rmdir("deep"), 0);
}

static int setup(void **state)
{
    (void)state;
    home = strdup(fake_home());
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/here", home);
    if (mkdir(folder, 0700) != 0 || chdir(folder) != 0) {
        return -1;
    }
    unsetenv("PWD");
    here = getcwd(NULL, 0);
    fake = (struct fake){.script = script};
    fake_start(&fake, home, "alpha");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_stop(&fake);
    if (chdir("/") != 0) {
        return -1;
    }
    fake_home_remove(home);
    free(here);
    free(home);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments),   cmocka_unit_test(wrong_usage),
        cmocka_unit_test(results),     cmocka_unit_test(failures),
        cmocka_unit_test(interrupted), cmocka_unit_test(listing),
        cmocka_unit_test(progress),    cmocka_unit_test(long_names),
        cmocka_unit_test(local_paths), cmocka_unit_test(links_in_paths),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

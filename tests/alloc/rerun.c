/* Runs a test program again and again, each time with another allocation failing: n = 1, 2, 3 …
 * until a run has none that fails. It takes cmocka's place in the program, so that each run is a
 * forked process with one test.
 *
 * An allocation that fails may fail the test, since the call that it hit says so. What a run must
 * not do, whatever its test says: end by a signal or a sanitizer's report, hang, or lose memory.
 * Leaks are looked for at the end of a test that passes, and at the first assertion that fails,
 * before anything of the test is left: what its variables hold is no leak, what a function that
 * failed half-way has dropped is one.
 *
 *     ALLOC=short   every 8th of the places that allocate (default: all)
 *     ALLOC=each    every single allocation instead of the first and last of each place in a test
 *     TEST=name N=n   this one alone, with all that it prints
 *
 * A place is a chain of five calls, so what a loop allocates is tried at its begin and its end; one
 * that other tests of the program have gone through TRIES times is not tried again. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>

#include "tests/alloc/failing.h"

#define RUN_MS       30000
#define SHORT_STEP   8
#define PLACES_MAX   (1u << 16)
#define TRIES        4  /* of one place in a program */
#define CODE_REFUSED 90 /* an assertion failed after the allocation had */
#define CODE_LEAK    91
#define CODE_REPORT  92 /* a sanitizer's */
#define SHOWN_BYTES  6000

typedef int run_group(const char *name, const struct CMUnitTest *tests, size_t n,
                      CMFixtureFunction setup, CMFixtureFunction teardown);
typedef void fail_at_line(const char *file, int line);

struct group {
    run_group *run;
    const char *name;
    CMFixtureFunction setup, teardown;
};

static struct failing *failing;
static fail_at_line *real_fail;
static CMUnitTestFunction real_test;
static bool in_run;
static char dir[1000], out_path[1100];

/* Ours before those of the environment: cmocka shall not catch what a sanitizer reports. */
#define SEEN __attribute__((visibility("default")))
SEEN const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "exitcode=92:handle_segv=2:handle_sigbus=2:handle_sigfpe=2:handle_sigill=2";
}
SEEN const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "exitcode=92:print_stacktrace=1";
}

/* ---- inside a run ---- */

SEEN void _fail(const char *const file, const int line)
{
    if (!in_run || !failing->fired) {
        real_fail(file, line);
        abort(); /* it does not return */
    }
    fprintf(stderr, "%s:%d: fails\n", file, line);
    _exit(__lsan_do_recoverable_leak_check() ? CODE_LEAK : CODE_REFUSED);
}

/* A text that was not made is told by its assertion, not by a crash in it. */
SEEN void _assert_string_equal(const char *const a, const char *const b, const char *const file,
                               const int line)
{
    if (!a || !b || strcmp(a, b) != 0) {
        fprintf(stderr, "\"%s\" != \"%s\"\n", a ? a : "(null)", b ? b : "(null)");
        _fail(file, line);
    }
}

static void armed_test(void **state)
{
    failing_arm(true);
    real_test(state);
    failing_arm(false);
}

static __attribute__((noreturn)) void one_run(const struct group *g, const struct CMUnitTest *t)
{
    struct CMUnitTest one = *t;
    int out = open(out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 ||
        setenv("TMPDIR", dir, 1) != 0) {
        _exit(99);
    }
    setpgid(0, 0);
    real_test = t->test_func;
    one.test_func = armed_test;
    in_run = true;
    int failed = g->run(g->name, &one, 1, g->setup, g->teardown);
    failing->armed = 0;
    fflush(NULL);
    if (failed == 0 && __lsan_do_recoverable_leak_check()) {
        _exit(CODE_LEAK);
    }
    _exit(failed == 0 ? 0 : failing->fired ? CODE_REFUSED : 1);
}

/* ---- around it ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind;
    return at->level == 0 ? 0 : remove(path);
}

/* The status as of waitpid; -1: it hangs, and was killed. */
static int run_once(const struct group *g, const struct CMUnitTest *t, uint32_t fail_at)
{
    int status = -1;
    failing->count = failing->fired = 0;
    failing->fail_at = fail_at;
    memset(failing->calls, 0, sizeof failing->calls);
    pid_t pid = fork();
    if (pid == 0) {
        one_run(g, t);
    }
    int fd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (fd < 0) {
        perror("fork");
        exit(1);
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool ended = poll(&p, 1, RUN_MS) > 0;
    close(fd);
    if (!ended) {
        kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    kill(-pid, SIGKILL); /* what it has started */
    failing->armed = 0;
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return ended ? status : -1;
}

static void show_output(void)
{
    char text[SHOWN_BYTES + 1];
    int fd = open(out_path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, SHOWN_BYTES) : 0;
    if (fd >= 0) {
        close(fd);
    }
    printf("%.*s\n", (int)(n > 0 ? n : 0), text);
}

/* These end the process when there is no memory (types.h, output.h, json.c), and may say so where a
 * test looks for it. */
static bool in_function_that_ends(void)
{
    char name[100];
    for (size_t i = 0; i < FAILING_CALLS_MAX && failing->calls[i]; i++) {
        __sanitizer_symbolize_pc((void *)(failing->calls[i] - 1), "%f", name, /* NOLINT */
                                 sizeof name);
        if (strcmp(name, "gw_strf") == 0 || strcmp(name, "output_text") == 0 ||
            strcmp(name, "json_allocate") == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the process said before its end that it cannot go on (log_die, xcalloc). */
static bool ended_orderly(int status)
{
    char text[SHOWN_BYTES * 4 + 1];
    if (WIFEXITED(status) ? WEXITSTATUS(status) != 1 : WTERMSIG(status) != SIGABRT) {
        return false;
    }
    int fd = open(out_path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, "out of memory") || strstr(text, "store.failed") || in_function_that_ends();
}

/* NULL: the run is in order. */
static const char *fault_of(int status)
{
    static char text[80];
    if (status == -1) {
        return "hangs";
    }
    if (ended_orderly(status)) {
        return NULL;
    }
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "ends by signal %d", WTERMSIG(status));
        return text;
    }
    int code = WEXITSTATUS(status);
    if (code == 0 || code == CODE_REFUSED) {
        return NULL;
    }
    if (code == CODE_LEAK || code == CODE_REPORT) {
        return code == CODE_LEAK ? "loses memory" : "is reported by a sanitizer";
    }
    snprintf(text, sizeof text, "ends with code %d", code);
    return text;
}

static void tell_fault(const struct CMUnitTest *t, uint32_t n, const char *fault)
{
    char line[600];
    printf("ERROR: %s N=%u: %s; the allocation that failed:\n", t->name, n, fault);
    for (size_t i = 0; i < FAILING_CALLS_MAX && failing->calls[i]; i++) {
        __sanitizer_symbolize_pc((void *)(failing->calls[i] - 1), "    %f %s:%l", line, /* NOLINT */
                                 sizeof line);
        printf("%s\n", line);
    }
    show_output();
    fflush(stdout);
}

/* ---- which allocations ---- */

struct place {
    uint64_t site;
    uint32_t n;
};

static int by_site(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->site != y->site ? (x->site < y->site ? -1 : 1) : (x->n > y->n) - (x->n < y->n);
}

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Places that earlier tests of the program have gone through as often as is worth while. */
static bool known(uint64_t site, unsigned tries)
{
    static uint64_t sites[PLACES_MAX];
    static uint8_t tried[PLACES_MAX];
    for (size_t i = 0; i < PLACES_MAX; i++) {
        size_t at = (site + i) % PLACES_MAX;
        if (tried[at] == 0 || sites[at] == site) {
            sites[at] = site;
            bool enough = tried[at] >= tries;
            tried[at] += !enough;
            return enough;
        }
    }
    return false; /* too many to remember */
}

/* Numbers of allocations to fail, of those that the last run made. */
static size_t choose(uint32_t **ret)
{
    const char *form = getenv("ALLOC");
    uint32_t count = failing->count < FAILING_SITES_MAX ? failing->count : FAILING_SITES_MAX;
    struct place *p = calloc(count + 1, sizeof *p);
    uint32_t *chosen = calloc(count + 1, sizeof *chosen);
    bool each = form && strcmp(form, "each") == 0, few = form && strcmp(form, "short") == 0;
    size_t n = 0;
    if (!p || !chosen) {
        perror("choose");
        exit(1);
    }
    for (uint32_t i = 0; i < count; i++) {
        p[i] = (struct place){failing->sites[i], i + 1};
    }
    qsort(p, count, sizeof *p, by_site);
    for (uint32_t i = 0, first = 0; i < count; i++) {
        first = i > 0 && p[i].site == p[i - 1].site ? first : i;
        bool last = i + 1 == count || p[i + 1].site != p[i].site;
        if (each || (few ? first == i && p[i].site % SHORT_STEP == 0 && !known(p[i].site, 1)
                         : (first == i || last) && !known(p[i].site, TRIES))) {
            chosen[n++] = p[i].n;
        }
    }
    free(p);
    qsort(chosen, n, sizeof *chosen, by_number);
    *ret = chosen;
    return n;
}

static bool rerun(const struct group *g, const struct CMUnitTest *t)
{
    int status = run_once(g, t, 0);
    uint32_t *chosen, allocations = failing->count;
    if (status != 0) {
        printf("ERROR: %s fails without a failing allocation\n", t->name);
        show_output();
        return false;
    }
    size_t n = choose(&chosen), faults = 0, refused = 0, fired = 0;
    for (size_t i = 0; i < n; i++) {
        status = run_once(g, t, chosen[i]);
        const char *fault = fault_of(status);
        refused += status != 0;
        fired += failing->fired;
        if (fault) {
            faults++;
            tell_fault(t, chosen[i], fault);
        }
    }
    printf("%s: %u allocations, %zu of them fail (%zu did), %zu end the test, %zu faults\n",
           t->name, allocations, n, fired, refused, faults);
    free(chosen);
    return faults == 0;
}

/* One run, seen. */
static bool rerun_one(const struct group *g, const struct CMUnitTest *t, uint32_t n)
{
    int status = run_once(g, t, n);
    const char *fault = fault_of(status);
    tell_fault(t, n, fault ? fault : "no fault");
    return !fault;
}

/* ---- in cmocka's place ---- */

static void prepare(struct group *g)
{
    const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    setvbuf(stdout, NULL, _IOLBF, 0);
    *(void **)&g->run = dlsym(RTLD_NEXT, "_cmocka_run_group_tests");
    *(void **)&real_fail = dlsym(RTLD_NEXT, "_fail");
    snprintf(dir, sizeof dir, "%s/gw-alloc-XXXXXX", tmp ? tmp : "/tmp");
    if (!g->run || !real_fail || !mkdtemp(dir)) {
        perror("rerun");
        exit(1);
    }
    snprintf(out_path, sizeof out_path, "%s.out", dir);
    alarm(0); /* the test program's, for all of it */
}

int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *const tests, const size_t n,
                            CMFixtureFunction setup, CMFixtureFunction teardown)
{
    struct group g = {.name = name, .setup = setup, .teardown = teardown};
    const char *only = getenv("TEST"), *number = getenv("N");
    size_t passed = 0, failed = 0;
    prepare(&g);
    for (size_t i = 0; i < n; i++) {
        if (!tests[i].test_func || (only && strcmp(only, tests[i].name) != 0)) {
            continue;
        }
        bool well = number ? rerun_one(&g, &tests[i], (uint32_t)strtoul(number, NULL, 10))
                           : rerun(&g, &tests[i]);
        passed += well;
        failed += !well;
    }
    unlink(out_path);
    rmdir(dir);
    printf("[  PASSED  ] %zu test(s).\n", passed);
    if (failed > 0) {
        printf(" %zu FAILED TEST(S)\n", failed);
    }
    return (int)failed;
}

static __attribute__((constructor)) void begin(void)
{
    failing = failing_init();
}

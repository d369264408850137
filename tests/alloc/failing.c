#include "tests/alloc/failing.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dirent.h>
#include <event2/event.h>
#include <sqlite3.h>

#include "protocol/base/buf.h"

#define PLACE_CALLS      8   /* that make a place, three of them here */
#define OWN_CALLS        4   /* of this file, at most */
#define LAST_FUNCTION    200 /* bytes of xstrdup, about */
#define PAGE_BYTES       4096
#define ENDING_FUNCTIONS 320 /* bytes of xcalloc and xstrdup together, about */

extern const char __executable_start, etext; /* of the linker */
static struct failing *shared;
static _Thread_local bool ours; /* a thread of the test's, or one that the library has started */
static bool forking;            /* the library does */
static bool tests_buf;          /* the program, whose subject buffers are */

/* ---- which allocation fails ---- */

static uintptr_t stack_end(void)
{
    static _Thread_local uintptr_t end;
    pthread_attr_t attr;
    void *from;
    size_t n;
    if (!end && pthread_getattr_np(pthread_self(), &attr) == 0) {
        (void)pthread_attr_getstack(&attr, &from, &n);
        end = (uintptr_t)from + n;
        pthread_attr_destroy(&attr);
    }
    return end;
}

/* By the frame pointers of our code, which is quick; libraries are built without them. */
static __attribute__((no_sanitize("address", "undefined"))) size_t frames(uintptr_t *ret_calls)
{
    const uintptr_t *frame = __builtin_frame_address(0);
    uintptr_t end = stack_end();
    size_t n = 0;
    while (n < FAILING_CALLS_MAX) {
        uintptr_t up = frame[0];
        ret_calls[n++] = frame[1];
        if (up <= (uintptr_t)frame || up + 2 * sizeof *frame > end || up % sizeof *frame != 0) {
            break;
        }
        frame = (const uintptr_t *)up; /* NOLINT: as the ABI has it */
    }
    return n;
}

static size_t walk(uintptr_t *ret_calls)
{
    size_t n = frames(ret_calls);
    return n < PLACE_CALLS ? (size_t)backtrace((void **)ret_calls, FAILING_CALLS_MAX) : n;
}

/* The same in each run: libraries lie elsewhere, but at the same place of a page. */
static uint64_t calls_hash(void)
{
    uintptr_t calls[FAILING_CALLS_MAX], size = (uintptr_t)&etext - (uintptr_t)&__executable_start;
    size_t n = walk(calls);
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n && i < PLACE_CALLS; i++) {
        uintptr_t at = calls[i] - (uintptr_t)&__executable_start;
        hash = (hash ^ (at < size ? at : calls[i] % PAGE_BYTES)) * 1099511628211u;
    }
    return hash ^ hash >> 29;
}

/* An xcalloc that fails ends the process, and is meant to. */
static bool ends_process(uintptr_t caller)
{
    uintptr_t begin = (uintptr_t)xcalloc, other = (uintptr_t)xstrdup;
    begin = begin < other ? begin : other;
    return caller >= begin && caller < begin + ENDING_FUNCTIONS;
}

static bool in_buf(uintptr_t at) /* first and last function of buf.c */
{
    return at >= (uintptr_t)buf_reserve && at < (uintptr_t)xstrdup + LAST_FUNCTION;
}

/* Bytes that a test puts into a buffer of its own, which it need not look after. The program begins
 * with the code of the test. */
static bool test_builds(void)
{
    uintptr_t calls[FAILING_CALLS_MAX];
    size_t n = frames(calls), i = 0;
    while (i < n && i < OWN_CALLS && !in_buf(calls[i])) {
        i++;
    }
    size_t first = i;
    while (i < n && in_buf(calls[i])) {
        i++;
    }
    return i > first && i < n && calls[i] < (uintptr_t)stack_end && !tests_buf;
}

static bool fails(const void *caller)
{
    if (!ours || !shared || !__atomic_load_n(&shared->armed, __ATOMIC_RELAXED) ||
        ends_process((uintptr_t)caller) || test_builds()) {
        return false;
    }
    uint32_t n = __atomic_add_fetch(&shared->count, 1, __ATOMIC_RELAXED);
    if (shared->fail_at == 0 && n <= FAILING_SITES_MAX) {
        shared->sites[n - 1] = calls_hash();
    }
    if (n != shared->fail_at) {
        return false;
    }
    shared->fired = 1;
    walk(shared->calls);
    errno = ENOMEM;
    return true;
}

/* ---- what the library calls ---- */

#define FAILS fails(__builtin_return_address(0))

void *failing_malloc(size_t n);
void *failing_calloc(size_t n, size_t size);
void *failing_realloc(void *p, size_t n);
char *failing_strdup(const char *text);
char *failing_strndup(const char *text, size_t n);
int failing_vasprintf(char **ret, const char *fmt, va_list ap);
char *failing_realpath(const char *path, char *to);
int failing_scandir(const char *dir, struct dirent ***ret, int (*filter)(const struct dirent *),
                    int (*order)(const struct dirent **, const struct dirent **));
int failing_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
                           void *arg);
pid_t failing_fork(void);

void *failing_malloc(size_t n)
{
    return FAILS ? NULL : malloc(n);
}

void *failing_calloc(size_t n, size_t size)
{
    return FAILS ? NULL : calloc(n, size);
}

void *failing_realloc(void *p, size_t n)
{
    return FAILS ? NULL : realloc(p, n);
}

char *failing_strdup(const char *text)
{
    return FAILS ? NULL : strdup(text);
}

char *failing_strndup(const char *text, size_t n)
{
    return FAILS ? NULL : strndup(text, n);
}

int failing_vasprintf(char **ret, const char *fmt, va_list ap)
{
    return FAILS ? -1 : vasprintf(ret, fmt, ap);
}

char *failing_realpath(const char *path, char *to)
{
    return FAILS ? NULL : realpath(path, to);
}

int failing_scandir(const char *dir, struct dirent ***ret, int (*filter)(const struct dirent *),
                    int (*order)(const struct dirent **, const struct dirent **))
{
    return FAILS ? -1 : scandir(dir, ret, filter, order);
}

struct thread {
    void *(*body)(void *);
    void *arg;
};

static void *thread_main(void *arg)
{
    struct thread t = *(struct thread *)arg;
    free(arg);
    ours = true;
    return t.body(t.arg);
}

int failing_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*body)(void *),
                           void *arg)
{
    struct thread *t = malloc(sizeof *t);
    if (!t) {
        return EAGAIN;
    }
    *t = (struct thread){body, arg};
    int err = pthread_create(ret, attr, thread_main, t);
    if (err) {
        free(t);
    }
    return err;
}

pid_t failing_fork(void)
{
    forking = true;
    pid_t pid = fork();
    forking = false;
    return pid;
}

/* A process that a test forks plays a part in it. */
static void in_child(void)
{
    ours = ours && forking;
}

void failing_arm(bool on)
{
    ours = true;
    shared->armed = on;
}

/* ---- what libraries call for it ---- */

static sqlite3_mem_methods sqlite_real;

static void *sqlite_malloc(int n)
{
    return FAILS ? NULL : sqlite_real.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return FAILS ? NULL : sqlite_real.xRealloc(p, n);
}

struct failing *failing_init(void)
{
    sqlite3_mem_methods sqlite;
    struct failing *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f == MAP_FAILED || pthread_atfork(NULL, NULL, in_child) != 0 ||
        sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_real) != SQLITE_OK) {
        perror("failing_init");
        exit(1);
    }
    sqlite = sqlite_real;
    sqlite.xMalloc = sqlite_malloc;
    sqlite.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &sqlite) != SQLITE_OK) {
        fputs("sqlite3_config\n", stderr);
        exit(1);
    }
    event_set_mem_functions(failing_malloc, failing_realloc, free);
    tests_buf = strstr(program_invocation_short_name, "test_buf");
    shared = f;
    return f;
}

#include "persistence/storage.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

/* A storage whose thread can be held: `wake` runs on it and waits for the gate while it is shut. */
struct world {
    struct scratch dir;
    struct storage *storage;
    int event;
    atomic_int wakes;
    bool shut;
    sem_t held, gate;
    struct buf log; /* one word per callback, in order */
};

static void wake(void *arg)
{
    struct world *w = arg;
    uint64_t one = 1;
    w->wakes++;
    if (w->shut) {
        sem_post(&w->held);
        while (sem_wait(&w->gate) != 0 && errno == EINTR) {
        }
    }
    assert_int_equal(write(w->event, &one, sizeof one), sizeof one);
}

static int open_world(void **state, bool on_disk)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    scratch_make(&w->dir);
    struct store *store;
    struct gw_error why = {0};
    gw_err err = on_disk ? store_open_sqlite(w->dir.path, &store, &why) : store_open_memory(&store);
    assert_int_equal(err, GW_OK);
    w->event = eventfd(0, EFD_CLOEXEC);
    sem_init(&w->held, 0, 0);
    sem_init(&w->gate, 0, 0);
    assert_int_equal(storage_start(store, wake, w, &w->storage), GW_OK);
    *state = w;
    return 0;
}

static int on_memory(void **state)
{
    return open_world(state, false);
}

static int on_sqlite(void **state)
{
    return open_world(state, true);
}

static int close_world(void **state)
{
    struct world *w = *state;
    if (w->storage) {
        store_close(storage_stop(w->storage));
    }
    close(w->event);
    sem_destroy(&w->held);
    sem_destroy(&w->gate);
    buf_free(&w->log);
    scratch_remove(&w->dir);
    free(w);
    return 0;
}

/* --- helpers --- */
static struct span text(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

struct note { /* of one submission: frees itself in its callback */
    struct world *w;
    char name[16];
};

static struct note *note(struct world *w, const char *name)
{
    struct note *n = calloc(1, sizeof *n);
    assert_non_null(n);
    n->w = w;
    snprintf(n->name, sizeof n->name, "%s", name);
    return n;
}

static void on_commit(void *arg, gw_err err)
{
    struct note *n = arg;
    buf_addf(&n->w->log, "%s%s%s ", n->name, err ? "!" : "", err ? gw_err_name(err) : "");
    free(n);
}

static void on_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct note *n = arg;
    buf_addf(&n->w->log, "%s%s%s", n->name, err ? "!" : "", err ? gw_err_name(err) : "");
    for (size_t i = 0; i < count; i++) {
        buf_addf(&n->w->log, "%c%.*s=%.*s", i == 0 ? ':' : ',', (int)rows[i].key.n,
                 (const char *)rows[i].key.p, (int)rows[i].value.n, (const char *)rows[i].value.p);
    }
    buf_addf(&n->w->log, " ");
    free(n);
}

static void put(struct world *w, const char *name, const char *key, const char *value)
{
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_META, text(key), text(value));
    storage_commit(w->storage, b, on_commit, note(w, name));
}

static void read_all(struct world *w, const char *name)
{
    struct store_range all = {.table = TABLE_META};
    storage_read(w->storage, &all, 1, on_read, note(w, name));
}

/* Run completions until `want` callbacks have run. */
static void complete(struct world *w, size_t want)
{
    size_t n = 0;
    while (n < want) {
        uint64_t x;
        assert_int_equal(read(w->event, &x, sizeof x), sizeof x);
        n += storage_complete(w->storage);
    }
    assert_int_equal(n, want);
}

/* Hold the thread after one commit "h", with the gate shut; everything submitted until release()
 * waits together. */
static void hold(struct world *w)
{
    w->shut = true;
    put(w, "h", "h", "");
    while (sem_wait(&w->held) != 0 && errno == EINTR) {
    }
    w->shut = false;
}

static void release(struct world *w)
{
    sem_post(&w->gate);
}

static void assert_log(struct world *w, const char *want)
{
    buf_add(&w->log, "", 1);
    assert_string_equal((const char *)w->log.data, want);
    buf_reset(&w->log);
}

/* --- tests --- */
static void completes_in_order(void **state)
{
    struct world *w = *state;
    read_all(w, "r0");
    put(w, "a", "k", "1");
    read_all(w, "r1");
    put(w, "b", "k", "2");
    put(w, "c", "l", "3");
    read_all(w, "r2");
    complete(w, 6);
    assert_log(w, "r0 a r1:k=1 b c r2:k=2,l=3 ");
    assert_int_equal(storage_stats(w->storage).commits, 3);
    assert_int_equal(storage_stats(w->storage).waiting, 0);
    assert_int_equal(storage_complete(w->storage), 0);
}

static void what_waits_is_one_group(void **state)
{
    struct world *w = *state;
    hold(w);
    struct storage_stats before = storage_stats(w->storage);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        put(w, name, "k", name);
        if (i % 5 == 4) {
            read_all(w, "r");
        }
    }
    assert_int_equal(storage_stats(w->storage).waiting, 25);
    release(w);
    complete(w, 25);
    struct storage_stats after = storage_stats(w->storage);
    assert_int_equal(after.commits - before.commits, 20);
    assert_int_equal(after.groups - before.groups, 1);
    assert_int_equal(after.waiting, 0);
    /* Each read saw what was submitted before it and nothing of what came later. */
    assert_log(w, "h 0 1 2 3 4 r:h=,k=4 5 6 7 8 9 r:h=,k=9 10 11 12 13 14 r:h=,k=14 15 16 17 18 19 "
                  "r:h=,k=19 ");
}

static void a_large_group_is_cut(void **state)
{
    struct world *w = *state;
    hold(w);
    for (int i = 0; i < 2500; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_META, text(key), text(key));
        storage_commit(w->storage, b, NULL, NULL);
    }
    release(w);
    complete(w, 2501);
    struct storage_stats s = storage_stats(w->storage);
    assert_int_equal(s.commits, 2501);
    assert_int_equal(s.groups, 1 + 3);
}

static void announced_once_until_completed(void **state)
{
    struct world *w = *state;
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 50; i++) {
            put(w, "x", "k", "v");
            struct timespec pause = {0, i == 25 ? 3000000 : 0};
            nanosleep(&pause, NULL);
        }
        struct pollfd p = {.fd = w->event, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        while (storage_stats(w->storage).groups == 0 ||
               storage_stats(w->storage).commits < 50u * (unsigned)round) {
            struct timespec pause = {0, 1000000};
            nanosleep(&pause, NULL);
        }
        struct timespec pause = {0, 2000000}; /* the last group is handed over */
        nanosleep(&pause, NULL);
        assert_int_equal(w->wakes, round);
        complete(w, 50);
    }
}

static void a_bad_batch_fails_alone(void **state)
{
    struct world *w = *state;
    hold(w);
    put(w, "a", "a", "1");
    put(w, "bad", "", "no key");
    storage_commit(w->storage, NULL, on_commit, note(w, "none"));
    put(w, "b", "b", "2");
    storage_commit(w->storage, store_batch_new(), on_commit, note(w, "empty"));
    read_all(w, "r");
    release(w);
    complete(w, 7);
    assert_log(w, "h a bad!arg none!nomem b empty r:a=1,b=2,h= ");
}

/* Batches that build on one another: behind one that was undone none is applied, and those of no
 * chain, or of another, are. */
static void a_broken_chain_stays_broken(void **state)
{
    struct world *w = *state;
    struct store_chain *one = store_chain_new(), *two = store_chain_new();
    static const struct {
        const char *name, *key;
        int chain;
    } steps[] = {{"a", "a", 1}, {"b", "b", 2}, {"bad", "", 1},
                 {"c", "c", 1}, {"d", "d", 2}, {"e", "e", 0}};
    hold(w);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_META, text(steps[i].key), text("1"));
        store_batch_chain(b, steps[i].chain == 1 ? one : steps[i].chain == 2 ? two : NULL);
        storage_commit(w->storage, b, on_commit, note(w, steps[i].name));
    }
    read_all(w, "r");
    release(w);
    complete(w, 8);
    assert_log(w, "h a b bad!arg c!arg d e r:a=1,b=1,d=1,e=1,h= ");
    struct store_batch *b = store_batch_new(); /* in a later group, too */
    store_batch_put(b, TABLE_META, text("f"), text("1"));
    store_batch_chain(b, one);
    store_chain_drop(one);
    store_chain_drop(two);
    storage_commit(w->storage, b, on_commit, note(w, "f"));
    complete(w, 1);
    assert_log(w, "f!arg ");
}

static void reads_of_many_ranges(void **state)
{
    struct world *w = *state;
    struct store_batch *b = store_batch_new();
    for (int t = 0; t < 8; t++) {
        char key[4] = {'k', (char)('0' + t), 0};
        store_batch_put(b, (store_table)t, text(key), text("v"));
        store_batch_put(b, (store_table)t, text("z"), text("w"));
    }
    storage_commit(w->storage, b, on_commit, note(w, "put"));
    struct store_range ranges[8];
    char prefix[8][2], from[2] = "z"; /* copied: they may go at once */
    for (int t = 0; t < 8; t++) {
        prefix[t][0] = 'k';
        ranges[t] = (struct store_range){
            .table = (store_table)t, .prefix = {(const uint8_t *)prefix[t], 1}, .limit = 1};
    }
    ranges[7] = (struct store_range){.table = (store_table)7, .from = text(from)};
    storage_read(w->storage, ranges, 8, on_read, note(w, "r"));
    storage_read(w->storage, NULL, 0, on_read, note(w, "nothing"));
    memset(prefix, 'x', sizeof prefix);
    from[0] = 'a';
    complete(w, 3);
    assert_log(w, "put r:k0=v,k1=v,k2=v,k3=v,k4=v,k5=v,k6=v,z=w nothing ");
}

/* Rows of all sizes in one answer keep their bytes. */
static void on_sizes(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct note *n = arg;
    assert_int_equal(err, GW_OK);
    assert_int_equal(count, 40);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rows[i].table, TABLE_STATES);
        assert_int_equal(rows[i].key.n, 1);
        size_t size = i * i * i * 5;
        assert_int_equal(rows[i].value.n, size);
        for (size_t at = 0; at < size; at += 97) {
            assert_int_equal(rows[i].value.p[at], rows[i].key.p[0]);
        }
    }
    buf_addf(&n->w->log, "sizes ");
    free(n);
}

static void rows_of_all_sizes(void **state)
{
    struct world *w = *state;
    struct store_batch *b = store_batch_new();
    for (size_t i = 0; i < 40; i++) {
        uint8_t key = (uint8_t)i;
        struct buf value = {0};
        assert_true(buf_reserve(&value, i * i * i * 5 + 1));
        value.len = i * i * i * 5;
        memset(value.data, key, value.len);
        store_batch_put_take(b, TABLE_STATES, (struct span){&key, 1}, &value);
    }
    storage_commit(w->storage, b, on_commit, note(w, "put"));
    struct store_range all = {.table = TABLE_STATES};
    storage_read(w->storage, &all, 1, on_sizes, note(w, ""));
    complete(w, 2);
    assert_log(w, "put sizes ");
}

/* A callback may submit; storage_stop runs that too. */
static void chain(void *arg, gw_err err)
{
    struct note *n = arg;
    assert_int_equal(err, GW_OK);
    buf_addf(&n->w->log, "%s ", n->name);
    if (n->name[0]++ < 'e') {
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_META, text(n->name), text("v"));
        storage_commit(n->w->storage, b, chain, n);
    } else {
        free(n);
    }
}

static void stop_finishes_everything(void **state)
{
    struct world *w = *state;
    storage_commit(w->storage, store_batch_new(), chain, note(w, "a"));
    for (int i = 0; i < 10; i++) {
        put(w, ".", "k", "v");
    }
    struct store *store = storage_stop(w->storage);
    w->storage = NULL;
    assert_log(w, "a . . . . . . . . . . b c d e ");
    struct buf got = {0};
    assert_int_equal(store_get(store, TABLE_META, text("e"), &got), GW_OK);
    buf_free(&got);
    store_close(store);
}

static void stop_of_an_idle_storage(void **state)
{
    struct world *w = *state;
    struct timespec pause = {0, 250000000}; /* past the idle work */
    put(w, "a", "a", "1");
    nanosleep(&pause, NULL);
    complete(w, 1);
    store_close(storage_stop(w->storage));
    w->storage = NULL;
}

static void idle_checkpoints_the_log(void **state)
{
    struct world *w = *state;
    char db[256];
    struct stat st;
    static uint8_t big[200000];
    for (int i = 0; i < 8; i++) {
        char key[2] = {(char)('a' + i), 0};
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_META, text(key), (struct span){big, sizeof big});
        storage_commit(w->storage, b, NULL, NULL);
    }
    complete(w, 8);
    scratch_path(&w->dir, "store.db", db);
    for (int i = 0; i < 100; i++) { /* until the rows are in the file itself */
        assert_int_equal(stat(db, &st), 0);
        if (st.st_size > (off_t)(8 * sizeof big)) {
            return;
        }
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
    }
    fail_msg("the file has %lld bytes", (long long)st.st_size);
}

/* A full disk: what was undone says so, and a read behind it does not see it. */
static void full_disk_undoes_the_group(void **state)
{
    struct world *w = *state;
    store_close(storage_stop(w->storage));
    if (!scratch_mount(&w->dir, "1m")) {
        w->storage = NULL;
        skip();
    }
    struct store *store;
    assert_int_equal(store_open_sqlite(w->dir.path, &store, NULL), GW_OK);
    assert_int_equal(storage_start(store, wake, w, &w->storage), GW_OK);
    static uint8_t big[200000];
    hold(w);
    struct store_chain *chain = store_chain_new();
    for (int i = 0; i < 2; i++) { /* both in the group that is lost */
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_META, text("a"), text("1"));
        store_batch_chain(b, chain);
        storage_commit(w->storage, b, on_commit, note(w, i == 0 ? "a" : "later"));
        if (i == 0) {
            read_all(w, "r1");
        }
    }
    store_chain_drop(chain);
    for (int i = 0; i < 10; i++) {
        struct store_batch *b = store_batch_new();
        uint8_t key = (uint8_t)i;
        store_batch_put(b, TABLE_STATES, (struct span){&key, 1}, (struct span){big, sizeof big});
        storage_commit(w->storage, b, NULL, NULL);
    }
    read_all(w, "r2");
    release(w);
    complete(w, 15);
    assert_log(w, "h a!disk_full r1:h= later!disk_full r2:h= ");
    put(w, "b", "b", "2");
    read_all(w, "r3");
    complete(w, 2);
    assert_log(w, "b r3:b=2,h= ");
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, on_memory, close_world),                                 \
        cmocka_unit_test_setup_teardown(test, on_sqlite, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(completes_in_order),
        BOTH(what_waits_is_one_group),
        BOTH(a_large_group_is_cut),
        BOTH(announced_once_until_completed),
        BOTH(a_bad_batch_fails_alone),
        BOTH(a_broken_chain_stays_broken),
        BOTH(reads_of_many_ranges),
        BOTH(rows_of_all_sizes),
        BOTH(stop_finishes_everything),
        BOTH(stop_of_an_idle_storage),
        cmocka_unit_test_setup_teardown(idle_checkpoints_the_log, on_sqlite, close_world),
        cmocka_unit_test_setup_teardown(full_disk_undoes_the_group, on_sqlite, close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

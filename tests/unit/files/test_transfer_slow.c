/* File sessions whose receiver has a disk that takes long to flush, or dies over it. */
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/unit/files/transfer_rig.h"

#define SILENCE_MS 1000 /* that these sessions allow */

/* --- a slow disk: the program's own calls stand before the C library's --- */
static atomic_int fsync_ms, syncfs_ms; /* how long they take; fsync of files, not of folders */
static atomic_int slow;                /* calls that took so long */

static void take(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    if (ms > 0) {
        atomic_fetch_add(&slow, 1);
        (void)nanosleep(&t, NULL);
    }
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        take(atomic_load(&fsync_ms));
    }
    return (int)syscall(SYS_fsync, fd);
}

__attribute__((visibility("default"))) int syncfs(int fd)
{
    take(atomic_load(&syncfs_ms));
    return (int)syscall(SYS_syncfs, fd);
}

static void open_slow(struct world *w, struct session *s, int for_fsync, int for_syncfs)
{
    world_open(w);
    put_noise(PATH(w->src, "small"), 1, 100000);
    put_noise(PATH(w->src, "large"), 2, 9000000); /* flushed by itself */
    session_open(s, w, w->dst);
    s->o.silence_ms = SILENCE_MS;
    atomic_store(&slow, 0);
    atomic_store(&fsync_ms, for_fsync);
    atomic_store(&syncfs_ms, for_syncfs);
}

/* Each of two flushes takes longer than the sender waits for a word. */
static void a_slow_disk_is_waited_for(void **state)
{
    (void)state;
    struct world w;
    struct session s;
    open_slow(&w, &s, SILENCE_MS * 3 / 2, SILENCE_MS * 3 / 2);
    s.config.silence_ms = SILENCE_MS;
    session_good(&s, &w, w.src);
    assert_int_equal(atomic_load(&slow), 2);
    same_file(PATH(w.src, "small"), PATH(w.dst, "src/small"));
    same_file(PATH(w.src, "large"), PATH(w.dst, "src/large"));
    world_close(&w);
}

/* A receiver that says nothing while files are placed is given up, as anywhere else. */
static void a_silent_receiver_is_given_up_also_at_the_end(void **state)
{
    (void)state;
    struct world w;
    struct session s;
    open_slow(&w, &s, 0, 3 * SILENCE_MS);
    s.config.silence_ms = 60000; /* so it speaks every 10 s */
    const char *path = w.src;
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_ETIMEOUT);
    assert_non_null(strstr(s.why.text, "nothing came from the other end"));
    assert_int_not_equal(s.b_err, GW_OK);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_disk_is_waited_for),
        cmocka_unit_test(a_silent_receiver_is_given_up_also_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

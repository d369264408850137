/* Calls that block for as long as a disk likes, flushes above all, while the other end of a session
 * waits for a sign of life: they run on a thread of their own, and the caller's goes on to tick. */
#ifndef HOST_FILES_BUSY_H
#define HOST_FILES_BUSY_H

/* What is called about every 100 ms meanwhile, on the caller's thread. tick NULL: nothing; then,
 * and where no thread can be had, the call is made directly. */
struct busy {
    void (*tick)(void *arg);
    void *arg;
};

/* work(arg), and wait for its end; its result. Nothing else touches `arg` meanwhile. */
int busy_run(const struct busy *b, int (*work)(void *arg), void *arg);
/* fsync or syncfs of fd: 0, or -1 and errno. */
int busy_sync(const struct busy *b, int (*sync)(int fd), int fd);

#endif

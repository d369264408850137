/* The threads of a runner: leader and followers on one socket.
 *
 * One thread at a time (the leader) reads. When it takes a frame that can run, it gives up the seat
 * and runs the handler itself: on the usual path a message costs no hand-over between threads. Who
 * takes the seat meanwhile:
 * - nobody, while handlers are short: the same thread is back in microseconds;
 * - a handler that waits in a blocking verb: it reads until its own answer comes, and leaves
 * runnable frames to others (`ready`);
 * - another thread at once, when a whole frame is buffered and handlers have been slow lately;
 * - the watch, a thread that looks every 2 ms while handlers run, when the seat was empty
 * for so long: a handler that computes for seconds holds up nobody. When the watch goes to work
 * another thread becomes the watch, so there is one as long as the limit of threads allows.
 *
 * One agent does one thing at a time: a `lane` per busy agent holds its frames in order. Answers to
 * a burst of frames are queued and leave together; the watch bounds how long they wait. */
#ifndef AGENTS_RUNNER_POOL_H
#define AGENTS_RUNNER_POOL_H

#include "agents/runner/wire.h"
#include "agents/sdk/engine.h"

struct pool;

struct pool *pool_new(struct wire *wire);
void pool_free(struct pool *pool); /* one that never served; NULL allowed */
/* The engine_io of an engine whose ctx is the pool. */
extern const struct engine_io pool_io;
/* Serve frames until the other end is gone, then end the process: an agent without its host has
 * nothing to do. The calling thread becomes one of the pool's. */
void pool_serve(struct pool *pool, struct engine *engine) __attribute__((noreturn));

#endif

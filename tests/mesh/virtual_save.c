/* Handlers of `run` in the virtual mesh: each on a thread of its own that runs only while the mesh
 * waits for it, so that it can be suspended in gw_save and the mesh goes on. One thread runs at a
 * time, handed over by semaphores: what happens depends on the seed alone, as before. */
#include "tests/mesh/internal.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "protocol/base/log.h"

struct fiber {
    LIST_ENTRY(fiber) link;
    pthread_t thread;
    sem_t go, back;
    struct engine *engine;
    uint64_t stream;
    struct buf run;    /* the frame, with its length */
    struct buf out;    /* DONE, or SAVE */
    struct buf answer; /* SAVED, without its length */
    bool done, dead;
};

static _Thread_local struct fiber *me;

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) != 0 && errno == EINTR) {
    }
}

static void *fiber_main(void *arg)
{
    struct fiber *f = arg;
    struct span in = buf_span(&f->run);
    struct frame frame;
    me = f;
    wait_for(&f->go);
    gw_assert(frame_take(&in, LIMIT_MESSAGE_BYTES, &frame) == GW_OK);
    engine_run(f->engine, &frame, &f->out);
    f->done = true;
    sem_post(&f->back);
    return NULL;
}

gw_err vsave(void *ctx, const gw_id *agent, uint64_t stream, const struct buf *frame,
             struct buf *ret_answer, struct gw_error *why)
{
    struct fiber *f = me;
    (void)ctx, (void)agent, (void)stream;
    gw_assert(f);
    if (!f->dead) {
        buf_add(&f->out, frame->data, frame->len);
        sem_post(&f->back);
        wait_for(&f->go);
    }
    if (f->dead) {
        return gw_fail(why, GW_ECRASHED, "the runner is gone");
    }
    buf_add(ret_answer, f->answer.data, f->answer.len);
    buf_reset(&f->answer);
    return GW_OK;
}

static void fiber_free(struct fiber *f)
{
    pthread_join(f->thread, NULL);
    sem_destroy(&f->go);
    sem_destroy(&f->back);
    buf_free(&f->run);
    buf_free(&f->out);
    buf_free(&f->answer);
    free(f);
}

/* Until it is done, or suspended again; what it says is in `out`. */
static void step(struct vrunner *r, struct fiber *f, struct buf *out)
{
    sem_post(&f->go);
    wait_for(&f->back);
    *out = buf_take(&f->out);
    if (f->done) {
        fiber_free(f);
    } else {
        LIST_INSERT_HEAD(&r->fibers, f, link);
    }
}

void vsave_run(struct vrunner *r, const struct frame *frame, struct buf *out)
{
    struct fiber *f = xcalloc(1, sizeof *f);
    f->engine = r->engine;
    f->stream = frame->stream;
    uint8_t length[4] = {(uint8_t)(frame->raw.n >> 24), (uint8_t)(frame->raw.n >> 16),
                         (uint8_t)(frame->raw.n >> 8), (uint8_t)frame->raw.n};
    buf_add(&f->run, length, sizeof length);
    buf_add(&f->run, frame->raw.p, frame->raw.n);
    sem_init(&f->go, 0, 0);
    sem_init(&f->back, 0, 0);
    gw_assert(pthread_create(&f->thread, NULL, fiber_main, f) == 0);
    step(r, f, out);
}

void vsave_saved(struct vrunner *r, const struct frame *frame, gw_id *ret_agent, struct buf *out)
{
    struct fiber *f;
    LIST_FOREACH (f, &r->fibers, link) {
        if (f->stream == frame->stream) {
            struct span in = buf_span(&f->run);
            struct frame run;
            gw_assert(frame_take(&in, LIMIT_MESSAGE_BYTES, &run) == GW_OK &&
                      engine_target(&run, ret_agent) == GW_OK);
            LIST_REMOVE(f, link);
            buf_add(&f->answer, frame->raw.p, frame->raw.n);
            step(r, f, out);
            return;
        }
    }
}

void vsave_end(struct vrunner *r)
{
    struct fiber *f;
    while ((f = LIST_FIRST(&r->fibers))) {
        struct buf out;
        LIST_REMOVE(f, link);
        f->dead = true;
        step(r, f, &out); /* it cannot be suspended again: it ends */
        buf_free(&out);
    }
}

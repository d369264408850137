#include "clients/lib/call.h"

#include <stdlib.h>

#include "protocol/base/log.h"

#define FIRST_SIZE       128         /* slots; enough for 64 in flight without a search */
#define FRAME_KEEP_BYTES (64 * 1024) /* a larger buffer is given back between calls */

void calls_init(struct calls *t)
{
    *t = (struct calls){0};
    TAILQ_INIT(&t->open);
    TAILQ_INIT(&t->done);
    TAILQ_INIT(&t->spare);
}

static void free_list(struct call_list *list)
{
    struct call *call;
    while ((call = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, call, link);
        gw_value_free(&call->value);
        buf_free(&call->frame);
        free(call);
    }
}

void calls_free(struct calls *t)
{
    free_list(&t->open);
    free_list(&t->done);
    free_list(&t->spare);
    free(t->slots);
    calls_init(t);
}

/* Numbers that differ modulo n differ modulo 2n, so doubling never collides. */
static gw_err grow(struct calls *t)
{
    size_t size = t->size ? t->size * 2 : FIRST_SIZE;
    struct call **slots = calloc(size, sizeof(struct call *));
    if (!slots) {
        return GW_ENOMEM;
    }
    for (size_t i = 0; i < t->size; i++) {
        if (t->slots[i]) {
            slots[t->slots[i]->stream & (size - 1)] = t->slots[i];
        }
    }
    free(t->slots);
    t->slots = slots;
    t->size = size;
    return GW_OK;
}

static struct call *take_spare(struct calls *t)
{
    struct call *call = TAILQ_FIRST(&t->spare);
    if (!call) {
        return calloc(1, sizeof *call);
    }
    TAILQ_REMOVE(&t->spare, call, link);
    struct buf frame = call->frame;
    *call = (struct call){.frame = frame};
    return call;
}

gw_err calls_add(struct calls *t, struct call **ret)
{
    if (t->count >= LIMIT_LINK_CALLS) {
        return GW_EBUSY;
    }
    if (t->count * 2 >= t->size) {
        GW_TRY(grow(t));
    }
    struct call *call = take_spare(t);
    if (!call) {
        return GW_ENOMEM;
    }
    do { /* half of the slots are free: numbers of slots in use are skipped */
        t->last++;
    } while (t->slots[t->last & (t->size - 1)]);
    call->stream = t->last;
    t->slots[t->last & (t->size - 1)] = call;
    t->count++;
    TAILQ_INSERT_TAIL(&t->open, call, link);
    *ret = call;
    return GW_OK;
}

struct call *calls_find(const struct calls *t, uint64_t stream)
{
    struct call *call = t->size ? t->slots[stream & (t->size - 1)] : NULL;
    return call && call->stream == stream ? call : NULL;
}

void calls_finish(struct calls *t, struct call *call, gw_err code, gw_value *value,
                  const struct gw_error *why)
{
    gw_assert(!call->done);
    call->done = true;
    call->code = code;
    if (value) {
        call->value = *value;
        *value = gw_nil();
    }
    if (code != GW_OK && why) {
        call->why = *why;
        call->why.code = code;
    } else if (code != GW_OK) {
        (void)gw_fail(&call->why, code, "%s", gw_err_text(code));
    }
    TAILQ_REMOVE(&t->open, call, link);
    TAILQ_INSERT_TAIL(&t->done, call, link);
}

void calls_remove(struct calls *t, struct call *call)
{
    t->slots[call->stream & (t->size - 1)] = NULL;
    t->count--;
    TAILQ_REMOVE(call->done ? &t->done : &t->open, call, link);
    gw_value_free(&call->value);
    if (call->frame.cap > FRAME_KEEP_BYTES) {
        buf_free(&call->frame);
    } else {
        buf_reset(&call->frame);
    }
    TAILQ_INSERT_HEAD(&t->spare, call, link);
}

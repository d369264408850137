/* Pattern: long work in short steps (godwit/pattern.h). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agents/sdk/pattern.h"

#define TIMER "task"

gw_err pattern_set_text(char **text, const char *value)
{
    char *copy = strdup(value);
    if (!copy) {
        return GW_ENOMEM;
    }
    free(*text);
    *text = copy;
    return GW_OK;
}

gw_err pattern_put_text(gw_value *map, const char *key, const char *text)
{
    gw_value v = gw_nil();
    GW_TRY(gw_value_set_str(&v, text ? text : "", text ? strlen(text) : 0));
    return gw_map_set(map, key, v);
}

static bool is_in(const struct gw_task *task, const char *state)
{
    return task->state && strcmp(task->state, state) == 0;
}

gw_err gw_task_start(struct gw_call *call, struct gw_task *task)
{
    if (is_in(task, "running")) {
        return gw_call_fail(call, GW_ECONFLICT, "the task runs already");
    }
    GW_TRY(pattern_set_text(&task->state, "running"));
    GW_TRY(pattern_set_text(&task->note, ""));
    gw_value_free(&task->result);
    task->progress = 0;
    task->steps = 0;
    return gw_task_go_on(call, task, 0);
}

bool gw_task_due(struct gw_call *call, struct gw_task *task)
{
    if (strcmp(gw_timer_name(call), TIMER) != 0 || !is_in(task, "running")) {
        return false;
    }
    task->steps++;
    return true;
}

gw_err gw_task_progress(struct gw_task *task, double progress, const char *fmt, ...)
{
    char text[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    task->progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
    return pattern_set_text(&task->note, text);
}

gw_err gw_task_go_on(struct gw_call *call, struct gw_task *task, int64_t delay_ms)
{
    if (!is_in(task, "running")) {
        return GW_OK; /* it has ended in this very step */
    }
    return gw_timer(call, TIMER, delay_ms, gw_nil());
}

static gw_err describe(const struct gw_task *task, gw_value *ret)
{
    gw_value map = gw_nil(), result = gw_nil();
    gw_err err = pattern_put_text(&map, "state", task->state);
    if (err == GW_OK) {
        err = gw_map_set(&map, "progress", gw_float(task->progress));
    }
    if (err == GW_OK) {
        err = pattern_put_text(&map, "note", task->note);
    }
    if (err == GW_OK) {
        err = gw_value_copy(&task->result, &result);
    }
    if (err == GW_OK) {
        err = gw_map_set(&map, "result", result);
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    *ret = map;
    return GW_OK;
}

/* It has ended: who waits is told. */
static gw_err tell_waiters(struct gw_call *call, struct gw_task *task)
{
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < task->waiters.len; i++) {
        gw_value map;
        err = describe(task, &map);
        if (err == GW_OK) {
            err = gw_answer(call, task->waiters.items[i].token, map);
        }
    }
    GW_TRY(err);
    free(task->waiters.items);
    task->waiters.items = NULL;
    task->waiters.len = 0;
    return GW_OK;
}

gw_err gw_task_end(struct gw_call *call, struct gw_task *task, gw_value result)
{
    gw_value_free(&task->result);
    task->result = result;
    task->progress = 1;
    GW_TRY(pattern_set_text(&task->state, "done"));
    return tell_waiters(call, task);
}

gw_err gw_task_fail(struct gw_call *call, struct gw_task *task, const char *fmt, ...)
{
    char text[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    GW_TRY(pattern_set_text(&task->state, "failed"));
    GW_TRY(pattern_set_text(&task->note, text));
    return tell_waiters(call, task);
}

gw_err gw_task_cancel(struct gw_call *call, struct gw_task *task)
{
    if (!is_in(task, "running")) {
        return GW_OK;
    }
    GW_TRY(gw_timer_cancel(call, TIMER));
    GW_TRY(pattern_set_text(&task->state, "cancelled"));
    return tell_waiters(call, task);
}

gw_err gw_task_status(struct gw_call *call, const struct gw_task *task)
{
    gw_value result = gw_nil();
    GW_TRY(gw_value_copy(&task->result, &result));
    GW_TRY(gw_reply_value(call, "result", result));
    GW_TRY(gw_reply_str(call, "state", task->state));
    GW_TRY(gw_reply_float(call, "progress", task->progress));
    return gw_reply_str(call, "note", task->note);
}

gw_err gw_task_wait(struct gw_call *call, struct gw_task *task)
{
    gw_id token;
    if (!is_in(task, "running")) {
        return gw_task_status(call, task);
    }
    GW_TRY(gw_reply_later(call, &token));
    if (gw_id_is_nil(&token)) {
        return GW_OK; /* told, not asked */
    }
    struct gw_task_waiter *items =
        realloc(task->waiters.items, (task->waiters.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    task->waiters.items = items;
    items[task->waiters.len++].token = token;
    return GW_OK;
}

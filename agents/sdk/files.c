/* Verbs of a handler about the files that travel with its agent. What they record is seen by the
 * same handler at once, by others when it is committed. */
#include <string.h>

#include "agents/sdk/call.h"
#include "protocol/filename.h"

static gw_err not_leaving(struct gw_call *call)
{
    uint32_t hook = call->run->hook;
    if (hook == HOOK_DISPATCH || hook == HOOK_DISPOSE) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "files cannot be registered or dropped in on_dispatch or on_dispose");
    }
    return GW_OK;
}

static gw_err check_name(struct gw_call *call, const char *name)
{
    GW_TRY(not_leaving(call));
    if (!name || !filename_is_valid(name, strlen(name))) {
        return gw_call_fail(call, GW_EARG, "\"%.80s\" is not a name of a file", name ? name : "");
    }
    return GW_OK;
}

/* One entry of the context, [name, path, mode], as a map. */
static gw_err entry(const gw_value *raw, gw_value *ret)
{
    if (raw->kind != GW_LIST || raw->list.n < 3 || raw->list.items[0].kind != GW_STR ||
        raw->list.items[1].kind != GW_STR || raw->list.items[2].kind != GW_INT) {
        return GW_EPROTO;
    }
    bool copy = raw->list.items[2].i == GW_COPY;
    GW_TRY(gw_map_set(ret, "name", gw_str(raw->list.items[0].s.p)));
    GW_TRY(gw_map_set(ret, "path", gw_str(raw->list.items[1].s.p)));
    return gw_map_set(ret, "mode", gw_str(copy ? "copy" : "move"));
}

static gw_err learn(struct gw_call *call)
{
    const gw_value *raw = gw_map_get(call_context(call), "files");
    if (call->files_read) {
        return GW_OK;
    }
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; raw && raw->kind == GW_LIST && i < raw->list.n; i++) {
        gw_value one = {0};
        gw_err err = entry(&raw->list.items[i], &one);
        if (err == GW_OK) {
            err = gw_list_add(&list, one);
        } else {
            gw_value_free(&one);
        }
        if (err != GW_OK) {
            gw_value_free(&list);
            return gw_call_fail(call, err, "the files of the agent cannot be read");
        }
    }
    call->files = list;
    call->files_read = true;
    return GW_OK;
}

static size_t place_of(const struct gw_call *call, const char *name)
{
    size_t i = 0;
    while (i < call->files.list.n &&
           strcmp(gw_map_str(&call->files.list.items[i], "name", ""), name) != 0) {
        i++;
    }
    return i;
}

static void forget(struct gw_call *call, size_t i)
{
    gw_value *items = call->files.list.items;
    if (i < call->files.list.n) {
        gw_value_free(&items[i]);
        memmove(items + i, items + i + 1, (--call->files.list.n - i) * sizeof *items);
    }
}

static gw_err describe(const char *path, const char *name, gw_file_mode mode, gw_value *ret)
{
    GW_TRY(gw_map_set(ret, "name", gw_str(name)));
    GW_TRY(gw_map_set(ret, "path", gw_str(path)));
    return gw_map_set(ret, "mode", gw_int(mode));
}

static gw_err remember(struct gw_call *call, const char *path, const char *name, gw_file_mode mode)
{
    gw_value one = {0};
    gw_err err = describe(path, name, mode, &one);
    if (err == GW_OK) {
        err = gw_map_set(&one, "mode", gw_str(mode == GW_COPY ? "copy" : "move"));
    }
    if (err != GW_OK) {
        gw_value_free(&one);
        return err;
    }
    forget(call, place_of(call, name));
    return gw_list_add(&call->files, one);
}

gw_err gw_file(struct gw_call *call, const char *path, const char *name, gw_file_mode mode)
{
    gw_value args = {0};
    GW_TRY(check_name(call, name));
    if (!path || path[0] != '/' || !filename_is_path(path, strlen(path))) {
        return gw_call_fail(call, GW_EARG, "\"%.80s\" is not an absolute path of a file",
                            path ? path : "");
    }
    if (mode != GW_MOVE && mode != GW_COPY) {
        return gw_call_fail(call, GW_EARG, "%d is neither GW_MOVE nor GW_COPY", (int)mode);
    }
    GW_TRY(learn(call));
    if (call->files.list.n >= LIMIT_CARRIED_PER_AGENT &&
        place_of(call, name) == call->files.list.n) {
        return gw_call_fail(call, GW_EBUSY, "at most %d files travel with an agent",
                            LIMIT_CARRIED_PER_AGENT);
    }
    gw_err err = describe(path, name, mode, &args);
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    GW_TRY(call_record(call, "file", args));
    return remember(call, path, name, mode);
}

gw_err gw_file_drop(struct gw_call *call, const char *name)
{
    gw_value args = {0};
    GW_TRY(check_name(call, name));
    GW_TRY(learn(call));
    GW_TRY(gw_map_set(&args, "name", gw_str(name)));
    GW_TRY(call_record(call, "file_drop", args));
    forget(call, place_of(call, name));
    return GW_OK;
}

const char *gw_file_path(struct gw_call *call, const char *name)
{
    if (!name || learn(call) != GW_OK) {
        return NULL;
    }
    size_t i = place_of(call, name);
    return i < call->files.list.n ? gw_map_str(&call->files.list.items[i], "path", NULL) : NULL;
}

gw_err gw_files(struct gw_call *call, gw_value *ret_files)
{
    GW_TRY(learn(call));
    return gw_value_copy(&call->files, ret_files);
}

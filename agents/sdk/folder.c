/* Folders of an agent on the disk of its host: the host makes them and tells where they are. */
#include "agents/sdk/call.h"
#include "protocol/value.h"

static gw_err keep(struct gw_call *call, const char *text, const char **ret)
{
    if (gw_strs_add(&call->texts, text) != GW_OK) {
        return gw_call_fail(call, GW_ENOMEM, "out of memory for a path");
    }
    *ret = call->texts.items[call->texts.len - 1];
    return GW_OK;
}

static gw_err ask_folder(struct gw_call *call, gw_folder_kind kind, bool look,
                         struct gw_folder *ret)
{
    struct gw_folder f = {0};
    gw_value args = {0}, answer = {0};
    gw_err err = gw_map_set(&args, "storage", gw_bool(kind == GW_FOLDER_STORAGE));
    if (err == GW_OK) {
        err = gw_map_set(&args, "look", gw_bool(look));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return gw_call_fail(call, err, "out of memory for a folder");
    }
    GW_TRY(verbs_blocking(call, "folder", NULL, false, args, &answer));
    err = keep(call, gw_map_str(&answer, "path", ""), &f.path);
    f.bytes = (uint64_t)gw_map_int(&answer, "bytes", 0);
    f.quota = (uint64_t)gw_map_int(&answer, "quota", 0);
    gw_value_free(&answer);
    if (err == GW_OK && f.path[0] != '/') {
        err = gw_call_fail(call, GW_EPROTO, "the answer of the host names no folder");
    }
    if (err == GW_OK) {
        *ret = f;
    }
    return err;
}

static gw_err path_of(struct gw_call *call, gw_folder_kind kind, const char **ret_path)
{
    struct gw_folder f;
    GW_TRY(ask_folder(call, kind, false, &f));
    *ret_path = f.path;
    return GW_OK;
}

gw_err gw_work_dir(struct gw_call *call, const char **ret_path)
{
    return path_of(call, GW_FOLDER_WORK, ret_path);
}

gw_err gw_storage(struct gw_call *call, const char **ret_path)
{
    return path_of(call, GW_FOLDER_STORAGE, ret_path);
}

gw_err gw_folder_look(struct gw_call *call, gw_folder_kind kind, struct gw_folder *ret)
{
    if (kind != GW_FOLDER_WORK && kind != GW_FOLDER_STORAGE) {
        return gw_call_fail(call, GW_EARG, "%d is no kind of folder", kind);
    }
    return ask_folder(call, kind, true, ret);
}

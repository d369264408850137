/* An agent that keeps files: in its folders, and as artifacts. For tests/system/agent_files.bats.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <godwit/agent.h>

struct stow {
    gw_strs seen; /* a line for each arrival */
};

static const struct gw_field fields[] = {GW_FIELD(struct stow, seen)};

/* `kib` KiB of the byte `fill` into the file `name` of a folder. */
static gw_err fill(struct gw_call *call, const char *folder, const char *name)
{
    char path[4096], block[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f) {
        return gw_call_fail(call, GW_EIO, "cannot write \"%s\"", path);
    }
    memset(block, (int)gw_arg_int(call, "fill"), sizeof block);
    for (int64_t i = 0; i < gw_arg_int(call, "kib"); i++) {
        (void)fwrite(block, 1, sizeof block, f);
    }
    (void)fflush(f);
    (void)fsync(fileno(f));
    return fclose(f) == 0 ? GW_OK : gw_call_fail(call, GW_EIO, "cannot write \"%s\"", path);
}

static gw_err folder_of(struct gw_call *call, const char **ret)
{
    return gw_arg_bool(call, "storage") ? gw_storage(call, ret) : gw_work_dir(call, ret);
}

static gw_err save(struct gw_call *call)
{
    const char *folder;
    GW_TRY(folder_of(call, &folder));
    GW_TRY(fill(call, folder, gw_arg_str(call, "name")));
    return gw_reply_str(call, "path", folder);
}

static gw_err list(struct gw_call *call)
{
    const char *folder;
    char path[4096];
    GW_TRY(folder_of(call, &folder));
    snprintf(path, sizeof path, "%s/%s", folder, gw_arg_str(call, "name"));
    return gw_reply_bool(call, "there", access(path, R_OK) == 0);
}

static gw_err look(struct gw_call *call)
{
    struct gw_folder f;
    GW_TRY(gw_folder_look(call, gw_arg_bool(call, "storage") ? GW_FOLDER_STORAGE : GW_FOLDER_WORK,
                          &f));
    GW_TRY(gw_reply_str(call, "path", f.path));
    GW_TRY(gw_reply_uint(call, "bytes", f.bytes));
    return gw_reply_uint(call, "quota", f.quota);
}

static gw_err drop(struct gw_call *call)
{
    struct gw_folder f;
    char path[4096];
    GW_TRY(gw_folder_look(call, gw_arg_bool(call, "storage") ? GW_FOLDER_STORAGE : GW_FOLDER_WORK,
                          &f));
    snprintf(path, sizeof path, "%s/%s", f.path, gw_arg_str(call, "name"));
    return unlink(path) == 0 ? GW_OK : gw_call_fail(call, GW_ENOT_FOUND, "no \"%s\"", path);
}

static const struct gw_method methods[] = {
    {"save(name: string, kib: int = 1, fill: int[0..255] = 0, storage: bool = false) -> "
     "(path: string)",
     save},
    {"list(name: string, storage: bool = false) -> (there: bool)", list, GW_READ},
    {"look(storage: bool = false) -> (path: string, bytes: uint, quota: uint)", look, GW_READ},
    {"drop(name: string, storage: bool = false)", drop},
};

GW_AGENT(stow, struct stow, GW_FIELDS(fields), GW_METHODS(methods));

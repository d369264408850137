/* An agent that carries files, and looks at each of them when a hook runs. For
 * tests/system/carried.bats. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <godwit/agent.h>

struct porter {
    gw_strs seen; /* a line for each hook: "HOOK NAME=SIZE..." */
};

static const struct gw_field fields[] = {GW_FIELD(struct porter, seen)};

static gw_err see(struct gw_call *call, const char *hook)
{
    struct porter *p = gw_state(call);
    char line[2048];
    size_t at = (size_t)snprintf(line, sizeof line, "%s", hook);
    gw_value files = gw_nil();
    GW_TRY(gw_files(call, &files));
    for (size_t i = 0; i < files.list.n && at < sizeof line; i++) {
        const char *name = gw_map_str(&files.list.items[i], "name", "");
        const char *path = gw_file_path(call, name);
        struct stat st;
        at += path && stat(path, &st) == 0
                  ? (size_t)snprintf(line + at, sizeof line - at, " %s=%lld", name,
                                     (long long)st.st_size)
                  : (size_t)snprintf(line + at, sizeof line - at, " %s=gone", name);
    }
    gw_value_free(&files);
    return gw_strs_add(&p->seen, line);
}

static gw_err carry(struct gw_call *call)
{
    return gw_file(call, gw_arg_str(call, "path"), gw_arg_str(call, "name"),
                   gw_arg_bool(call, "copy") ? GW_COPY : GW_MOVE);
}

static gw_err drop(struct gw_call *call)
{
    return gw_file_drop(call, gw_arg_str(call, "name"));
}

/* A file of its own making, in its work folder. */
static gw_err make(struct gw_call *call)
{
    const char *folder;
    char path[4096];
    GW_TRY(gw_work_dir(call, &folder));
    snprintf(path, sizeof path, "%s/%s", folder, gw_arg_str(call, "name"));
    FILE *f = fopen(path, "w");
    if (!f || fputs("made here\n", f) < 0 || fclose(f) != 0) {
        return gw_call_fail(call, GW_EIO, "cannot write \"%s\"", path);
    }
    return gw_file(call, path, gw_arg_str(call, "name"), GW_MOVE);
}

static gw_err seen(struct gw_call *call)
{
    struct porter *p = gw_state(call);
    return gw_reply_strs(call, "seen", &p->seen);
}

static gw_err where(struct gw_call *call)
{
    const char *path = gw_file_path(call, gw_arg_str(call, "name"));
    return gw_reply_str(call, "path", path ? path : "");
}

static gw_err on_arrive(struct gw_call *call)
{
    return see(call, "arrive");
}
static gw_err on_clone(struct gw_call *call)
{
    return see(call, "clone");
}
static gw_err on_retract(struct gw_call *call)
{
    return see(call, "retract");
}

static const struct gw_method methods[] = {
    {"carry(path: string, name: string, copy: bool = false)", carry},
    {"drop(name: string)", drop},
    {"make(name: string)", make},
    {"seen() -> (seen: [string])", seen, GW_READ},
    {"where(name: string) -> (path: string)", where, GW_READ},
};

GW_AGENT(porter, struct porter, GW_FIELDS(fields), GW_METHODS(methods), .on_arrive = on_arrive,
         .on_clone = on_clone, .on_retract = on_retract);

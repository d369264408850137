/* An agent that takes a file along, and says what it finds of it at its arrival. */
#include <sys/stat.h>

#include <godwit/agent.h>

struct carrier {
    int64_t came; /* bytes of the file when on_arrive ran; -1: it was not there */
};

static const struct gw_field fields[] = {
    GW_FIELD(struct carrier, came),
};

static gw_err take(struct gw_call *call)
{
    return gw_file(call, gw_arg_str(call, "path"), "load",
                   gw_arg_bool(call, "move") ? GW_MOVE : GW_COPY);
}

static gw_err on_arrive(struct gw_call *call)
{
    struct carrier *b = gw_state(call);
    struct stat st;
    const char *path = gw_file_path(call, "load");
    b->came = path && stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
    return GW_OK;
}

static gw_err came(struct gw_call *call)
{
    const struct carrier *b = gw_state(call);
    return gw_reply_int(call, "bytes", b->came);
}

static const struct gw_method methods[] = {
    {"take(path: string, move: bool = true)", take},
    {"came() -> (bytes: int)", came, GW_READ},
};

GW_AGENT(carrier, struct carrier, GW_FIELDS(fields), GW_METHODS(methods), .on_arrive = on_arrive);

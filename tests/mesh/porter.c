#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "tests/mesh/porter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/mesh/internal.h"

struct porter {
    gw_strs log;
};
static const struct gw_field fields[] = {GW_FIELD(struct porter, log)};

static struct mesh *playing; /* one mesh at a time */

void porter_play(struct mesh *m)
{
    playing = m;
}

const char *porter_place(const char *path)
{
    return strncmp(path, "/host/", 6) == 0 ? path + 6 : path;
}

static size_t host_of(struct gw_call *call)
{
    return (size_t)(gw_host_name(call)[1] - '0');
}

uint64_t porter_new_file(struct gw_call *call, char ret_path[64])
{
    uint64_t run = ++playing->files_made;
    (void)snprintf(ret_path, 64, "/data/%" PRIu64, run);
    mesh_file_put(playing, host_of(call), ret_path, PORTER_CONTENT(run));
    return run;
}

gw_err porter_files(struct gw_call *call, char *ret, size_t cap)
{
    gw_value files = gw_nil();
    size_t at = 0;
    ret[0] = '\0';
    GW_TRY(gw_files(call, &files));
    for (size_t i = 0; files.kind == GW_LIST && i < files.list.n && at < cap; i++) {
        const char *name = gw_map_str(&files.list.items[i], "name", "");
        const char *path = gw_file_path(call, name);
        uint64_t content = 0;
        bool there = path && mesh_file_get(playing, host_of(call), porter_place(path), &content);
        at += (size_t)(there ? snprintf(ret + at, cap - at, " %s=%" PRIx64, name, content)
                             : snprintf(ret + at, cap - at, " %s=gone", name));
    }
    gw_value_free(&files);
    return GW_OK;
}

static gw_err line(struct gw_call *call, const char *what)
{
    struct porter *p = gw_state(call);
    char found[4096];
    GW_TRY(porter_files(call, found, sizeof found));
    return gw_strs_addf(&p->log, "%s%s", what, found);
}

static gw_err carry(struct gw_call *call)
{
    const char *name = gw_arg_str(call, "name");
    return gw_file(call, gw_arg_str(call, "path"), name,
                   gw_arg_bool(call, "copy") ? GW_COPY : GW_MOVE);
}

/* What it registers is there for the same handler. */
static gw_err carry_and_go(struct gw_call *call)
{
    GW_TRY(gw_file(call, gw_arg_str(call, "path"), "late", GW_MOVE));
    GW_TRY(line(call, "go"));
    return gw_dispatch(call, gw_arg_str(call, "to"));
}

static gw_err shed(struct gw_call *call)
{
    return gw_file_drop(call, gw_arg_str(call, "name"));
}

static gw_err look(struct gw_call *call)
{
    return line(call, "look");
}

static gw_err history(struct gw_call *call)
{
    const struct porter *p = gw_state(call);
    return gw_reply_strs(call, "log", &p->log);
}

static gw_err on_dispatch(struct gw_call *call)
{
    gw_err err = gw_file_drop(call, "x");
    return err == GW_ENOT_SUPPORTED ? line(call, "leave") : GW_EFAIL;
}
static gw_err on_arrive(struct gw_call *call)
{
    return line(call, "arrive");
}
static gw_err on_retract(struct gw_call *call)
{
    return line(call, "retract");
}
static gw_err on_clone(struct gw_call *call)
{
    return line(call, "clone");
}
static gw_err on_activate(struct gw_call *call)
{
    return line(call, "wake");
}

static const struct gw_method methods[] = {
    {"carry(path: string, name: string, copy: bool = false)", carry, 0},
    {"carry_and_go(path: string, to: string)", carry_and_go, 0},
    {"shed(name: string)", shed, 0},
    {"look()", look, 0},
    {"history() -> (log: [string])", history, GW_READ},
};

const struct gw_type porter_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "porter",
    .version = 1,
    .state_size = sizeof(struct porter),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .on_dispatch = on_dispatch,
    .on_arrive = on_arrive,
    .on_retract = on_retract,
    .on_clone = on_clone,
    .on_activate = on_activate,
};

struct mesh *porter_mesh(uint64_t seed, size_t hosts)
{
    static const struct gw_type *const types[] = {&porter_type};
    playing = mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(playing, i, types, 1);
    }
    mesh_start_all(playing);
    return playing;
}

gw_err porter_carry(struct mesh *m, size_t via, const gw_id *agent, const char *path,
                    const char *name, bool copy)
{
    char id[GW_ID_TEXT];
    return mesh_op(m, via, NULL, "send",
                   "{'agent': '%s', 'method': 'carry', 'args': {'path': '%s', 'name': '%s', "
                   "'copy': %s}, 'text': true}",
                   gw_id_text(agent, id), path, name, copy ? "true" : "false");
}

struct counting {
    const char *folder;
    size_t n;
};

static void count(void *arg, const char *path, uint64_t content)
{
    struct counting *c = arg;
    (void)content;
    c->n += strncmp(path, c->folder, strlen(c->folder)) == 0;
}

size_t porter_count(struct mesh *m, size_t host, const char *folder)
{
    struct counting c = {folder, 0};
    mesh_files_each(m, host, count, &c);
    return c.n;
}

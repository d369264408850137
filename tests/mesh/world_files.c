/* Where the files of a random life are when everything has come to rest.
 *
 * Each run of `carry` makes a file of its own, whose content says which and how often it was
 * changed since; the log of the agent says which run counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mesh/internal.h"
#include "tests/mesh/porter.h"
#include "tests/mesh/world.h"

bool files_line(struct world *w, size_t agent, const char *line)
{
    char *end;
    if (line[0] != '=') {
        return false;
    }
    unsigned long n = strtoul(line + 1, &end, 10);
    mesh_assert(w->m, *end == ':' && n < w->deed_count && w->deeds[n].agent == agent);
    w->run[n] = strtoull(end + 1, NULL, 10);
    return true;
}

/* The path of one of its files as `show` has it; "" when it has none of this name. */
static void path_of(struct world *w, size_t agent, size_t n, char ret[256])
{
    gw_value v = gw_nil();
    char name[32];
    ret[0] = '\0';
    (void)snprintf(name, sizeof name, "f%zu", n);
    mesh_must(w->m, 0, &v, "show", "{'agent': '%s'}", w->text[agent]);
    const gw_value *files = gw_map_get(&v, "files");
    for (size_t i = 0; files && files->kind == GW_LIST && i < files->list.n; i++) {
        const gw_value *one = &files->list.items[i];
        if (strcmp(gw_map_str(one, "name", ""), name) == 0) {
            (void)snprintf(ret, 256, "%s", porter_place(gw_map_str(one, "path", "")));
        }
    }
    gw_value_free(&v);
}

/* Into the trace: where all of its copies are. */
struct telling {
    struct world *w;
    size_t host;
    uint64_t run;
};

static void tell(void *arg, const char *path, uint64_t content)
{
    const struct telling *t = arg;
    if (content >> 16 == t->run) {
        mesh_note(t->w->m, "run %llu, change %llu: h%zu %s", (unsigned long long)t->run,
                  (unsigned long long)(content & 0xffff), t->host, path);
    }
}

static void tell_all(struct world *w, uint64_t run)
{
    for (size_t i = 0; i < w->hosts; i++) {
        struct telling t = {w, i, run};
        mesh_files_each(w->m, i, tell, &t);
    }
}

struct copies {
    uint64_t run;
    uint64_t content;      /* of the one of the agent */
    size_t count, changed; /* all; of them, those with another content */
    const char *but;       /* that one's path */
};

static void see(void *arg, const char *path, uint64_t content)
{
    struct copies *c = arg;
    bool other = content >> 16 == c->run && (!c->but || strcmp(path, c->but) != 0);
    c->count += other;
    c->changed += other && content != c->content;
}

/* How often a host has told that it keeps this file, which somebody has changed. */
static size_t times_kept(struct world *w, size_t host, size_t agent, size_t n)
{
    char part[40];
    size_t kept = 0;
    struct mesh_call *c = mesh_ask(w->m, host, "events", "{'limit': 100000}");
    mesh_assert(w->m, mesh_wait(w->m, c, 60000) == GW_OK);
    (void)snprintf(part, sizeof part, "\"f%zu\" stays", n);
    for (size_t i = 0; c->items.kind == GW_LIST && i < c->items.list.n; i++) {
        const gw_value *e = &c->items.list.items[i];
        kept += strcmp(gw_map_str(e, "kind", ""), "file.kept") == 0 &&
                strcmp(gw_map_str(e, "agent", ""), w->text[agent]) == 0 &&
                strstr(gw_map_str(e, "text", ""), part) != NULL;
    }
    mesh_call_free(c);
    return kept;
}

struct others {
    uint64_t run;
    const char *agent;
    size_t n;
};

static void see_other(void *arg, const char *path, uint64_t content)
{
    struct others *o = arg;
    o->n += content >> 16 == o->run && strncmp(path, "agents/", 7) == 0 &&
            strncmp(path + 7, o->agent, GW_ID_TEXT - 1) != 0;
}

/* In work folders of other agents: those of its clones. */
static size_t files_of_others(struct world *w, size_t host, uint64_t run, const char *agent)
{
    struct others o = {run, agent, 0};
    mesh_files_each(w->m, host, see_other, &o);
    return o.n;
}

static void expect_file(struct world *w, size_t n, bool shed)
{
    const struct deed *d = &w->deeds[n];
    char path[256];
    uint64_t content = 0;
    size_t at = mesh_where(w->m, &w->id[d->agent], NULL);
    path_of(w, d->agent, n, path);
    if (shed) {
        mesh_assert(w->m, path[0] == '\0');
        return;
    }
    if (!mesh_file_get(w->m, at, path, &content) || content >> 16 != w->run[n]) {
        mesh_fail(w->m, "I6: file %zu (run %llu) of agent %zu is not at h%zu as %s", n,
                  (unsigned long long)w->run[n], d->agent, at, path);
    }
    bool copy = d->to == 1, moved = strncmp(path, "/data/", 6) != 0;
    size_t count = 0, may = copy && moved ? 1 : 0;
    for (size_t i = 0; i < w->hosts; i++) {
        struct copies c = {.run = w->run[n], .content = content, .but = i == at ? path : NULL};
        mesh_files_each(w->m, i, see, &c);
        count += c.count;
        /* A clone has copies of its own. */
        may += files_of_others(w, i, w->run[n], w->text[d->agent]);
        /* What was changed behind the freeze is kept; a full disk may have no room to say so. */
        size_t told = c.count > 0 ? times_kept(w, i, d->agent, n) : 0;
        may += told > 0 ? told : world_has(w, TROUBLE_DISKS) ? c.changed : 0;
    }
    if (count > may) {
        tell_all(w, w->run[n]);
        mesh_fail(w->m, "I6: file %zu (run %llu) of agent %zu is in %zu more places", n,
                  (unsigned long long)w->run[n], d->agent, count);
    }
}

/* Folders: of agents that are there, and none of tickets. */
struct folders {
    struct world *w;
    size_t host;
};

static void see_folder(void *arg, const char *path, uint64_t content)
{
    const struct folders *f = arg;
    gw_id id;
    char text[GW_ID_TEXT] = "";
    (void)content;
    if (strncmp(path, "/data/", 6) == 0) {
        return;
    }
    if (strncmp(path, "agents/", 7) != 0) {
        mesh_fail(f->w->m, "h%zu still has %s", f->host, path);
    }
    memcpy(text, path + 7, GW_ID_TEXT - 1);
    mesh_assert(f->w->m, gw_id_parse(text, &id) == GW_OK);
    for (size_t i = 0; i < f->w->m->hosts[f->host].view_count; i++) {
        if (gw_id_equal(&f->w->m->hosts[f->host].views[i].agent, &id)) {
            return;
        }
    }
    mesh_fail(f->w->m, "h%zu still has %s, and not its agent", f->host, path);
}

void files_look(struct world *w)
{
    for (size_t n = 0; n < w->deed_count; n++) {
        if (w->deeds[n].kind == DEED_CARRY) {
            expect_file(w, n, w->shed[n]);
        }
    }
    for (size_t i = 0; i < w->hosts; i++) {
        struct folders f = {w, i};
        mesh_files_each(w->m, i, see_folder, &f);
    }
}

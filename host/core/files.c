/* Files that travel with agents: what is registered, in rows, in memory, by handlers, for people.
 *
 *   gw_file --commit--> row {path, mode} --a move--> row {path: its name, in the work folder there}
 *
 * A row of an agent that is here says where its file is: an absolute path, or one from the work
 * folder. One of an agent that is staged, or has just become ours, names the ticket in whose folder
 * the file lies until that becomes the work folder (files_in.c). One of an agent that has departed
 * says what was sent, so that what is removed here is that and nothing else (files_out.c, I6). */
#include "host/core/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/utf8.h"

#define FILE_KEY_BYTES (ROW_KEY_BYTES + LIMIT_CARRIED_NAME_BYTES)
#define ROW_MEMBERS    11
#define ACTIONS_MAX    (2 * LIMIT_CARRIED_PER_AGENT)

/* ---- rows: [mode, path, origin, size, mtime, perm, hash or empty, dev, ino, ctime, ticket] ----
 */

void file_row_pack(const struct file_row *r, struct buf *out)
{
    mp_array(out, ROW_MEMBERS);
    mp_uint(out, r->mode);
    mp_strn(out, (const char *)r->path.p, r->path.n);
    mp_strn(out, (const char *)r->origin.p, r->origin.n);
    mp_uint(out, r->fact.size);
    mp_int(out, r->fact.mtime_ns);
    mp_uint(out, r->fact.perm);
    mp_bin(out, r->fact.hash, r->known ? sizeof r->fact.hash : 0);
    mp_uint(out, r->fact.dev);
    mp_uint(out, r->fact.ino);
    mp_int(out, r->fact.ctime_ns);
    mp_id(out, &r->ticket);
}

static bool is_path(struct span s)
{
    return filename_is_path((const char *)s.p, s.n);
}

gw_err file_row_read(struct span value, struct file_row *ret)
{
    struct file_row r = {0};
    struct mp m = mp_over(value);
    size_t fields;
    uint64_t mode;
    struct span hash;
    GW_TRY(mp_read_array(&m, &fields));
    GW_TRY(fields < ROW_MEMBERS ? GW_EPROTO : GW_OK);
    GW_TRY(mp_read_uint(&m, &mode));
    GW_TRY(mp_read_str(&m, &r.path));
    GW_TRY(mp_read_str(&m, &r.origin));
    GW_TRY(mp_read_uint(&m, &r.fact.size));
    GW_TRY(mp_read_int(&m, &r.fact.mtime_ns));
    GW_TRY(mp_read_u32(&m, &r.fact.perm));
    GW_TRY(mp_read_bin(&m, &hash));
    GW_TRY(mp_read_uint(&m, &r.fact.dev));
    GW_TRY(mp_read_uint(&m, &r.fact.ino));
    GW_TRY(mp_read_int(&m, &r.fact.ctime_ns));
    GW_TRY(mp_read_id(&m, &r.ticket));
    GW_TRY(mp_skip_n(&m, fields - ROW_MEMBERS));
    bool origin =
        r.origin.n == 0 || (r.origin.n <= LIMIT_CARRIED_PATH_BYTES + LIMIT_NAME_BYTES + 1 &&
                            utf8_is_valid((const char *)r.origin.p, r.origin.n));
    if (mode >= FILE_MODES || !is_path(r.path) || !origin || !mp_done(&m) || r.fact.perm > 07777 ||
        r.fact.size > INT64_MAX || (hash.n != 0 && hash.n != sizeof r.fact.hash)) {
        return GW_EPROTO;
    }
    r.mode = (file_mode)mode;
    r.known = hash.n > 0;
    if (r.known) {
        memcpy(r.fact.hash, hash.p, hash.n);
    }
    *ret = r;
    return GW_OK;
}

static struct span key_of(uint8_t raw[FILE_KEY_BYTES], const gw_id *agent, uint64_t epoch,
                          const char *name)
{
    size_t n = strlen(name);
    gw_assert(n <= LIMIT_CARRIED_NAME_BYTES);
    row_key(raw, agent, epoch);
    memcpy(raw + ROW_KEY_BYTES, name, n);
    return (struct span){raw, ROW_KEY_BYTES + n};
}

void file_put(struct store_batch *batch, const gw_id *agent, uint64_t epoch, const char *name,
              const struct file_row *row)
{
    uint8_t raw[FILE_KEY_BYTES];
    struct buf value = {0};
    file_row_pack(row, &value);
    store_batch_put_take(batch, TABLE_FILES, key_of(raw, agent, epoch, name), &value);
    buf_free(&value);
}

/* ---- memory ---- */

struct file *file_find(const struct agent *a, const char *name)
{
    struct file *f = a->files ? a->files->first : NULL;
    while (f && strcmp(f->name, name) != 0) {
        f = f->next;
    }
    return f;
}

static char *text_of(struct span s, struct span *ret)
{
    char *text = xcalloc(s.n + 1, 1);
    if (s.n > 0) {
        memcpy(text, s.p, s.n);
    }
    *ret = (struct span){(const uint8_t *)text, s.n};
    return text;
}

static void file_free(struct file *f)
{
    free(f->name);
    free(f->path);
    free(f->origin);
    free(f);
}

void file_drop(struct agent *a, struct file *f)
{
    struct file **at = &a->files->first;
    while (*at != f) {
        at = &(*at)->next;
    }
    *at = f->next;
    file_free(f);
    if (--a->files->count == 0 && !a->files->adopting) {
        free(a->files);
        a->files = NULL;
    }
}

struct file *file_set(struct agent *a, const char *name, const struct file_row *row)
{
    struct file *f = xcalloc(1, sizeof *f), *old;
    f->row = *row;
    f->name = xstrdup(name);
    f->path = text_of(row->path, &f->row.path);
    f->origin = text_of(row->origin, &f->row.origin);
    if (!a->files) {
        a->files = xcalloc(1, sizeof *a->files);
    }
    a->files->count++;
    old = file_find(a, name);
    if (old) {
        file_drop(a, old);
    }
    struct file **at = &a->files->first;
    while (*at && strcmp((*at)->name, name) < 0) {
        at = &(*at)->next;
    }
    f->next = *at;
    *at = f;
    return f;
}

void files_forget(struct agent *a)
{
    if (a->files) {
        a->files->adopting = false;
    }
    while (a->files) {
        if (!a->files->first) {
            free(a->files);
            a->files = NULL;
        } else {
            file_drop(a, a->files->first);
        }
    }
}

void files_load_row(struct agent *a, struct span name, struct span value)
{
    char text[LIMIT_CARRIED_NAME_BYTES + 1], id[GW_ID_TEXT];
    struct file_row row;
    if (!filename_is_valid((const char *)name.p, name.n) || !span_text(name, text, sizeof text) ||
        file_row_read(value, &row) != GW_OK) {
        log_error("store.row", "table=files agent=%s a row does not decode and was skipped",
                  gw_id_text(&a->id, id));
    } else if (!file_find(a, text)) {
        (void)file_set(a, text, &row);
    }
}

/* ---- actions of handlers ---- */

struct wish {
    bool drop;
    char name[LIMIT_CARRIED_NAME_BYTES + 1];
    char path[LIMIT_CARRIED_PATH_BYTES + 1];
    file_mode mode;
};

bool files_is_action(struct span verb)
{
    return span_is(verb, "file") || span_is(verb, "file_drop");
}

static bool copy_text(const char *text, char *ret, size_t cap)
{
    return span_text((struct span){(const uint8_t *)text, strlen(text)}, ret, cap);
}

static gw_err wish_read(struct span verb, struct span packed, struct wish *ret)
{
    struct wish x = {.drop = span_is(verb, "file_drop")};
    gw_value map = gw_nil();
    GW_TRY(value_unpack_span(packed, &map));
    const char *name = gw_map_str(&map, "name", ""), *path = gw_map_str(&map, "path", "");
    int64_t mode = gw_map_int(&map, "mode", FILE_MOVE);
    bool good = filename_is_valid(name, strlen(name)) && copy_text(name, x.name, sizeof x.name);
    if (good && !x.drop) {
        good = filename_is_path(path, strlen(path)) && copy_text(path, x.path, sizeof x.path) &&
               mode >= 0 && mode < FILE_MODES;
    }
    gw_value_free(&map);
    if (!good) {
        return GW_EPROTO;
    }
    x.mode = (file_mode)mode;
    *ret = x;
    return GW_OK;
}

/* The next action about files; false at the end. */
static bool next_wish(struct mp *m, struct wish *ret, gw_err *ret_err)
{
    struct span verb, args;
    if (!actions_next(m, files_is_action, &verb, &args)) {
        return false;
    }
    *ret_err = wish_read(verb, args, ret);
    return true;
}

static bool actions_of(const struct work *w, struct mp *ret)
{
    size_t n;
    *ret = mp_over(w->result.actions);
    return w->result.err == GW_OK && w->result.actions.n > 0 && mp_read_array(ret, &n) == GW_OK &&
           n > 0;
}

/* Names while a handler's actions are gone through: those of before, and its own. */
struct names {
    size_t count;
    char text[LIMIT_CARRIED_PER_AGENT + 1][LIMIT_CARRIED_NAME_BYTES + 1];
};

static void names_take(struct names *names, const struct wish *x)
{
    size_t i = 0;
    while (i < names->count && strcmp(names->text[i], x->name) != 0) {
        i++;
    }
    if (x->drop && i < names->count) {
        memmove(names->text[i], names->text[--names->count], sizeof names->text[i]);
    } else if (!x->drop && i == names->count) {
        memcpy(names->text[names->count++], x->name, sizeof names->text[i]);
    }
}

gw_err files_check(const struct work *w, struct gw_error *why)
{
    const struct agent *a = w->agent;
    struct node *n = w->node;
    struct names names = {0};
    struct mp m;
    struct wish x;
    size_t seen = 0;
    gw_err err;
    if (!actions_of(w, &m)) {
        return GW_OK;
    }
    for (const struct file *f = a->files ? a->files->first : NULL; f; f = f->next) {
        (void)copy_text(f->name, names.text[names.count++], sizeof names.text[0]);
    }
    while (next_wish(&m, &x, &err)) {
        if (err != GW_OK) {
            return gw_fail(why, GW_EARG, "the handler recorded a file that cannot be");
        }
        if (++seen > ACTIONS_MAX) {
            return gw_fail(why, GW_EBUSY, "one handler registers or drops at most %d files",
                           ACTIONS_MAX);
        }
        if (!x.drop) {
            GW_TRY(n->env->files_may(n->env->ctx, &a->id, x.path, why));
        }
        names_take(&names, &x);
        if (names.count > LIMIT_CARRIED_PER_AGENT) {
            return gw_fail(why, GW_EBUSY, "at most %d files travel with an agent",
                           LIMIT_CARRIED_PER_AGENT);
        }
    }
    return GW_OK;
}

/* A path into the work folder counts from there, wherever that will be. */
static struct file_row row_of_wish(const struct work *w, const struct wish *x)
{
    const char *path = x->path, *below = w->node->cfg.agents_dir;
    size_t n = below ? strlen(below) : 0;
    char id[GW_ID_TEXT];
    size_t len = strlen(gw_id_text(&w->agent->id, id));
    if (n > 0 && strncmp(path, below, n) == 0 && path[n] == '/' &&
        strncmp(path + n + 1, id, len) == 0 && path[n + 1 + len] == '/') {
        path += n + 1 + len + 1;
    }
    return (struct file_row){.mode = x->mode, .path = {(const uint8_t *)path, strlen(path)}};
}

void files_action(struct work *w, struct store_batch *batch, struct span verb, struct span args)
{
    const struct agent *a = w->agent;
    uint8_t raw[FILE_KEY_BYTES];
    struct wish x;
    if (wish_read(verb, args, &x) != GW_OK) {
        return; /* files_check has seen it before */
    }
    if (x.drop) {
        store_batch_del(batch, TABLE_FILES, key_of(raw, &a->id, a->epoch, x.name));
    } else {
        struct file_row row = row_of_wish(w, &x);
        file_put(batch, &a->id, a->epoch, x.name, &row);
    }
}

void files_committed(struct work *w)
{
    struct agent *a = w->agent;
    struct mp m;
    struct wish x;
    gw_err err;
    if (!actions_of(w, &m)) {
        return;
    }
    while (next_wish(&m, &x, &err)) {
        struct file *f = file_find(a, x.name);
        if (err == GW_OK && x.drop && f) {
            file_drop(a, f);
        } else if (err == GW_OK && !x.drop) {
            struct file_row row = row_of_wish(w, &x);
            (void)file_set(a, x.name, &row);
        }
    }
}

/* ---- tickets ---- */

/* As it may come from another host: under its name in a folder of this ticket. */
static gw_err read_arrival(struct mp *m, const gw_id *ticket, char *ret_name,
                           struct file_row *ret_row)
{
    struct span name, value;
    size_t two;
    GW_TRY(mp_read_array(m, &two));
    GW_TRY(mp_read_bin(m, &name));
    GW_TRY(mp_read_bin(m, &value));
    if (two != 2 || !filename_is_valid((const char *)name.p, name.n) ||
        !span_text(name, ret_name, LIMIT_CARRIED_NAME_BYTES + 1)) {
        return GW_EPROTO;
    }
    GW_TRY(file_row_read(value, ret_row));
    bool right = ret_row->known && ret_row->path.n == name.n &&
                 memcmp(ret_row->path.p, name.p, name.n) == 0 &&
                 gw_id_equal(&ret_row->ticket, ticket);
    return right ? GW_OK : GW_EPROTO;
}

gw_err files_read_list(struct span list, const gw_id *ticket,
                       void (*take)(void *arg, const char *name, const struct file_row *row),
                       void *arg)
{
    struct mp m = mp_over(list);
    struct names names = {0};
    size_t n = 0;
    if (list.n == 0) {
        return GW_OK;
    }
    GW_TRY(mp_read_array(&m, &n));
    if (n > LIMIT_CARRIED_PER_AGENT) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < n; i++) {
        struct wish x = {0};
        struct file_row row;
        GW_TRY(read_arrival(&m, ticket, x.name, &row));
        names_take(&names, &x);
        if (names.count != i + 1) {
            return GW_EPROTO; /* twice */
        }
        take(arg, x.name, &row);
    }
    return GW_OK;
}

/* ---- RUN, people ---- */

static void put_full_path(struct buf *out, const struct node *n, const gw_id *agent,
                          const struct file *f)
{
    struct buf path = {0};
    char id[GW_ID_TEXT];
    if (f->path[0] != '/') {
        buf_addf(&path, "%s/%s/", n->cfg.agents_dir ? n->cfg.agents_dir : "",
                 gw_id_text(agent, id));
    }
    buf_add(&path, f->path, strlen(f->path));
    mp_strn(out, (const char *)path.data, path.len);
    buf_free(&path);
}

size_t files_members(const struct agent *a)
{
    return a->files && a->files->count > 0;
}

void files_pack_members(const struct node *n, const struct agent *a, struct buf *out)
{
    if (files_members(a) == 0) {
        return;
    }
    mp_str(out, "files");
    mp_array(out, a->files->count);
    for (const struct file *f = a->files->first; f; f = f->next) {
        mp_array(out, 3);
        mp_str(out, f->name);
        put_full_path(out, n, &a->id, f);
        mp_uint(out, f->row.mode);
    }
}

static gw_err describe_known(const struct file_row *r, gw_value *ret)
{
    char hex[2 * ENV_FILE_HASH_BYTES + 1];
    for (size_t i = 0; r->known && i < ENV_FILE_HASH_BYTES; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", r->fact.hash[i]);
    }
    GW_TRY(gw_map_set(ret, "size", r->known ? gw_int((int64_t)r->fact.size) : gw_nil()));
    GW_TRY(gw_map_set(ret, "hash", r->known ? gw_str(hex) : gw_nil()));
    return gw_map_set(ret, "modified",
                      r->known ? gw_time_value((gw_time){r->fact.mtime_ns / 1000000}) : gw_nil());
}

static gw_err describe(const struct node *n, const struct agent *a, const struct file *f,
                       gw_value *ret)
{
    struct buf packed = {0};
    gw_value path = gw_nil();
    put_full_path(&packed, n, &a->id, f);
    gw_err err = value_unpack_span(buf_span(&packed), &path);
    buf_free(&packed);
    GW_TRY(err);
    GW_TRY(gw_map_set(ret, "path", path));
    GW_TRY(gw_map_set(ret, "name", gw_str(f->name)));
    GW_TRY(gw_map_set(ret, "mode", gw_str(f->row.mode == FILE_COPY ? "copy" : "move")));
    GW_TRY(gw_map_set(ret, "origin", f->origin[0] ? gw_str(f->origin) : gw_nil()));
    return describe_known(&f->row, ret);
}

gw_err files_describe(const struct node *n, const struct agent *a, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (const struct file *f = a->files ? a->files->first : NULL; err == GW_OK && f; f = f->next) {
        gw_value one = {0};
        err = describe(n, a, f, &one);
        if (err == GW_OK) {
            err = gw_list_add(&list, one);
        } else {
            gw_value_free(&one);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

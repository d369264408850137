/* An agent that carries a file to a host and tells where it has put it:
 *
 *     godwit create courier
 *     godwit send COURIER carry file=/data/a.iso to=tag:archive into=2026/
 *
 * The sender is answered when the file is there, or is known not to get there; `report` names an
 * agent that is told the same (method `carried`). The way is an itinerary:
 *
 *     depart, here --> deliver, at `to` (tried again) --> back here --> on_itinerary_done
 *                        |  delivered: this is the end, unless it is to come back
 *                        +- not: a file that was moved is put back to where it was
 *
 * A destination is a folder of this type on that host (gw_storage): what a host lets agents write
 * to. Each file gets its name whole and on the disk; where one of the same size and time has it
 * already, that is the file, so a handler that is run again does nothing twice. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <godwit/agent.h>

#define CARGO "cargo" /* its name as a registered file, whatever it is called */

struct courier {
    bool underway;  /* has a job */
    bool delivered; /* and has done it, but is not back */
    bool reported;  /* who waits has been told */
    bool copy, back, overwrite;
    char *file, *into; /* absolute on the host `origin`; below the folder of the destination */
    char *real;        /* the same without links: it is put back there and nowhere else */
    char *origin, *origin_name;
    char *code, *text;  /* why it was not delivered; "" = nothing to say */
    gw_id owed, report; /* who asked; whom to tell */
    int64_t carried;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct courier, underway),    GW_FIELD(struct courier, delivered),
    GW_FIELD(struct courier, reported),    GW_FIELD(struct courier, copy),
    GW_FIELD(struct courier, back),        GW_FIELD(struct courier, overwrite),
    GW_FIELD(struct courier, file),        GW_FIELD(struct courier, into),
    GW_FIELD(struct courier, real),        GW_FIELD(struct courier, origin),
    GW_FIELD(struct courier, origin_name), GW_FIELD(struct courier, code),
    GW_FIELD(struct courier, text),        GW_FIELD(struct courier, owed),
    GW_FIELD(struct courier, report),      GW_FIELD(struct courier, carried),
};

/* A text of the state: an empty one may be NULL. */
static const char *text_of(const char *member)
{
    return member ? member : "";
}

static gw_err keep(char **member, const char *text)
{
    char *copy = strdup(text);
    if (!copy) {
        return GW_ENOMEM;
    }
    free(*member);
    *member = copy;
    return GW_OK;
}

/* ---- putting a file to its place ---- */

/* The sentence for errno. */
static gw_err fail(struct gw_call *call, const char *what, const char *name)
{
    int e = errno;
    gw_err code = e == ENOSPC || e == EDQUOT                ? GW_EDISK_FULL
                  : e == EACCES || e == EPERM || e == EROFS ? GW_EDENIED
                  : e == ENOENT                             ? GW_ENOT_FOUND
                  : e == EEXIST                             ? GW_EEXISTS
                                                            : GW_EIO;
    return gw_call_fail(call, code, "%s \"%s\": %s", what, name, strerror(e));
}

/* The folder `name` in `dir`, made when it is not there; `dir` is closed. -1: errno. */
static int enter(int dir, const char *name, bool make)
{
    bool made = make && mkdirat(dir, name, 0777) == 0;
    int fd = made && fsync(dir) != 0
                 ? -1
                 : openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int e = errno;
    close(dir);
    errno = e;
    return fd;
}

/* Where `into` leads below the folder `base`: as with `godwit files`, one that is empty, ends in
 * "/" or is a folder takes the file under its own name, any other is its new name (`own` NULL:
 * always). Folders are made; no step follows a link or goes up. */
static gw_err find_place(struct gw_call *call, const char *base, const char *into, const char *own,
                         int *ret_dir, char ret_name[static NAME_MAX + 1])
{
    char part[NAME_MAX + 1];
    const char *p = into + strspn(into, "/"), *name = own;
    int dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (dir >= 0 && *p) {
        size_t n = strcspn(p, "/");
        bool last = p[n] == 0;
        struct stat st;
        snprintf(part, sizeof part, "%.*s", (int)n, p);
        p += n + strspn(p + n, "/");
        if (n > NAME_MAX || strcmp(part, "..") == 0) {
            close(dir);
            return gw_call_fail(call, GW_EARG, "\"%.200s\" is no place below a folder", into);
        }
        if (strcmp(part, ".") == 0) {
            continue;
        }
        if (last &&
            (!own || fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))) {
            name = part;
            break;
        }
        dir = enter(dir, part, !last || into[strlen(into) - 1] == '/');
    }
    if (dir < 0) {
        return fail(call, "cannot open the folder for", into);
    }
    snprintf(ret_name, NAME_MAX + 1, "%s", name);
    *ret_dir = dir;
    return GW_OK;
}

/* The bytes of `from` as the new file `part`, flushed, with mode and time of change. */
static int copy_bytes(const char *from, const struct stat *st, int dir, const char *part)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = in < 0 ? -1 : openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t n = out < 0 ? -1 : 1;
    while (n > 0) {
        n = sendfile(out, in, NULL, (size_t)1 << 30);
    }
    bool ok = n == 0 && fchmod(out, st->st_mode & 07777) == 0 && futimens(out, times) == 0 &&
              fsync(out) == 0;
    int e = errno;
    if (in >= 0) {
        close(in);
    }
    if (out >= 0) {
        close(out);
    }
    errno = e;
    return ok ? 0 : -1;
}

static bool same(const struct stat *a, const struct stat *b)
{
    return S_ISREG(b->st_mode) && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The file `from` is in `dir` as `name`, whole and on the disk: one more name of the same file
 * where the file system can do that, else a copy. */
static gw_err put(struct gw_call *call, const char *from, int dir, const char *name, bool overwrite)
{
    struct stat st, there;
    char part[64], id[GW_ID_TEXT];
    gw_id self = gw_self(call);
    if (stat(from, &st) != 0) {
        return fail(call, "cannot read", from);
    }
    bool taken = fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0;
    if (taken && !same(&st, &there) && !(overwrite && S_ISREG(there.st_mode))) {
        return gw_call_fail(call, GW_EEXISTS, "there is another \"%s\" already", name);
    }
    if (!taken || !same(&st, &there)) {
        snprintf(part, sizeof part, ".%s.courier-part", gw_id_text(&self, id));
        unlinkat(dir, part, 0); /* of a run that was killed; if it stays, the next line says why */
        int made = linkat(AT_FDCWD, from, dir, part, 0);
        if (made != 0 && (errno == EXDEV || errno == EPERM || errno == EMLINK)) {
            made = copy_bytes(from, &st, dir, part);
        }
        if (made != 0 || renameat2(dir, part, dir, name, taken ? 0 : RENAME_NOREPLACE) != 0) {
            gw_err err = fail(call, "cannot make", name);
            unlinkat(dir, part, 0);
            return err;
        }
    }
    return fsync(dir) == 0 ? GW_OK : fail(call, "cannot flush the folder of", name);
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* To the folder of this type on this host. *ret_path is the caller's. */
static gw_err put_into_storage(struct gw_call *call, char **ret_path)
{
    const struct courier *c = gw_state(call);
    const char *from = gw_file_path(call, CARGO), *storage;
    char name[NAME_MAX + 1], folder[64], full[PATH_MAX];
    int dir = -1;
    if (strcmp(gw_host_id(call), c->origin) == 0) {
        return gw_call_fail(call, GW_EARG, "the file is on \"%s\" already", gw_host_name(call));
    }
    GW_TRY(gw_storage(call, &storage));
    GW_TRY(find_place(call, storage, text_of(c->into), last_part(c->file), &dir, name));
    gw_err err = put(call, from ? from : "", dir, name, c->overwrite);
    snprintf(folder, sizeof folder, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(folder, full, sizeof full - 1); /* for the report */
    close(dir);
    if (err == GW_OK && (n < 0 || asprintf(ret_path, "%.*s/%s", (int)n, full, name) < 0)) {
        return GW_ENOMEM;
    }
    return err;
}

/* Back to where it was, when it has left there. */
static gw_err put_back(struct gw_call *call)
{
    const struct courier *c = gw_state(call);
    const char *from = gw_file_path(call, CARGO);
    char name[NAME_MAX + 1];
    int dir = -1;
    if (!from || strcmp(from, c->file) == 0) {
        return GW_OK;
    }
    GW_TRY(find_place(call, "/", text_of(c->real), NULL, &dir, name));
    gw_err err = put(call, from, dir, name, false);
    close(dir);
    return err;
}

/* ---- reports ---- */

static gw_err describe(struct gw_call *call, const char *host, const char *path, gw_value *ret)
{
    const struct courier *c = gw_state(call);
    struct stat st;
    bool here = strcmp(host, gw_host_name(call)) == 0 && stat(path, &st) == 0;
    GW_TRY(gw_map_set(ret, "file", gw_strf("%s:%s", c->origin_name, c->file)));
    GW_TRY(gw_map_set(ret, "host", gw_str(host)));
    GW_TRY(gw_map_set(ret, "path", gw_str(path)));
    return gw_map_set(ret, "bytes", gw_int(here ? (int64_t)st.st_size : 0));
}

/* Who asked has his answer, the report agent its message: once, with the transaction of the
 * handler that found out. */
static gw_err report(struct gw_call *call, const char *host, const char *path)
{
    struct courier *c = gw_state(call);
    gw_value args = gw_nil(), reply = gw_nil();
    c->reported = true;
    GW_TRY(describe(call, host, path, &args));
    if (c->delivered) {
        GW_TRY(gw_value_copy(&args, &reply));
        GW_TRY(gw_answer(call, c->owed, reply));
    } else {
        GW_TRY(gw_answer_fail(call, c->owed, gw_err_from_name(text_of(c->code)), "%s",
                              text_of(c->text)));
        GW_TRY(gw_map_set(&args, "code", gw_str(text_of(c->code))));
        GW_TRY(gw_map_set(&args, "text", gw_str(text_of(c->text))));
    }
    if (!gw_id_is_nil(&c->report)) {
        return gw_tell(call, c->report, "carried", args);
    }
    gw_value_free(&args);
    return GW_OK;
}

static gw_err problem(struct courier *c, const char *code, const char *text)
{
    GW_TRY(keep(&c->code, code));
    return keep(&c->text, text);
}

/* ---- the way ---- */

static gw_err carry(struct gw_call *call)
{
    struct courier *c = gw_state(call);
    if (c->underway) {
        return gw_call_fail(call, GW_ECONFLICT, "under way with \"%s\"", c->file);
    }
    c->underway = true;
    c->delivered = c->reported = false;
    c->copy = gw_arg_bool(call, "copy");
    c->back = gw_arg_bool(call, "back");
    c->overwrite = gw_arg_bool(call, "overwrite");
    c->report = gw_arg_id(call, "report");
    GW_TRY(keep(&c->file, gw_arg_str(call, "file")));
    GW_TRY(keep(&c->into, gw_arg_str(call, "into")));
    GW_TRY(keep(&c->origin, gw_host_id(call)));
    GW_TRY(keep(&c->origin_name, gw_host_name(call)));
    GW_TRY(problem(c, "", ""));
    GW_TRY(gw_reply_later(call, &c->owed));
    /* The host looks whether the file is one that agents may have: `denied` when not. */
    GW_TRY(gw_file(call, c->file, CARGO, c->copy ? GW_COPY : GW_MOVE));
    const struct gw_stop stops[] = {
        {.to = c->origin, .method = "depart"},
        {.to = gw_arg_str(call, "to"),
         .method = "deliver",
         .retries = (uint32_t)gw_arg_int(call, "retries")},
        {.to = c->origin, .policy = GW_STOP_WAIT},
    };
    return gw_itinerary(call, stops, 3, GW_STAY);
}

/* The job is over here; who waits is told when he was not, and that the file is where it was. */
static gw_err over(struct gw_call *call)
{
    struct courier *c = gw_state(call);
    c->underway = false;
    GW_TRY(gw_itinerary_cancel(call));
    GW_TRY(gw_file_drop(call, CARGO));
    return c->reported ? GW_OK : report(call, c->origin_name, c->file);
}

/* Anybody may send what the itinerary sends. */
static gw_err has_job(struct gw_call *call)
{
    const struct courier *c = gw_state(call);
    return c->underway && !c->delivered
               ? GW_OK
               : gw_call_fail(call, GW_ECONFLICT, "there is nothing to deliver");
}

/* A name that was mistyped need not be tried at each host. */
static gw_err depart(struct gw_call *call)
{
    struct courier *c = gw_state(call);
    struct stat st;
    GW_TRY(has_job(call));
    char *real = realpath(c->file, NULL);
    if (real && lstat(c->file, &st) == 0 && S_ISREG(st.st_mode)) {
        free(c->real);
        c->real = real;
        return GW_OK;
    }
    free(real);
    char text[PATH_MAX];
    snprintf(text, sizeof text, "\"%s\" is no file on \"%s\"", c->file, gw_host_name(call));
    GW_TRY(problem(c, gw_err_name(GW_ENOT_FOUND), text));
    return over(call);
}

static gw_err deliver(struct gw_call *call)
{
    struct courier *c = gw_state(call);
    char *path = NULL;
    GW_TRY(has_job(call));
    gw_err err = put_into_storage(call, &path);
    if (err != GW_OK) { /* a copy may as well stay here, what was moved goes back */
        const struct gw_error *why = gw_call_why(call);
        GW_TRY(problem(c, gw_err_name(err), why->text));
        return c->copy && !c->back ? over(call) : GW_OK;
    }
    c->delivered = true;
    err = gw_add(&c->carried, 1);
    err = err ? err : report(call, gw_host_name(call), path);
    err = err ? err : gw_file_drop(call, CARGO);
    if (err == GW_OK && !c->back) {
        err = over(call);
    }
    free(path);
    return err;
}

static gw_err go_back(struct gw_call *call, const char *why)
{
    struct courier *c = gw_state(call);
    GW_TRY(problem(c, gw_err_name(GW_ECANCELLED), why));
    const struct gw_stop stops[] = {{.to = c->origin, .policy = GW_STOP_WAIT}};
    return gw_itinerary(call, stops, 1, GW_STAY);
}

/* The file cannot be put back: it stays with the courier, registered, in its work folder. */
static gw_err keep_cargo(struct gw_call *call)
{
    struct courier *c = gw_state(call);
    const char *path = gw_file_path(call, CARGO);
    char text[2 * sizeof(struct gw_error)];
    snprintf(text, sizeof text, "%s; and it cannot be put back: %s", text_of(c->text),
             gw_call_why(call)->text);
    GW_TRY(keep(&c->text, text));
    c->underway = false;
    return report(call, gw_host_name(call), path ? path : "");
}

static gw_err on_itinerary_done(struct gw_call *call)
{
    struct courier *c = gw_state(call);
    const gw_value *stops = gw_arg_value(call, "stops");
    const gw_value *at = stops->list.n > 1 ? &stops->list.items[1] : NULL; /* deliver */
    if (!c->underway || c->delivered) {
        c->underway = false;
        return GW_OK;
    }
    if (strcmp(gw_host_id(call), c->origin) != 0) {
        return go_back(call, "it was sent elsewhere"); /* somebody gave it another itinerary */
    }
    if (!text_of(c->code)[0] && at) {
        GW_TRY(problem(c, gw_map_str(at, "code", "fail"), gw_map_str(at, "text", "")));
    }
    return c->copy || put_back(call) == GW_OK ? over(call) : keep_cargo(call);
}

/* Whatever it does: come back, with the file when that is not delivered. */
static gw_err recall(struct gw_call *call)
{
    GW_TRY(has_job(call));
    return go_back(call, "it was called back");
}

static const struct gw_method methods[] = {
    {"carry(file: string, to: string[1..], into: string = \"\", copy: bool = false, back: bool = "
     "false, overwrite: bool = false, retries: int[1..1000] = 10, report: agent?) -> (file: "
     "string, "
     "host: string, path: string, bytes: int)",
     carry},
    {"recall()", recall},
    {"depart()", depart},
    {"deliver()", deliver},
    {"on_itinerary_done(stops: [any])", on_itinerary_done},
};
GW_AGENT(courier, struct courier, GW_FIELDS(fields), GW_METHODS(methods));

/* ---- one that reports can go to ---- */

struct office {
    gw_strs reports;
};
static const struct gw_field office_fields[] = {GW_FIELD(struct office, reports)};

static gw_err carried(struct gw_call *call)
{
    struct office *o = gw_state(call);
    return gw_strs_addf(&o->reports, "%s: %s at %s:%s", gw_arg_str(call, "file"),
                        gw_has_arg(call, "text") ? gw_arg_str(call, "text") : "delivered",
                        gw_arg_str(call, "host"), gw_arg_str(call, "path"));
}

static gw_err reports(struct gw_call *call)
{
    const struct office *o = gw_state(call);
    return gw_reply_strs(call, "reports", &o->reports);
}

static const struct gw_method office_methods[] = {
    {"carried(file: string, host: string, path: string, bytes: int, code: string?, text: string?)",
     carried},
    {"reports() -> (reports: [string])", reports, GW_READ},
};
GW_AGENT(office, struct office, GW_FIELDS(office_fields), GW_METHODS(office_methods));

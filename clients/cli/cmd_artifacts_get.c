/* artifacts get. The content goes to a part beside the file that it becomes: what an interrupted
 * command has got, the same command uses. The hash of the whole is checked before the file appears.
 */
#include "clients/cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/cli/content_hash.h"
#include "clients/cli/copy_show.h"
#include "clients/cli/output.h"
#include "clients/lib/exchange.h"
#include "protocol/text.h"

#define PAUSE_FIRST_MS 20
#define PAUSE_MOST_MS  500
#define BASE_BYTES     200 /* of the name in that of a part */
#define AHEAD_BYTES    (8u * 1024 * 1024)

const struct cli_option artifacts_get_options[] = {
    {"overwrite", 0, OPTION_FLAG, NULL, "replace the file if it is there"},
    {0},
};

struct getting {
    struct cli *cli;
    struct gw_client *client;
    struct copy_show show;
    struct content_hash hash;
    gw_value info; /* of the artifact */
    const char *id, *name, *wanted;
    uint64_t size;
    uint64_t at, got;  /* in the artifact; bytes that have come */
    uint64_t ahead;    /* up to here the disk has been told to write */
    char *path, *part; /* owned; NULL: standard output */
    int fd;
    bool to_stdout;
    int64_t began_ms;
};

/* ---- which one ---- */

static bool on_fetch_item(void *arg, const gw_value *item)
{
    struct getting *g = arg;
    if (gw_map_bool(item, "done", false)) {
        gw_value_free(&g->info);
        return gw_value_copy(item, &g->info) == GW_OK;
    }
    copy_show_item(&g->show, g->cli, item);
    return true;
}

/* It is not on this host: have the host get it from one that has it. */
static gw_err fetch(struct getting *g, const gw_value *args, struct gw_error *why)
{
    const struct cli *cli = g->cli;
    struct gw_error not_here = *why;
    gw_err err =
        gw_client_stream(g->client, "artifacts.fetch", args,
                         cli->timeout_given ? cli->timeout_ms : GW_FOREVER, on_fetch_item, g, why);
    copy_show_wipe(&g->show);
    g->show = (struct copy_show){0};
    if (err == GW_ENOT_FOUND || err == GW_ENOT_SUPPORTED) {
        *why = not_here;
        return not_here.code;
    }
    return err;
}

static gw_err find(struct getting *g, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    const char *typed = g->cli->argv[0];
    struct gw_error first = {0};
    GW_TRY(gw_map_set(&args, "artifact", gw_str(typed)));
    gw_err err =
        gw_client_call(g->client, "artifacts.info", &args, g->cli->timeout_ms, &g->info, &first);
    if (err == GW_ENOT_FOUND || (err == GW_EARG && strchr(typed, '@'))) {
        err = fetch(g, &args, &first);
    }
    if (err != GW_OK) {
        if (why) {
            *why = first;
        }
        return err;
    }
    g->id = gw_map_str(&g->info, "artifact", "");
    g->name = gw_map_str(&g->info, "name", "");
    g->wanted = gw_map_str(&g->info, "hash", "");
    g->size = (uint64_t)gw_map_int(&g->info, "size", 0);
    return GW_OK;
}

/* ---- where to ---- */

/* The name that it has, as a file of the present folder; its id where that is no good name. */
static char *own_name(const struct getting *g)
{
    bool good = g->name[0] && g->name[0] != '.' && g->name[0] != '-' && !strchr(g->name, '/');
    char *name = strdup(good ? g->name : g->id);
    if (name) {
        text_clean(name);
    }
    return name;
}

static gw_err name_files(struct getting *g, struct gw_error *why)
{
    const char *typed = g->cli->argc > 1 ? g->cli->argv[1] : NULL;
    struct stat st;
    if (typed && strcmp(typed, "-") == 0) {
        g->to_stdout = true;
        return GW_OK;
    }
    char *own = own_name(g);
    bool folder = own && typed && stat(typed, &st) == 0 && S_ISDIR(st.st_mode);
    if (own && folder && asprintf(&g->path, "%s/%s", typed, own) < 0) {
        g->path = NULL;
    } else if (own && !folder) {
        g->path = strdup(typed ? typed : own);
    }
    free(own);
    const char *slash = g->path ? strrchr(g->path, '/') : NULL;
    const char *base = slash ? slash + 1 : g->path;
    if (!g->path || asprintf(&g->part, "%.*s.%.*s.%.16s.godwit-part", (int)(base - g->path),
                             g->path, BASE_BYTES, base, g->wanted) < 0) {
        g->part = NULL;
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return GW_OK;
}

static gw_err fail_errno(struct gw_error *why, const char *what, const char *path)
{
    gw_err err = errno == EACCES || errno == EPERM || errno == EROFS ? GW_EDENIED
                 : errno == ENOENT || errno == ENOTDIR               ? GW_ENOT_FOUND
                 : errno == ENOSPC || errno == EDQUOT                ? GW_EDISK_FULL
                 : errno == EEXIST                                   ? GW_EEXISTS
                                                                     : GW_EIO;
    return gw_fail(why, err, "cannot %s \"%s\": %s", what, path, strerror(errno));
}

static gw_err check_free(const struct getting *g, struct gw_error *why)
{
    struct stat st;
    bool there = lstat(g->path, &st) == 0;
    if (there && S_ISDIR(st.st_mode)) {
        return gw_fail(why, GW_EEXISTS, "\"%s\" is a folder", g->path);
    }
    if (there && !option_given(&g->cli->options, "overwrite")) {
        gw_fail(why, GW_EEXISTS, "\"%s\" is there already", g->path);
        gw_hint(why, "--overwrite replaces it");
        return GW_EEXISTS;
    }
    return GW_OK;
}

/* The part, with what an earlier try has got. */
static gw_err open_part(struct getting *g, struct gw_error *why)
{
    struct stat st;
    g->fd = open(g->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (g->fd < 0) {
        return fail_errno(why, "write", g->path);
    }
    if (flock(g->fd, LOCK_EX | LOCK_NB) != 0) {
        return gw_fail(why, GW_ECONFLICT, "another command is getting \"%s\"", g->path);
    }
    if (fstat(g->fd, &st) != 0) {
        return fail_errno(why, "look at", g->part);
    }
    if ((uint64_t)st.st_size > g->size && ftruncate(g->fd, 0) != 0) {
        return fail_errno(why, "write", g->part);
    }
    g->at = (uint64_t)st.st_size > g->size ? 0 : (uint64_t)st.st_size;
    return content_hash_file(&g->hash, g->fd, g->at, why);
}

/* ---- bytes ---- */

static gw_err write_all(struct getting *g, struct span s, struct gw_error *why)
{
    while (s.n > 0) {
        ssize_t n =
            g->to_stdout ? write(STDOUT_FILENO, s.p, s.n) : pwrite(g->fd, s.p, s.n, (off_t)g->at);
        if (n < 0 && errno == EINTR && !cli_interrupted()) {
            continue;
        }
        if (n < 0 && cli_interrupted()) {
            return gw_fail(why, GW_ECANCELLED, "interrupted");
        }
        if (n < 0) {
            return fail_errno(why, "write", g->to_stdout ? "standard output" : g->path);
        }
        content_hash_add(&g->hash, g->at, s.p, (size_t)n);
        g->at += (uint64_t)n;
        g->got += (uint64_t)n;
        s.p += n;
        s.n -= (size_t)n;
    }
    return GW_OK;
}

/* The disk writes while more comes, so that little is left to flush at the end. */
static void write_ahead(struct getting *g)
{
    if (!g->to_stdout && g->at >= g->ahead + AHEAD_BYTES) {
        (void)sync_file_range(g->fd, (off_t)g->ahead, (off_t)(g->at - g->ahead),
                              SYNC_FILE_RANGE_WRITE);
        g->ahead = g->at;
    }
}

static gw_err try_once(struct getting *g, struct gw_error *why)
{
    char path[64 + GW_ID_TEXT], range[64];
    struct exchange *x;
    struct span bytes;
    snprintf(path, sizeof path, "/v1/artifacts/%s/content", g->id);
    snprintf(range, sizeof range, "Range: bytes=%llu-\r\n", (unsigned long long)g->at);
    struct exchange_request q = {.method = "GET",
                                 .path = path,
                                 .headers = g->at > 0 ? range : NULL,
                                 .silence_ms = g->cli->timeout_ms};
    if (g->at == g->size && g->size > 0) {
        return GW_OK;
    }
    GW_TRY(exchange_open(g->client, &q, &x, why));
    gw_err err = exchange_answer(x, why);
    while (err == GW_OK && (err = exchange_read(x, &bytes, why)) == GW_OK) {
        err = g->at + bytes.n > g->size
                  ? gw_fail(why, GW_EPROTO, "the host sends more than the artifact has")
                  : write_all(g, bytes, why);
        write_ahead(g);
        copy_show_bytes(&g->show, g->cli, g->at, g->size, g->name[0] ? g->name : g->id);
    }
    exchange_close(x);
    return err == GW_ENOT_FOUND && g->at == g->size ? GW_OK : err;
}

/* Until all of it is here, or nothing has come for the time-out. */
static gw_err get_bytes(struct getting *g, struct gw_error *why)
{
    int64_t until = copy_show_now_ms() + g->cli->timeout_ms, pause = PAUSE_FIRST_MS;
    uint64_t best = 0;
    for (;;) {
        gw_err err = try_once(g, why);
        bool passing = err == GW_EUNREACHABLE || err == GW_ESTOPPING || err == GW_EBUSY;
        if (!passing || copy_show_now_ms() >= until) {
            return err;
        }
        if (g->got > best) {
            best = g->got;
            until = copy_show_now_ms() + g->cli->timeout_ms;
            pause = PAUSE_FIRST_MS;
        }
        GW_TRY(exchange_pause(g->client, pause, why));
        pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
    }
}

static gw_err check_hash(struct getting *g, struct gw_error *why)
{
    char hash[CONTENT_HASH_TEXT];
    content_hash_text(&g->hash, hash);
    return strcmp(hash, g->wanted) == 0
               ? GW_OK
               : gw_fail(why, GW_ECORRUPT, "what came has the hash %s, not %s", hash, g->wanted);
}

/* A rest that is not of this artifact is no beginning of it: once more without. */
static gw_err get_checked(struct getting *g, struct gw_error *why)
{
    bool rest = g->at > 0;
    GW_TRY(get_bytes(g, why));
    gw_err err = check_hash(g, why);
    if (err == GW_ECORRUPT && !g->to_stdout) {
        content_hash_reset(&g->hash);
        g->at = g->ahead = 0;
        if (ftruncate(g->fd, 0) != 0) {
            return fail_errno(why, "write", g->part);
        }
        if (rest) {
            GW_TRY(get_bytes(g, why));
            err = check_hash(g, why);
        }
        if (err != GW_OK) {
            (void)unlink(g->part);
        }
    }
    return err;
}

/* ---- the end ---- */

static gw_err flush_folder(const char *path, struct gw_error *why)
{
    const char *slash = strrchr(path, '/');
    GW_AUTO(free_charp) char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    gw_err err = ok ? GW_OK : fail_errno(why, "flush the folder of", path);
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static gw_err publish(struct getting *g, struct gw_error *why)
{
    if (fsync(g->fd) != 0) {
        return fail_errno(why, "flush", g->path);
    }
    if (option_given(&g->cli->options, "overwrite")) {
        if (rename(g->part, g->path) != 0) {
            return fail_errno(why, "write", g->path);
        }
    } else if (renameat2(AT_FDCWD, g->part, AT_FDCWD, g->path, RENAME_NOREPLACE) != 0) {
        /* some file systems cannot; a second name can do the same */
        if (errno != EINVAL || link(g->part, g->path) != 0 || unlink(g->part) != 0) {
            return fail_errno(why, "write", g->path);
        }
    }
    return flush_folder(g->path, why);
}

static gw_err print_result(struct getting *g, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value done = gw_nil();
    GW_AUTO(buf_free) struct buf text = {0};
    double seconds = (double)(copy_show_now_ms() - g->began_ms) / 1000;
    GW_TRY(gw_map_set(&done, "artifact", gw_str(g->id)));
    GW_TRY(gw_map_set(&done, "size", gw_uint(g->size)));
    GW_TRY(gw_map_set(&done, "hash", gw_str(g->wanted)));
    GW_TRY(gw_map_set(&done, "sent_bytes", gw_uint(g->got)));
    GW_TRY(gw_map_set(&done, "seconds", gw_float(seconds)));
    if (g->cli->json) {
        GW_TRY(gw_map_set(&done, "name", gw_str(g->name)));
        GW_TRY(gw_map_set(&done, "file", gw_str(g->path)));
        return output_json(&done, why);
    }
    copy_line_content(g->size, g->got, seconds, &text);
    buf_add(&text, "", 1);
    if (buf_ok(&text)) {
        GW_AUTO(buf_free) struct buf path = {0};
        output_add_clean(g->path ? g->path : "standard output", &path);
        output_note(g->cli, "%.*s: %s", (int)path.len, (const char *)path.data,
                    (const char *)text.data);
    }
    return GW_OK;
}

static gw_err get(struct getting *g, struct gw_error *why)
{
    struct cli *cli = g->cli;
    if (cli->json && cli->argc > 1 && strcmp(cli->argv[1], "-") == 0) {
        return gw_fail(why, GW_EARG, "with --json the content cannot go to standard output");
    }
    GW_TRY(cli_client(cli, &g->client, why));
    GW_TRY(content_hash_init(&g->hash, why));
    GW_TRY(find(g, why));
    GW_TRY(name_files(g, why));
    g->began_ms = copy_show_now_ms();
    if (!g->to_stdout) {
        GW_TRY(check_free(g, why));
        GW_TRY(open_part(g, why));
    }
    gw_err err = get_checked(g, why);
    copy_show_wipe(&g->show);
    if (err != GW_OK) {
        if (g->fd >= 0 && g->at > 0 && why && !why->hint[0]) {
            gw_hint(why, "what has come stays in \"%s\": the same command goes on from there",
                    g->part);
        } else if (g->fd >= 0 && g->at == 0) {
            (void)unlink(g->part);
        }
        return err;
    }
    if (!g->to_stdout) {
        GW_TRY(publish(g, why));
    }
    return print_result(g, why);
}

gw_err artifacts_get_run(struct cli *cli, struct gw_error *why)
{
    struct getting g = {.cli = cli, .fd = -1};
    gw_err err = get(&g, why);
    copy_show_wipe(&g.show);
    if (g.fd >= 0) {
        close(g.fd);
    }
    content_hash_free(&g.hash);
    gw_value_free(&g.info);
    free(g.path);
    free(g.part);
    return err;
}

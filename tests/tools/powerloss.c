/* Power cuts: from the record of what a process asked of its disk, the folders that a file system
 * may leave when the power goes at any moment, and what a store makes of each.
 *
 *   powerloss work DIR                   a workload on a store in DIR, recorded by
 * preload/record.so powerloss ack TEXT                   add an acknowledgement to the record
 * ($GODWIT_TEST_RECORD) powerloss check RECORD SCRATCH [STORE [PER_POINT [SEED]]] build the states
 * in SCRATCH and open the store STORE (a folder below it, or ".") in each powerloss build RECORD
 * OUT SEED      build one state, chosen by the seed; prints the last acknowledgement that it has to
 * know of
 *
 * The model (POSIX at its word): what was flushed is there. Of what was written to a file since its
 * last flush any part may be there, in pieces of 512 bytes. Of the names that were made, moved and
 * removed in a folder since that folder's last flush each may be there or not; the flush of a file
 * does not keep its name. A rename is whole or absent. Looked at: after each call, everything;
 * nothing; all but one; one alone; all names and no bytes, and the other way; one write torn; any
 * parts by lot.
 *
 * (One file, since a tool is one: record, disk, states, checks are its four parts.)
 *
 * What has to hold: the store opens; what is in it is what some whole transaction left, none older
 * than what was durable at the last acknowledgement; the acknowledged rows are there; no file is
 * left over; opening it again finds the same. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "persistence/blob.h"
#include "persistence/store.h"
#include "protocol/base/buf.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/value.h"
#include "tests/tools/powerloss.h"

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "powerloss: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static void *need(void *p)
{
    if (!p) {
        fail("out of memory");
    }
    return p;
}

/* ---- acknowledgements ---- */

static void ack(const char *text)
{
    const char *file = getenv(RECORD_FILE);
    int fd = file ? open(file, O_WRONLY | O_APPEND) : -1;
    struct {
        struct rec r;
        char text[120];
    } entry = {.r = {.magic = REC_MAGIC, .kind = REC_ACK, .data_len = (uint32_t)strlen(text)}};
    snprintf(entry.text, sizeof entry.text, "%s", text);
    if (fd < 0 || write(fd, &entry, sizeof entry.r + entry.r.data_len) < 0) {
        fail("no record to write to");
    }
    close(fd);
}

/* ---- the workload ---- */

#define BATCHES    105
#define LARGE_EACH 9  /* a large value in each ninth batch, in one of four places */
#define IDLE_EACH  40 /* idle work: checkpoints when the log is long enough */

static uint8_t large[LIMIT_STORE_INLINE_BYTES + 20000];

/* Batch i: row i of the events, a counter, a state that is written over and over, and so on. */
static struct store_batch *batch_number(uint64_t i)
{
    static const char *const places[] = {"0", "1", "2", "3"};
    uint8_t key[8], state[700];
    struct store_batch *b = need(store_batch_new());
    store_u64(key, i);
    struct span number = {key, sizeof key};
    memset(state, (int)i, sizeof state);
    store_batch_put(b, TABLE_EVENTS, number, number);
    store_batch_put(b, TABLE_META, (struct span){(const uint8_t *)"last", 4}, number);
    key[0] = (uint8_t)(i * 7 % 64);
    store_batch_put(b, TABLE_INBOX, number, (struct span){state, 100 + i * 13 % 600});
    if (i % LARGE_EACH == 0) {
        memset(large, (int)i, sizeof large);
        struct span place = {(const uint8_t *)places[i / LARGE_EACH % 4], 1};
        store_batch_put(b, TABLE_STATES, place,
                        (struct span){large, LIMIT_STORE_INLINE_BYTES + 1 + i});
    }
    if (i % LARGE_EACH == 5) { /* a link, and its end */
        store_batch_del_prefix(b, TABLE_FILES, (struct span){(const uint8_t *)"l", 1});
        store_batch_copy_prefix(b, TABLE_STATES, (struct span){(const uint8_t *)"1", 1},
                                (struct span){(const uint8_t *)"c", 1});
    }
    return b;
}

static int work(const char *dir)
{
    struct store *store;
    struct gw_error why;
    for (uint64_t i = 1; i <= BATCHES;) {
        if (store_open_sqlite(dir, &store, &why) != GW_OK) {
            fail("%s", why.text);
        }
        uint64_t until = i + BATCHES / 3; /* closed and opened again twice */
        while (i <= BATCHES && i < until) {
            struct store_batch *group[3];
            gw_err errors[3];
            size_t n = 1 + i % 3;
            for (size_t j = 0; j < n; j++) {
                group[j] = batch_number(i + j);
            }
            store_apply(store, group, n, errors);
            for (size_t j = 0; j < n; j++, i++) {
                char text[32];
                store_batch_free(group[j]);
                snprintf(text, sizeof text, "row %llu", (unsigned long long)i);
                if (errors[j]) {
                    fail("a batch failed: %s", gw_err_name(errors[j]));
                }
                ack(text);
            }
            if (i % IDLE_EACH < n) {
                store_idle(store);
            }
        }
        store_close(store);
    }
    return 0;
}

/* ---- the record ---- */

struct entry {
    struct rec r;
    char *path, *to; /* owned; "" = none */
    const uint8_t *data;
    uint32_t inode; /* number of its file in `files`, once it is played */
};

static struct entry *entries;
static size_t entry_count;

static void load(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        fail("cannot read \"%s\": %s", path, strerror(errno));
    }
    uint8_t *all = need(malloc((size_t)st.st_size + 1)); /* kept: entries point into it */
    for (ssize_t at = 0, n; at < st.st_size; at += n) {
        n = read(fd, all + at, (size_t)(st.st_size - at));
        if (n <= 0) {
            fail("cannot read \"%s\"", path);
        }
    }
    close(fd);
    for (size_t at = 0; at < (size_t)st.st_size;) {
        struct rec r;
        memcpy(&r, all + at, sizeof r);
        if (r.magic != REC_MAGIC) {
            fail("\"%s\" is no record", path);
        }
        at += sizeof r;
        entries = need(realloc(entries, (entry_count + 1) * sizeof *entries));
        entries[entry_count++] =
            (struct entry){.r = r,
                           .path = strndup((char *)all + at, r.path_len),
                           .to = strndup((char *)all + at + r.path_len, r.to_len),
                           .data = all + at + r.path_len + r.to_len};
        at += r.path_len + r.to_len + r.data_len;
    }
}

/* ---- the disk: what is durable, and what is on its way ---- */

struct content {
    uint8_t *bytes;
    size_t len;
};

struct file {
    uint64_t number; /* of the inode */
    struct content durable;
    uint32_t *pending; /* entries: writes and cuts since the last flush */
    size_t pending_count;
};

struct name {
    char *path; /* borrowed from an entry */
    uint32_t file;
    bool folder;
};

struct names {
    struct name *items;
    size_t count;
};

static struct file *files;
static size_t file_count;
static struct names durable, now; /* names that are flushed; as the process sees them */
static uint32_t *moves;           /* entries: names that are not flushed, in their order */
static size_t move_count;
static rec_kind forget = REC_ACK; /* a kind of flush that is taken for none */

static void content_apply(struct content *c, const struct entry *e)
{
    size_t end = e->r.kind == REC_CUT ? e->r.at : e->r.at + e->r.data_len;
    if (end > c->len || e->r.kind == REC_CUT) {
        c->bytes = need(realloc(c->bytes, end + 1));
        if (end > c->len) {
            memset(c->bytes + c->len, 0, end - c->len);
        }
        c->len = end;
    }
    if (e->r.kind == REC_WRITE) {
        memcpy(c->bytes + e->r.at, e->data, e->r.data_len);
    }
}

static uint32_t add_file(uint64_t number)
{
    files = need(realloc(files, (file_count + 1) * sizeof *files));
    files[file_count] = (struct file){.number = number};
    return (uint32_t)file_count++;
}

/* The newest with this number of an inode. */
static uint32_t find_file(uint64_t number)
{
    for (size_t i = file_count; i-- > 0;) {
        if (files[i].number == number) {
            return (uint32_t)i;
        }
    }
    return UINT32_MAX; /* was there before the record began */
}

static struct name *names_find(const struct names *n, const char *path)
{
    for (size_t i = 0; i < n->count; i++) {
        if (strcmp(n->items[i].path, path) == 0) {
            return &n->items[i];
        }
    }
    return NULL;
}

static void names_set(struct names *n, char *path, uint32_t file, bool folder)
{
    struct name *there = names_find(n, path);
    if (!there) {
        n->items = need(realloc(n->items, (n->count + 1) * sizeof *n->items));
        there = &n->items[n->count++];
    }
    *there = (struct name){path, file, folder};
}

static void names_drop(struct names *n, const char *path)
{
    struct name *there = names_find(n, path);
    if (there) {
        *there = n->items[--n->count];
    }
}

/* One made, moved or removed name. The file of a rename or link is known from when it was played.
 */
static void names_apply(struct names *n, const struct entry *e)
{
    switch (e->r.kind) {
    case REC_CREATE: names_set(n, e->path, e->inode, false); break;
    case REC_MKDIR: names_set(n, e->path, 0, true); break;
    case REC_UNLINK: names_drop(n, e->path); break;
    case REC_LINK: names_set(n, e->to, e->inode, false); break;
    case REC_RENAME:
        names_drop(n, e->path);
        names_set(n, e->to, e->inode, false);
        break;
    default: break;
    }
}

static bool is_in(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    const char *last = strrchr(path, '/');
    return n == 0 ? !last : strncmp(path, folder, n) == 0 && last == path + n;
}

static void flush_folder(const char *folder)
{
    size_t kept = 0;
    for (size_t i = 0; i < move_count; i++) {
        const struct entry *e = &entries[moves[i]];
        if (is_in(e->path, folder)) {
            names_apply(&durable, e);
        } else {
            moves[kept++] = moves[i];
        }
    }
    move_count = kept;
}

static void flush_file(struct file *f)
{
    for (size_t i = 0; i < f->pending_count; i++) {
        content_apply(&f->durable, &entries[f->pending[i]]);
    }
    f->pending_count = 0;
}

static void play_bytes(size_t i)
{
    struct entry *e = &entries[i];
    e->inode = find_file(e->r.file);
    if (e->inode == UINT32_MAX) {
        return;
    }
    struct file *f = &files[e->inode];
    if (e->r.kind == REC_SYNC) {
        flush_file(f);
        return;
    }
    f->pending = need(realloc(f->pending, (f->pending_count + 1) * sizeof *f->pending));
    f->pending[f->pending_count++] = (uint32_t)i;
}

static void play(size_t i)
{
    struct entry *e = &entries[i];
    const struct name *there;
    if (e->r.kind == (uint32_t)forget) {
        return;
    }
    switch (e->r.kind) {
    case REC_ACK: return;
    case REC_WRITE:
    case REC_CUT:
    case REC_SYNC: play_bytes(i); return;
    case REC_SYNC_DIR: flush_folder(e->path); return;
    case REC_CREATE: e->inode = add_file(e->r.file); break;
    case REC_RENAME:
    case REC_LINK:
    case REC_UNLINK:
        there = names_find(&now, e->path);
        if (!there) {
            e->r.kind = REC_ACK; /* of what was not recorded, a socket: nothing to do */
            e->r.data_len = 0;
            return;
        }
        e->inode = there->file;
        break;
    default: break;
    }
    names_apply(&now, e);
    moves = need(realloc(moves, (move_count + 1) * sizeof *moves));
    moves[move_count++] = (uint32_t)i;
}

/* ---- one crash state ---- */

/* What of the pending is there. */
struct choice {
    enum { NONE, ALL, ALL_BUT, ONLY, BYTES, MOVES, TORN, LOT } kind;
    size_t which; /* entry; TORN: torn there, all before it is there */
    uint64_t seed;
};

static uint64_t lot(uint64_t seed, uint64_t a, uint64_t b)
{
    uint64_t in[3] = {seed, a, b};
    return XXH3_64bits(in, sizeof in);
}

static bool chosen(const struct choice *c, size_t i, bool is_move)
{
    switch (c->kind) {
    case NONE: return false;
    case ALL: return true;
    case ALL_BUT: return i != c->which;
    case ONLY: return i == c->which;
    case BYTES: return !is_move;
    case MOVES: return is_move;
    case TORN: return i <= c->which;
    case LOT: return lot(c->seed, i, 0) & 1;
    }
    return false;
}

static void apply_torn(struct content *c, const struct entry *e, const struct choice *how, size_t i)
{
    struct entry piece = *e;
    for (uint64_t at = e->r.at, end = at + e->r.data_len, next; at < end; at = next) {
        next = (at / 512 + 1) * 512 < end ? (at / 512 + 1) * 512 : end;
        if (lot(how->seed, i, at / 512) & 1) {
            piece.r.at = at;
            piece.r.data_len = (uint32_t)(next - at);
            piece.data = e->data + (at - e->r.at);
            content_apply(c, &piece);
        }
    }
}

static struct content content_of(const struct file *f, const struct choice *how)
{
    struct content c = {.bytes = need(malloc(f->durable.len + 1)), .len = f->durable.len};
    memcpy(c.bytes, f->durable.bytes ? f->durable.bytes : (uint8_t *)"", f->durable.len);
    for (size_t k = 0; k < f->pending_count; k++) {
        size_t i = f->pending[k];
        const struct entry *e = &entries[i];
        bool torn = e->r.kind == REC_WRITE && ((how->kind == TORN && i == how->which) ||
                                               (how->kind == LOT && lot(how->seed, i, 1) % 8 == 0));
        if (torn) {
            apply_torn(&c, e, how, i);
        } else if (chosen(how, i, false)) {
            content_apply(&c, e);
        }
    }
    return c;
}

static void names_of(const struct choice *how, struct names *ret)
{
    *ret = (struct names){.items = need(malloc((durable.count + 1) * sizeof *ret->items)),
                          .count = durable.count};
    memcpy(ret->items, durable.items ? durable.items : (void *)"",
           durable.count * sizeof *ret->items);
    for (size_t k = 0; k < move_count; k++) {
        if (chosen(how, moves[k], true)) {
            names_apply(ret, &entries[moves[k]]);
        }
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

static bool has_parent(const struct names *n, const char *path)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *last = strrchr(parent, '/');
    if (!last) {
        return true;
    }
    *last = '\0';
    const struct name *there = names_find(n, parent);
    return there && there->folder && has_parent(n, parent);
}

struct state {
    struct names names;
    struct content *contents; /* by place in names */
    uint64_t hash;
};

static struct state state_build(const struct choice *how)
{
    struct state s = {0};
    struct names all;
    names_of(how, &all);
    for (size_t i = 0; i < all.count; i++) {
        if (has_parent(&all, all.items[i].path)) {
            names_set(&s.names, all.items[i].path, all.items[i].file, all.items[i].folder);
        }
    }
    free(all.items);
    qsort(s.names.items, s.names.count, sizeof *s.names.items, by_path);
    s.contents = need(calloc(s.names.count + 1, sizeof *s.contents));
    for (size_t i = 0; i < s.names.count; i++) {
        const struct name *n = &s.names.items[i];
        s.hash = XXH3_64bits_withSeed(n->path, strlen(n->path), s.hash);
        if (!n->folder) {
            s.contents[i] = content_of(&files[n->file], how);
            s.hash = XXH3_64bits_withSeed(s.contents[i].bytes, s.contents[i].len, s.hash);
        }
    }
    return s;
}

static void state_free(struct state *s)
{
    for (size_t i = 0; i < s->names.count; i++) {
        free(s->contents[i].bytes);
    }
    free(s->contents);
    free(s->names.items);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    return at->level == 0 ? 0 : remove(path);
}

static void state_write(const struct state *s, const char *dir)
{
    char path[PATH_MAX];
    if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        fail("cannot clear \"%s\": %s", dir, strerror(errno));
    }
    for (size_t i = 0; i < s->names.count; i++) { /* folders stand before what is in them */
        const struct name *n = &s->names.items[i];
        snprintf(path, sizeof path, "%s/%s", dir, n->path);
        if (n->folder) {
            if (mkdir(path, 0700) != 0) {
                fail("cannot make \"%s\": %s", path, strerror(errno));
            }
            continue;
        }
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        const struct content *c = &s->contents[i];
        if (fd < 0 || write(fd, c->bytes, c->len) != (ssize_t)c->len || close(fd) != 0) {
            fail("cannot write \"%s\": %s", path, strerror(errno));
        }
    }
}

/* ---- what the store makes of it ---- */

static bool is_host; /* it is in a folder of its own below, with keys beside it */

struct logical {
    uint64_t digest;
    uint64_t rows; /* of the workload: 1 .. rows are there */
    size_t large;  /* values that are files */
};

static bool add_row(void *arg, struct span key, struct span value)
{
    struct logical *l = arg;
    uint64_t sizes[2] = {key.n, value.n};
    l->digest = XXH3_64bits_withSeed(sizes, sizeof sizes, l->digest);
    l->digest = XXH3_64bits_withSeed(key.p, key.n, l->digest);
    l->digest = XXH3_64bits_withSeed(value.p, value.n, l->digest);
    l->large += value.n > LIMIT_STORE_INLINE_BYTES;
    return true;
}

/* Of a host whose one counter is incremented, each time acknowledged as a row. */
static bool read_counter(void *arg, struct span key, struct span value)
{
    uint64_t *rows = arg;
    gw_value v;
    if (key.n == 24 && value_unpack_span(value, &v) == GW_OK) {
        int64_t count = gw_map_int(&v, "count", 0);
        *rows = count > 0 ? (uint64_t)count : *rows;
        gw_value_free(&v);
    }
    return true;
}

static bool count_rows(void *arg, struct span key, struct span value)
{
    uint64_t *rows = arg;
    (void)value;
    if (key.n == 8 && load_u64(key.p) == *rows + 1) {
        ++*rows;
    }
    return true;
}

static size_t files_in(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    const struct dirent *e;
    while (d && (e = readdir(d))) {
        n += e->d_name[0] != '.';
    }
    if (d) {
        closedir(d);
    }
    return n;
}

/* NULL, or what is wrong. */
static const char *look(const char *dir, struct logical *ret)
{
    static struct gw_error why;
    struct store *store;
    struct logical l = {0};
    if (store_open_sqlite(dir, &store, &why) != GW_OK) {
        return why.text;
    }
    const char *wrong = NULL;
    for (store_table t = 0; t < TABLE_COUNT && !wrong; t++) {
        const struct store_range all = {.table = t};
        l.digest++;
        if (store_scan(store, &all, add_row, &l) != GW_OK) {
            wrong = "a table cannot be read whole";
        }
    }
    const struct store_range events = {.table = TABLE_EVENTS}, states = {.table = TABLE_STATES};
    if (!wrong && store_scan(store, &events, count_rows, &l.rows) != GW_OK) {
        wrong = "the events cannot be read";
    }
    uint64_t count = 0;
    if (!wrong && store_scan(store, &states, read_counter, &count) != GW_OK) {
        wrong = "the states cannot be read";
    }
    l.rows = is_host ? count : l.rows;
    char blobs[PATH_MAX];
    snprintf(blobs, sizeof blobs, "%s/blobs", dir);
    if (!wrong && files_in(blobs) != l.large) {
        wrong = "files of large values are left over, or missing";
    }
    store_close(store);
    *ret = l;
    return wrong;
}

/* ---- all of them ---- */

struct seen { /* states that were looked at, by their hash: open addressing */
    uint64_t hash;
    struct logical logical;
    bool used;
} * seen;
#define SEEN_SIZE (1u << 20)

static uint64_t *history; /* digests in the order in which they were reached */
static size_t history_count;

struct checking {
    const char *scratch;
    char store[PATH_MAX];
    size_t per_point;
    uint64_t seed;
    uint64_t acked; /* rows */
    size_t floor;   /* place in the history below which nothing may be */
    size_t point;
    size_t states, looked;
};

static size_t place_in_history(uint64_t digest)
{
    for (size_t i = history_count; i-- > 0;) {
        if (history[i] == digest) {
            return i;
        }
    }
    return SIZE_MAX;
}

static __attribute__((noreturn)) void tell(const struct checking *k, const struct choice *how,
                                           const char *what)
{
    fail("power cut after call %zu, choice %d at %zu, seed %llu: %s (the folder stays in \"%s\")",
         k->point, (int)how->kind, how->which, (unsigned long long)how->seed, what, k->scratch);
}

/* Open it twice; the first time may have to recover. */
static struct logical look_twice(const struct checking *k, const struct choice *how,
                                 const struct state *s)
{
    struct logical first, second;
    state_write(s, k->scratch);
    if (mkdir(k->store, 0700) != 0 && errno != EEXIST) {
        return (struct logical){0}; /* the folder above it is not there: nothing was begun */
    }
    const char *wrong = look(k->store, &first);
    if (!wrong) {
        wrong = look(k->store, &second);
    }
    if (!wrong && memcmp(&first, &second, sizeof first) != 0) {
        wrong = "opening it again finds something else";
    }
    if (wrong) {
        state_write(s, k->scratch);
        tell(k, how, wrong);
    }
    return first;
}

static struct logical check_state(struct checking *k, const struct choice *how)
{
    struct state s = state_build(how);
    size_t at = s.hash % SEEN_SIZE;
    k->states++;
    while (seen[at].used && seen[at].hash != s.hash) {
        at = (at + 1) % SEEN_SIZE;
    }
    if (!seen[at].used) {
        if (++k->looked > SEEN_SIZE / 2) {
            fail("more states than there is room for: look at fewer for each call");
        }
        seen[at] = (struct seen){s.hash, look_twice(k, how, &s), true};
    }
    state_free(&s);
    return seen[at].logical;
}

static void check_one(struct checking *k, const struct choice *how)
{
    struct logical l = check_state(k, how);
    size_t place = place_in_history(l.digest);
    if (place == SIZE_MAX) {
        tell(k, how, "what is there is not what any transaction left");
    } else if (place < k->floor) {
        tell(k, how, "what was durable at an acknowledgement is gone");
    } else if (l.rows < k->acked) {
        tell(k, how, "an acknowledged row is gone");
    }
}

#define VARIED 24 /* of what is pending, the newest */

static int newest_first(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The newest entries that are pending. */
static size_t pending_now(uint32_t ret[VARIED])
{
    uint32_t *all = need(malloc((entry_count + 1) * sizeof *all));
    size_t n = 0;
    for (size_t f = 0; f < file_count; f++) {
        for (size_t i = 0; i < files[f].pending_count; i++) {
            all[n++] = files[f].pending[i];
        }
    }
    for (size_t i = 0; i < move_count; i++) {
        all[n++] = moves[i];
    }
    qsort(all, n, sizeof *all, newest_first);
    n = n < VARIED ? n : VARIED;
    memcpy(ret, all, n * sizeof *all);
    free(all);
    return n;
}

/* All that is looked at after one call; returns how many. */
static size_t choices_now(uint64_t seed, struct choice ret[3 * VARIED + 8])
{
    uint32_t pending[VARIED];
    size_t n = pending_now(pending), count = 0;
    ret[count++] = (struct choice){.kind = NONE};
    ret[count++] = (struct choice){.kind = BYTES};
    ret[count++] = (struct choice){.kind = MOVES};
    for (uint64_t i = 0; n > 1 && i < 4; i++) {
        ret[count++] = (struct choice){.kind = LOT, .seed = lot(seed, i, 2)};
    }
    for (size_t i = 0; i < n; i++) {
        ret[count++] = (struct choice){.kind = ALL_BUT, .which = pending[i]};
        ret[count++] = (struct choice){.kind = ONLY, .which = pending[i]};
        ret[count++] = (struct choice){.kind = TORN, .which = pending[i], .seed = lot(seed, i, 3)};
    }
    return count;
}

static void check_point(struct checking *k)
{
    struct choice choices[3 * VARIED + 8];
    struct choice everything = {.kind = ALL};
    uint64_t seed = lot(k->seed, k->point, 4);
    size_t n = choices_now(seed, choices);
    struct logical l = check_state(k, &everything);
    if (place_in_history(l.digest) == SIZE_MAX) {
        history = need(realloc(history, (history_count + 1) * sizeof *history));
        history[history_count++] = l.digest;
    }
    check_one(k, &everything);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || lot(seed, i, 5) % n < k->per_point) {
            check_one(k, &choices[i]);
        }
    }
}

static void acknowledged(struct checking *k, const struct entry *e)
{
    struct choice nothing = {.kind = NONE};
    unsigned long long row;
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)e->r.data_len, (const char *)e->data);
    if (sscanf(text, "row %llu", &row) == 1) {
        k->acked = row;
    }
    struct logical l = check_state(k, &nothing);
    size_t place = place_in_history(l.digest);
    k->floor = place != SIZE_MAX && place > k->floor ? place : k->floor;
}

static int check(int argc, char **argv)
{
    struct checking k = {.scratch = argv[3], .per_point = SIZE_MAX, .seed = 1};
    const char *store = argc > 4 ? argv[4] : ".";
    if (argc > 5) {
        k.per_point = (size_t)strtoull(argv[5], NULL, 10);
    }
    if (argc > 6) {
        k.seed = strtoull(argv[6], NULL, 10);
    }
    if (argc > 7) {
        forget = strcmp(argv[7], "files") == 0 ? REC_SYNC : REC_SYNC_DIR;
    }
    is_host = strcmp(store, ".") != 0;
    snprintf(k.store, sizeof k.store, "%s/%s", k.scratch, store);
    load(argv[2]);
    seen = need(calloc(SEEN_SIZE, sizeof *seen));
    check_point(&k); /* before anything was done */
    for (k.point = 0; k.point < entry_count; k.point++) {
        bool is_ack = entries[k.point].r.kind == REC_ACK;
        play(k.point);
        if (is_ack) {
            acknowledged(&k, &entries[k.point]);
        }
        check_point(&k);
    }
    printf("%zu calls, %zu crash states, %zu different ones opened twice, %zu transactions\n",
           entry_count, k.states, k.looked, history_count);
    return 0;
}

/* One state of the record: any call, any choice. The last acknowledgement before it is printed. */
static int build(char **argv)
{
    struct choice choices[3 * VARIED + 8];
    uint64_t seed = strtoull(argv[4], NULL, 10);
    load(argv[2]);
    size_t point = (size_t)(lot(seed, 0, 6) % entry_count), told = SIZE_MAX;
    for (size_t i = 0; i <= point; i++) {
        told = entries[i].r.kind == REC_ACK && entries[i].r.data_len > 0 ? i : told;
        play(i);
    }
    size_t n = choices_now(seed, choices);
    choices[n++] = (struct choice){.kind = ALL};
    const struct choice *how = &choices[lot(seed, 0, 7) % n];
    struct state s = state_build(how);
    state_write(&s, argv[3]);
    state_free(&s);
    fprintf(stderr, "power cut after call %zu of %zu, choice %d at %zu\n", point, entry_count,
            (int)how->kind, how->which);
    if (told != SIZE_MAX) {
        printf("%.*s\n", (int)entries[told].r.data_len, (const char *)entries[told].data);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (log_open("/dev/null", NULL) != GW_OK) {
        fail("no /dev/null");
    }
    if (argc == 3 && strcmp(argv[1], "work") == 0) {
        return work(argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "ack") == 0) {
        ack(argv[2]);
        return 0;
    }
    if (argc >= 4 && strcmp(argv[1], "check") == 0) {
        return check(argc, argv);
    }
    if (argc == 5 && strcmp(argv[1], "build") == 0) {
        return build(argv);
    }
    fail("usage: powerloss work DIR | ack TEXT | check RECORD SCRATCH [STORE [PER_POINT [SEED]]] | "
         "build RECORD OUT SEED");
}

#include "host/files/receive.h"

#include <stdlib.h>

#include "host/files/delta.h"
#include "host/files/receive_file.h"
#include "host/files/record.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

/* Chunks of a smaller basis follow its verdict unasked, and save a round trip. */
#define UNASKED_BYTES  (64u * 1024 * 1024)
#define CHUNKS_AT_ONCE 1024 /* in one BASIS record */

/* A file that was told and has no last word yet:
 *
 *   FREE → PARKED → WANTED → PLACING → FREE
 *
 * PARKED: too many large files are open; the oldest goes on when one of them ends. The one WANTED
 * file whose content is coming is `present`. */
typedef enum want_state { WANT_FREE, WANT_PARKED, WANT_WANTED, WANT_PLACING } want_state;

struct want {
    want_state state;
    uint64_t index;
    struct file_entry entry; /* parked; owned */
    struct sink_file *file;  /* wanted; owned */
    uint64_t size;
    size_t bytes; /* of its texts */
    bool large;
};

struct receiver {
    const struct receive_config *config;
    struct progress *progress; /* NULL: nobody looks */
    struct gw_error *why;
    struct record_io records;
    struct incoming in;
    struct sink *sink;
    uint32_t flags;                         /* of OPEN */
    struct want *wants;                     /* LIMIT_TRANSFER_WINDOW, a ring by index */
    uint64_t parked[LIMIT_TRANSFER_WINDOW]; /* indexes, a ring */
    size_t parked_at, parked_count;
    size_t large; /* large files that are wanted */
    size_t bytes; /* of the texts of all wants */
    struct want *present;
    bool skipping; /* the present one failed: the rest of its content is forgotten */
    uint64_t skipped;
    bool finished;
    uint64_t files, made; /* files, and their bytes, that are there at the end */
    gw_err said;          /* first failure of on_placed to tell the sender; it cannot return it */
    gw_err lost;          /* the disk itself failed */
    struct gw_error loss;
    /* A list that is being made: */
    struct want *listed;
    unsigned basis;
    struct buf chunks;
    size_t left; /* chunks that may still be named */
};

static gw_err wrong(struct receiver *r, const struct record *rec, const char *text)
{
    return gw_fail(r->why, GW_EPROTO, "the sender sent %s %s", record_kind_name(rec->kind), text);
}

/* --- what is said --- */
static gw_err say_verdict(struct receiver *r, uint64_t index, record_verdict verdict, bool unasked)
{
    struct buf *b = record_begin(&r->records, RECORD_VERDICT, 3);
    mp_uint(b, index);
    mp_uint(b, verdict);
    mp_bool(b, unasked);
    return record_end(&r->records);
}

static gw_err say_failed(struct receiver *r, uint64_t index, gw_err code,
                         const struct gw_error *why)
{
    if (r->progress) {
        atomic_fetch_add(&r->progress->failed, 1);
    }
    struct buf *b = record_begin(&r->records, RECORD_FAILED, 4);
    mp_uint(b, index);
    mp_uint(b, code);
    mp_str(b, why->text[0] ? why->text : gw_err_text(code));
    mp_str(b, why->hint);
    return record_end(&r->records);
}

static void count_file(struct receiver *r, uint64_t size)
{
    r->files++;
    r->made += size;
    if (r->progress) {
        atomic_fetch_add(&r->progress->files, 1);
    }
}

static void count_bytes(struct receiver *r, uint64_t bytes, uint64_t saved)
{
    if (r->progress) {
        atomic_fetch_add(&r->progress->bytes, bytes);
        atomic_fetch_add(&r->progress->saved_bytes, saved);
    }
}

/* --- wants --- */
static struct want *want_at(struct receiver *r, uint64_t index)
{
    return &r->wants[index % LIMIT_TRANSFER_WINDOW];
}

static void set_state(struct receiver *r, struct want *w, want_state state)
{
    r->large += (w->large && state == WANT_WANTED) - (w->large && w->state == WANT_WANTED);
    w->state = state;
}

static void free_want(struct receiver *r, struct want *w)
{
    set_state(r, w, WANT_FREE);
    r->bytes -= w->bytes;
    entry_clear(&w->entry);
    *w = (struct want){0};
}

/* A failure that no other file would be spared. */
static bool is_for_all(gw_err err)
{
    return err == GW_EDISK_FULL || err == GW_ENOMEM;
}

static void on_placed(void *arg, uint64_t index, gw_err err, const struct gw_error *why)
{
    struct receiver *r = arg;
    struct want *w = want_at(r, index);
    gw_assert(w->state == WANT_PLACING && w->index == index);
    gw_err said;
    if (err == GW_OK) {
        count_file(r, w->size);
        said = say_verdict(r, index, VERDICT_PLACED, false);
    } else {
        said = say_failed(r, index, err, why);
        if (is_for_all(err) && r->lost == GW_OK) {
            r->lost = err;
            r->loss = *why;
        }
    }
    free_want(r, w);
    r->said = r->said == GW_OK ? said : r->said;
}

/* The disk takes its time: the sender is told that we are here. Who cannot be told is not told
 * again; the call of the sink that this is within goes on. */
static void on_busy(void *arg)
{
    struct receiver *r = arg;
    struct gw_error why = {0};
    if (r->said != GW_OK || r->records.torn) {
        return;
    }
    r->records.why = &why;
    r->said = record_alive(&r->records);
    r->records.why = r->why;
    if (r->said != GW_OK && r->why->code == GW_OK) {
        *r->why = why;
    }
}

/* After a call of the sink that may have placed files. */
static gw_err placed(struct receiver *r)
{
    GW_TRY(r->said);
    return r->lost != GW_OK ? gw_fail(r->why, r->lost, "%s", r->loss.text) : GW_OK;
}

/* --- naming chunks of what there is --- */
static gw_err say_chunks(struct receiver *r, bool more)
{
    struct buf *b = record_begin(&r->records, RECORD_BASIS, 4);
    mp_uint(b, r->listed->index);
    mp_uint(b, r->basis);
    mp_bin(b, r->chunks.data, r->chunks.len);
    mp_bool(b, more);
    buf_reset(&r->chunks);
    return record_end(&r->records);
}

static gw_err on_chunk(void *arg, const uint8_t *hash, uint32_t len)
{
    struct receiver *r = arg;
    if (r->left == 0) {
        return GW_ETOO_BIG; /* the end of the scan */
    }
    r->left--;
    buf_add(&r->chunks, hash, DIGEST_BYTES);
    buf_add_u32(&r->chunks, len);
    if (!buf_ok(&r->chunks)) {
        return gw_fail(r->why, GW_ENOMEM, "out of memory");
    }
    return r->chunks.len >= CHUNKS_AT_ONCE * DELTA_CHUNK_BYTES ? say_chunks(r, true) : GW_OK;
}

static gw_err on_pass(void *arg)
{
    struct receiver *r = arg;
    return record_alive(&r->records);
}

static gw_err list_basis(struct receiver *r, int fd, uint64_t size)
{
    struct delta_scan scan = {.fd = fd,
                              .size = size,
                              .work = r->in.work,
                              .room = RECORD_DATA_BYTES,
                              .on_chunk = on_chunk,
                              .on_pass = on_pass,
                              .arg = r};
    struct gw_error unread = {0};
    gw_err err = delta_scan(&scan, &unread);
    /* Of what cannot be read, or is too much, the first chunks will do. */
    return err == GW_ETOO_BIG || unread.code == GW_EIO ? GW_OK : err;
}

static gw_err list(struct receiver *r, struct want *w)
{
    struct sink_file *f = w->file;
    size_t most = LIMIT_BASIS_CHUNKS / (f->old_size > 0 && f->rest_size > 0 ? 2 : 1);
    r->listed = w;
    buf_reset(&r->chunks);
    r->basis = BASIS_OLD;
    r->left = most;
    if (f->old_size > 0) {
        GW_TRY(list_basis(r, sink_old(f), f->old_size));
    }
    if (f->rest_size > 0) {
        GW_TRY(r->chunks.len > 0 ? say_chunks(r, true) : GW_OK);
        r->basis = BASIS_REST;
        r->left = most;
        GW_TRY(list_basis(r, sink_rest(f), f->rest_size));
    }
    return say_chunks(r, false);
}

/* --- entries --- */
static size_t entry_bytes(const struct file_entry *e)
{
    return strlen(e->path) + (e->target ? strlen(e->target) : 0);
}

static gw_err want(struct receiver *r, struct want *w, uint64_t index, struct sink_file *f,
                   const struct file_entry *e)
{
    *w = (struct want){
        .index = index, .file = f, .size = e->size, .large = f->large, .bytes = entry_bytes(e)};
    r->bytes += w->bytes;
    set_state(r, w, WANT_WANTED);
    uint64_t there = f->old_size + f->rest_size;
    if (there == 0) {
        return say_verdict(r, index, VERDICT_WHOLE, false);
    }
    bool unasked = there <= UNASKED_BYTES;
    GW_TRY(say_verdict(r, index, VERDICT_BASIS, unasked));
    return unasked ? list(r, w) : GW_OK;
}

static gw_err look_at(struct receiver *r, struct want *w, uint64_t index,
                      const struct file_entry *e)
{
    sink_verdict verdict;
    struct sink_file *f = NULL;
    struct gw_error why = {0};
    gw_err err = sink_entry(r->sink, e, &verdict, &f, &why);
    GW_TRY(placed(r));
    if (is_for_all(err)) {
        return gw_fail(r->why, err, "%s", why.text);
    }
    if (err != GW_OK) {
        return say_failed(r, index, err, &why);
    }
    if (verdict == SINK_WANTED) {
        return want(r, w, index, f, e);
    }
    if (e->type == ENTRY_FILE) {
        count_file(r, e->size);
        count_bytes(r, e->size, e->size);
    }
    return say_verdict(r, index,
                       verdict == SINK_SAME   ? VERDICT_SAME
                       : verdict == SINK_KEPT ? VERDICT_KEPT
                                              : VERDICT_DONE,
                       false);
}

static void park(struct receiver *r, struct want *w, uint64_t index, struct file_entry *e)
{
    *w = (struct want){.index = index, .entry = *e, .bytes = entry_bytes(e)};
    *e = (struct file_entry){0};
    r->bytes += w->bytes;
    set_state(r, w, WANT_PARKED);
    r->parked[(r->parked_at + r->parked_count++) % LIMIT_TRANSFER_WINDOW] = index;
}

/* Large files have ended: the next may be opened. */
static gw_err unpark(struct receiver *r)
{
    while (r->parked_count > 0 && r->large < LIMIT_TRANSFER_OPEN) {
        struct want *w = want_at(r, r->parked[r->parked_at]);
        GW_AUTO(entry_clear) struct file_entry e = w->entry;
        uint64_t index = w->index;
        w->entry = (struct file_entry){0};
        r->parked_at = (r->parked_at + 1) % LIMIT_TRANSFER_WINDOW;
        r->parked_count--;
        free_want(r, w);
        GW_TRY(look_at(r, w, index, &e));
    }
    return GW_OK;
}

static gw_err take_entry(struct receiver *r, struct record *rec)
{
    uint64_t index;
    if (rec->count < 2 || mp_read_uint(&rec->fields, &index) != GW_OK) {
        return wrong(r, rec, "that does not parse");
    }
    struct want *w = want_at(r, index);
    if (w->state != WANT_FREE ||
        r->bytes > LIMIT_TRANSFER_WINDOW_BYTES + LIMIT_RECORD_CONTROL_BYTES) {
        return wrong(r, rec, "while as many entries wait as may");
    }
    GW_AUTO(entry_clear) struct file_entry e = {0};
    struct gw_error why = {0};
    gw_err err = entry_parse(&rec->fields, &e, &why);
    if (err == GW_EPROTO || err == GW_ENOMEM) {
        return gw_fail(r->why, err, "an entry of the sender: %s", why.text);
    }
    if (err != GW_OK) {
        return say_failed(r, index, err, &why);
    }
    bool large = e.type == ENTRY_FILE && e.size > SINK_SMALL_BYTES;
    if (large && (r->large >= LIMIT_TRANSFER_OPEN || r->parked_count > 0)) {
        park(r, w, index, &e);
        return GW_OK;
    }
    return look_at(r, w, index, &e);
}

/* --- content --- */
/* The wanted file of the index that comes next; NULL: there is none. */
static struct want *take_index(struct receiver *r, struct record *rec)
{
    uint64_t index;
    if (rec->count < 1 || mp_read_uint(&rec->fields, &index) != GW_OK) {
        return NULL;
    }
    struct want *w = want_at(r, index);
    return w->state == WANT_WANTED && w->index == index ? w : NULL;
}

static gw_err take_list(struct receiver *r, struct record *rec)
{
    struct want *w = take_index(r, rec);
    return w ? list(r, w) : wrong(r, rec, "of an entry that is not wanted");
}

static gw_err take_start(struct receiver *r, struct record *rec)
{
    struct want *w = take_index(r, rec);
    if (!w || r->present || r->skipping || (r->flags & OPEN_DRY_RUN)) {
        return wrong(r, rec, "of an entry that is not wanted, or before the end of another");
    }
    r->present = w;
    incoming_start(&r->in, w->file, w->size);
    return GW_OK;
}

/* The present file cannot be made: say so, and forget what still comes of it. */
static gw_err fail_present(struct receiver *r, gw_err code, incoming_fault fault,
                           const struct gw_error *why, bool ended)
{
    struct want *w = r->present;
    r->present = NULL;
    r->skipping = !ended;
    r->skipped = w->index;
    sink_abort(w->file, fault == FAULT_FILE);
    w->file = NULL;
    GW_TRY(say_failed(r, w->index, code, why));
    free_want(r, w);
    return unpark(r);
}

static gw_err end_present(struct receiver *r, bool same)
{
    struct want *w = r->present;
    struct sink_file *f = w->file;
    struct gw_error why = {0};
    uint64_t index = w->index, size = w->size;
    r->present = NULL;
    w->file = NULL;
    set_state(r, w, WANT_PLACING);
    gw_err err = same ? sink_same(f, &why) : sink_commit(f, size, index, &why);
    GW_TRY(placed(r));
    if (err != GW_OK && w->state == WANT_PLACING && w->index == index) {
        free_want(r, w);
        if (is_for_all(err)) {
            return gw_fail(r->why, err, "%s", why.text);
        }
        GW_TRY(say_failed(r, index, err, &why));
    } else if (same) {
        free_want(r, w);
        count_file(r, size);
        GW_TRY(say_verdict(r, index, VERDICT_SAME, false));
    }
    return unpark(r);
}

static bool is_last(const struct record *rec)
{
    struct record_data data;
    return rec->kind == RECORD_DATA && record_parse_data(rec, &data) == GW_OK &&
           (data.flags & RECORD_LAST);
}

static gw_err take_content(struct receiver *r, struct record *rec)
{
    if (r->skipping) {
        r->skipping = !is_last(rec);
        return GW_OK;
    }
    if (!r->present) {
        return wrong(r, rec, "without the start of a file");
    }
    struct gw_error why = {0};
    bool done = false, same = false;
    incoming_fault fault = FAULT_SESSION;
    uint64_t at = r->in.at, received = r->in.received;
    gw_err err = rec->kind == RECORD_DATA   ? incoming_data(&r->in, rec, &done, &same, &fault, &why)
                 : rec->kind == RECORD_COPY ? incoming_copy(&r->in, rec, &fault, &why)
                                            : incoming_hole(&r->in, rec, &fault, &why);
    if (err == GW_OK) {
        uint64_t bytes = r->in.at - at, came = r->in.received - received;
        count_bytes(r, bytes, bytes > came ? bytes - came : 0);
        return done ? end_present(r, same) : GW_OK;
    }
    if (fault == FAULT_SESSION) {
        *r->why = why.code != GW_OK ? why : *r->why;
        return err;
    }
    return fail_present(r, err, fault, &why, is_last(rec));
}

static gw_err take_give_up(struct receiver *r, struct record *rec)
{
    struct record copy = *rec;
    struct want *w = take_index(r, rec);
    uint64_t index;
    if (!w) {
        if (r->skipping && mp_read_uint(&copy.fields, &index) == GW_OK && index == r->skipped) {
            r->skipping = false;
            return GW_OK;
        }
        return wrong(r, rec, "of an entry that is not wanted");
    }
    if (r->present && r->present != w) {
        return wrong(r, rec, "of another entry than the present one");
    }
    r->present = NULL;
    sink_abort(w->file, true);
    free_want(r, w);
    return unpark(r);
}

/* --- the session --- */
static gw_err flush(struct receiver *r)
{
    struct gw_error why = {0};
    gw_err err = sink_flush(r->sink, &why);
    GW_TRY(placed(r));
    /* Of each file that failed alone the sender knows. */
    return err == GW_EIO ? gw_fail(r->why, err, "%s", why.text) : GW_OK;
}

static gw_err take_finish(struct receiver *r, struct record *rec)
{
    if (r->present || r->skipping || r->parked_count > 0) {
        return wrong(r, rec, "before the end of a file");
    }
    for (size_t i = 0; i < LIMIT_TRANSFER_WINDOW; i++) {
        if (r->wants[i].state == WANT_WANTED) {
            return wrong(r, rec, "while a file is wanted");
        }
    }
    GW_TRY(flush(r));
    GW_TRY(sink_finish(r->sink, r->why));
    struct buf *b = record_begin(&r->records, RECORD_FINISHED, 2);
    mp_uint(b, r->files);
    mp_uint(b, r->made);
    r->finished = true;
    GW_TRY(record_end(&r->records));
    return record_flush(&r->records);
}

static gw_err take(struct receiver *r, struct record *rec)
{
    switch (rec->kind) {
    case RECORD_ENTRY: return take_entry(r, rec);
    case RECORD_LIST: return take_list(r, rec);
    case RECORD_START: return take_start(r, rec);
    case RECORD_DATA:
    case RECORD_COPY:
    case RECORD_HOLE: return take_content(r, rec);
    case RECORD_GIVE_UP: return take_give_up(r, rec);
    case RECORD_FLUSH: return flush(r);
    case RECORD_FINISH: return take_finish(r, rec);
    default: return wrong(r, rec, "which a sender does not say, or not then");
    }
}

/* What OPEN says, borrowed from the record. */
struct opening {
    struct span dst;
    gw_id ticket, agent;
    bool staged;
    uint32_t placing;
};

static gw_err parse_open(struct receiver *r, struct record *rec, struct opening *ret)
{
    uint32_t version;
    size_t n;
    if (rec->kind != RECORD_OPEN || rec->count < 1 ||
        mp_read_u32(&rec->fields, &version) != GW_OK) {
        return wrong(r, rec, "first, or one that does not parse");
    }
    if (version != RECORD_VERSION) {
        return gw_fail(r->why, GW_ENOT_SUPPORTED, "file sessions of version %u are not known here",
                       version);
    }
    struct mp *m = &rec->fields;
    bool good = rec->count >= 5 && mp_read_u32(m, &r->flags) == GW_OK && !(r->flags & ~OPEN_ALL);
    if (good && mp_peek(m) == MP_NIL) {
        ret->staged = true;
        good = mp_read_nil(m) == GW_OK && mp_read_array(m, &n) == GW_OK && n == 2 &&
               mp_read_id(m, &ret->ticket) == GW_OK && mp_read_id(m, &ret->agent) == GW_OK;
    } else if (good) {
        good = mp_read_bin(m, &ret->dst) == GW_OK && mp_read_nil(m) == GW_OK;
    }
    good = good && mp_read_u32(m, &ret->placing) == GW_OK && ret->placing <= SINK_AS;
    return good ? GW_OK : wrong(r, rec, "that does not parse");
}

static gw_err open_sink(struct receiver *r, const struct opening *o)
{
    struct sink_options options = {
        .overwrite = r->flags & OPEN_OVERWRITE,
        .update = r->flags & OPEN_UPDATE,
        .verify = r->flags & OPEN_VERIFY,
        .dry_run = r->flags & OPEN_DRY_RUN,
        .placing = (sink_placing)o->placing,
        .quota_bytes = r->config->quota_bytes,
        .on_placed = on_placed,
        .ctx = r,
        .busy = {.tick = on_busy, .arg = r},
    };
    if (o->staged) {
        int dirfd;
        if (!r->config->stage) {
            return gw_fail(r->why, GW_EDENIED, "this host takes no registered files");
        }
        GW_TRY(r->config->stage(r->config->arg, &o->ticket, &o->agent, &dirfd, r->why));
        return sink_open_dir(dirfd, &options, r->config->parts, &r->sink, r->why);
    }
    char dst[4097];
    if (!r->config->roots) {
        return gw_fail(r->why, GW_EDENIED, "this host takes registered files only");
    }
    if (!span_text(o->dst, dst, sizeof dst) || dst[0] == '\0') {
        return gw_fail(r->why, GW_EARG, "the destination is empty, too long, or no path");
    }
    return sink_open(r->config->roots, dst, r->flags & OPEN_ONE_SOURCE, &options, r->config->parts,
                     &r->sink, r->why);
}

static gw_err open_session(struct receiver *r)
{
    struct record rec;
    struct opening o = {0};
    GW_TRY(record_next(&r->records, &rec));
    GW_TRY(parse_open(r, &rec, &o));
    GW_TRY(open_sink(r, &o));
    const char *path = sink_path(r->sink);
    struct buf *b = record_begin(&r->records, RECORD_OPENED, 3);
    mp_uint(b, RECORD_VERSION);
    mp_uint(b, sink_place(r->sink));
    mp_bin(b, path, strlen(path));
    return record_end(&r->records);
}

static gw_err run(struct receiver *r)
{
    GW_TRY(open_session(r));
    while (!r->finished) {
        struct record rec;
        GW_TRY(record_next(&r->records, &rec));
        GW_TRY(take(r, &rec));
    }
    return GW_OK;
}

/* Before the last words: who hears them may try again at once. What is whole, and waited only for
 * others to be flushed with it, gets its name: nobody has to send it again. */
static void let_go(struct receiver *r)
{
    for (size_t i = 0; r->wants && i < LIMIT_TRANSFER_WINDOW; i++) {
        if (r->wants[i].file) {
            sink_abort(r->wants[i].file, true);
            r->wants[i].file = NULL;
        }
    }
    if (r->sink && !r->finished) {
        gw_err each_is_told_of = sink_flush(r->sink, NULL);
        (void)each_is_told_of;
    }
    sink_close(r->sink);
    r->sink = NULL;
}

static void tear_down(struct receiver *r)
{
    for (size_t i = 0; r->wants && i < LIMIT_TRANSFER_WINDOW; i++) {
        entry_clear(&r->wants[i].entry);
    }
    free(r->wants);
    buf_free(&r->chunks);
    incoming_deinit(&r->in);
    record_deinit(&r->records);
}

gw_err receive_files(struct bulk_io *io, const struct receive_config *config,
                     struct progress *progress, struct gw_error *why)
{
    struct gw_error own = {0};
    struct receiver *r = calloc(1, sizeof *r);
    if (!r) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *r = (struct receiver){.config = config, .progress = progress, .why = why ? why : &own};
    *r->why = (struct gw_error){0};
    r->wants = calloc(LIMIT_TRANSFER_WINDOW, sizeof *r->wants);
    gw_err err = record_init(&r->records, io, true, progress, r->why);
    r->records.silence_ms = config->silence_ms ? config->silence_ms : r->records.silence_ms;
    if (err == GW_OK) {
        err = incoming_init(&r->in, &r->records, r->why);
    }
    if (err == GW_OK && !r->wants) {
        err = gw_fail(r->why, GW_ENOMEM, "out of memory");
    }
    if (err == GW_OK) {
        err = run(r);
    }
    let_go(r);
    if (err != GW_OK && r->records.in) {
        record_farewell(&r->records, err, r->why);
    }
    tear_down(r);
    free(r);
    return err;
}

#include "host/files/send.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/files/names.h"
#include "host/files/record.h"
#include "host/files/send_file.h"
#include "host/files/send_move.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

/* An entry in the window:
 *
 *   FREE → TOLD → ENDED                                   nothing to send: there already, a folder
 *            └──→ READY → SENDING → SENT → ENDED          placed, or failed
 *            ↑               │        └──→ AGAIN ┐        does not verify
 *            └───────────────┴───────────────────┘        changed meanwhile: once more, as it is
 * now
 *
 * The window is a ring by index; it moves on when its oldest entry has ended, so that the hash over
 * all of them is made in walk order. */
typedef enum slot_state {
    SLOT_FREE,
    SLOT_TOLD,
    SLOT_READY,
    SLOT_SENDING,
    SLOT_SENT,
    SLOT_AGAIN,
    SLOT_ENDED,
} slot_state;

struct slot {
    slot_state state;
    uint64_t index;
    struct file_entry entry;  /* owned */
    unsigned tries;           /* that were made */
    bool plain;               /* do not build upon what the receiver has: that went wrong */
    bool has_basis;           /* it has something */
    bool unasked;             /* its chunks come without LIST */
    bool listed;              /* they have all come */
    struct delta_index basis; /* of a file that is ready; owned */
    bool hashed;              /* its content is known: */
    uint8_t hash[DIGEST_BYTES];
    struct gw_error refused; /* by the receiver, since it is being sent; code GW_OK: not */
};

struct sender {
    struct source *source;
    const struct send_options *o;
    struct progress *progress;
    struct send_result *result;
    struct gw_error *why;
    struct record_io records;
    struct content content;
    struct slot *slots;  /* LIMIT_TRANSFER_WINDOW */
    uint64_t tail, head; /* indexes of the window */
    size_t window_bytes;
    uint64_t ready[LIMIT_TRANSFER_WINDOW]; /* indexes in READY and AGAIN, a ring */
    size_t ready_at, ready_count;
    size_t told, unplaced; /* slots in TOLD; in SENT */
    struct slot *sending;
    uint64_t files, bytes; /* that were told */
    bool opened, source_ended, counted, flushing;
    bool finishing, finished; /* FINISH is sent, FINISHED has come */
    struct digest all;        /* over the entries in order */
    bool hashed;              /* so far */
    uint8_t only[DIGEST_BYTES];
    bool only_file;
    gw_err passed; /* why a walk was called off by on_step */
    struct moved moved;
};

/* Of one turn: what is told goes out while the rest is looked for. */
#define TELL_AT_ONCE  128
#define COUNT_AT_ONCE 256

static struct slot *slot_at(struct sender *s, uint64_t index)
{
    return &s->slots[index % LIMIT_TRANSFER_WINDOW];
}

static gw_err no_memory(struct sender *s)
{
    return gw_fail(s->why, GW_ENOMEM, "out of memory");
}

static gw_err wrong(struct sender *s, const struct record *rec, const char *text)
{
    return gw_fail(s->why, GW_EPROTO, "the receiver sent %s %s", record_kind_name(rec->kind), text);
}

static void report(void *arg, const char *path, gw_err code, const struct gw_error *why)
{
    struct sender *s = arg;
    s->result->failed++;
    s->hashed = false;
    atomic_fetch_add(&s->progress->failed, 1);
    if (s->o->on_failed) {
        s->o->on_failed(s->o->arg, path, code, why);
    }
}

static void set_state(struct sender *s, struct slot *slot, slot_state state)
{
    s->told += (state == SLOT_TOLD) - (slot->state == SLOT_TOLD);
    s->unplaced += (state == SLOT_SENT) - (slot->state == SLOT_SENT);
    slot->state = state;
    if (state == SLOT_SENT) {
        s->flushing = false;
    }
    if (state == SLOT_TOLD || state == SLOT_ENDED) {
        delta_index_free(&slot->basis);
    }
}

/* --- the end of an entry --- */
static gw_err add_hash(struct sender *s, const struct slot *slot)
{
    const struct file_entry *e = &slot->entry;
    uint8_t hash[DIGEST_BYTES] = {0}, type = (uint8_t)e->type;
    if (e->type == ENTRY_FILE) {
        s->hashed &= slot->hashed;
        memcpy(hash, slot->hash, sizeof hash);
    } else if (e->type == ENTRY_LINK) {
        digest_restart(&s->content.chunk);
        digest_add(&s->content.chunk, e->target, strlen(e->target));
        if (digest_end(&s->content.chunk, hash) != GW_OK) {
            return no_memory(s);
        }
    }
    s->only_file = slot->index == 0 && e->type == ENTRY_FILE;
    memcpy(s->only, hash, sizeof hash);
    digest_add(&s->all, &type, 1);
    digest_add(&s->all, e->path, strlen(e->path) + 1);
    digest_add(&s->all, hash, sizeof hash);
    return GW_OK;
}

static size_t entry_bytes(const struct file_entry *e)
{
    return strlen(e->path) + (e->target ? strlen(e->target) : 0);
}

/* Move the window on. */
static gw_err advance(struct sender *s)
{
    while (s->tail < s->head && slot_at(s, s->tail)->state == SLOT_ENDED) {
        struct slot *slot = slot_at(s, s->tail);
        GW_TRY(add_hash(s, slot));
        s->window_bytes -= entry_bytes(&slot->entry);
        entry_clear(&slot->entry);
        *slot = (struct slot){0};
        s->tail++;
    }
    return GW_OK;
}

static gw_err end_slot(struct sender *s, struct slot *slot, bool is_there)
{
    const struct file_entry *e = &slot->entry;
    set_state(s, slot, SLOT_ENDED);
    if (e->type == ENTRY_FILE) {
        atomic_fetch_add(&s->progress->files, 1);
        s->result->files += is_there;
        s->result->bytes += is_there ? e->size : 0;
    }
    if (is_there && s->o->move && !s->o->dry_run && e->type != ENTRY_FOLDER) {
        GW_TRY(moved_add(&s->moved, e, s->why));
    }
    return advance(s);
}

static gw_err fail_slot(struct sender *s, struct slot *slot, gw_err code,
                        const struct gw_error *why)
{
    report(s, slot->entry.path, code, why);
    return end_slot(s, slot, false);
}

/* --- telling entries --- */
/* The receiver hears of a walk that finds nothing for long. */
static gw_err on_step(void *arg)
{
    struct sender *s = arg;
    s->passed = s->passed == GW_OK ? record_alive(&s->records) : s->passed;
    return s->passed;
}

static gw_err tell(struct sender *s, struct slot *slot)
{
    set_state(s, slot, SLOT_TOLD);
    slot->has_basis = slot->unasked = slot->listed = slot->hashed = false;
    slot->refused = (struct gw_error){0};
    struct buf *b = record_begin(&s->records, RECORD_ENTRY, 2);
    mp_uint(b, slot->index);
    entry_pack(&slot->entry, b);
    return record_end(&s->records);
}

static bool has_room(const struct sender *s)
{
    return s->head - s->tail < LIMIT_TRANSFER_WINDOW &&
           (s->window_bytes < LIMIT_TRANSFER_WINDOW_BYTES || s->head == s->tail);
}

static gw_err tell_next(struct sender *s, bool *ret_any)
{
    const struct file_entry *e;
    struct gw_error why = {0};
    gw_err err = source_next(s->source, &e, &why);
    *ret_any = err != GW_ENOT_FOUND;
    if (err == GW_ENOT_FOUND) {
        s->source_ended = true;
        return GW_OK;
    }
    GW_TRY(s->passed);
    if (err == GW_ENOMEM || err == GW_ECANCELLED) {
        return gw_fail(s->why, err, "%s", why.text);
    }
    if (err != GW_OK) {
        report(s, source_at(s->source), err, &why);
        return record_alive(&s->records);
    }
    struct slot *slot = slot_at(s, s->head);
    gw_assert(slot->state == SLOT_FREE);
    if (entry_copy(e, &slot->entry) != GW_OK) {
        return no_memory(s);
    }
    slot->index = s->head++;
    s->window_bytes += entry_bytes(e);
    s->files += e->type == ENTRY_FILE;
    s->bytes += e->size * (e->type == ENTRY_FILE);
    return tell(s, slot);
}

/* Totals: counted ahead where there is time, at the latest known when the walk ends. */
static gw_err count_some(struct sender *s, unsigned steps)
{
    struct source_totals t = {.files = s->files, .bytes = s->bytes};
    if (!s->source_ended && !s->counted && steps > 0) {
        struct gw_error why = {0};
        gw_err err = source_totals(s->source, steps, &t, &s->counted, &why);
        GW_TRY(s->passed);
        if (err != GW_OK) {
            return gw_fail(s->why, err, "%s", why.text);
        }
    }
    if (s->source_ended || (!s->counted && t.files < s->files)) {
        t.files = s->files;
        t.bytes = s->bytes;
    }
    if (s->source_ended || steps > 0 || !s->counted) {
        atomic_store(&s->progress->files_total, t.files);
        atomic_store(&s->progress->bytes_total, t.bytes);
    }
    return GW_OK;
}

static gw_err tell_some(struct sender *s)
{
    bool any = true;
    for (int i = 0; i < TELL_AT_ONCE && any && !s->source_ended && has_room(s); i++) {
        GW_TRY(tell_next(s, &any));
    }
    return count_some(s, 0);
}

/* Once more, as it is now: it changed, or did not verify. */
static gw_err try_again(struct sender *s, struct slot *slot, const struct gw_error *why)
{
    if (++slot->tries >= LIMIT_TRANSFER_TRIES) {
        return fail_slot(s, slot, why->code, why);
    }
    struct file_entry now = {0};
    struct gw_error gone = {0};
    gw_err err = source_look(s->source, &slot->entry, &now, &gone);
    if (err != GW_OK) {
        return fail_slot(s, slot, err, &gone);
    }
    if (now.type != ENTRY_FILE) {
        entry_clear(&now);
        (void)gw_fail(&gone, GW_ECONFLICT, "it is no file any more");
        return fail_slot(s, slot, gone.code, &gone);
    }
    s->window_bytes += entry_bytes(&now);
    s->window_bytes -= entry_bytes(&slot->entry);
    entry_clear(&slot->entry);
    slot->entry = now;
    return tell(s, slot);
}

/* --- what the receiver says --- */
static gw_err take_opened(struct sender *s, struct record *rec)
{
    uint32_t version = 0, placing = 0;
    if (s->opened || rec->count < 2 || mp_read_u32(&rec->fields, &version) != GW_OK ||
        mp_read_u32(&rec->fields, &placing) != GW_OK || version != RECORD_VERSION ||
        placing > SINK_AS) {
        return wrong(s, rec, "that does not parse");
    }
    s->result->placing = (sink_placing)placing;
    s->opened = true;
    if (s->o->on_opened) {
        s->o->on_opened(s->o->arg, s->result->placing);
    }
    return GW_OK;
}

/* The slot of the index that comes next in the record; NULL: not in the window. */
static struct slot *take_index(struct sender *s, struct record *rec)
{
    uint64_t index;
    if (!s->opened || rec->count < 1 || mp_read_uint(&rec->fields, &index) != GW_OK ||
        index < s->tail || index >= s->head) {
        return NULL;
    }
    return slot_at(s, index);
}

static gw_err end_as(struct sender *s, struct slot *slot, record_verdict verdict)
{
    const struct file_entry *e = &slot->entry;
    if (slot->state == SLOT_TOLD && e->type == ENTRY_FILE) { /* not sent */
        s->content.saved += e->size;
        atomic_fetch_add(&s->progress->bytes, e->size);
        atomic_fetch_add(&s->progress->saved_bytes, e->size);
    }
    return end_slot(s, slot, verdict != VERDICT_KEPT);
}

static void make_ready(struct sender *s, struct slot *slot, slot_state state)
{
    gw_assert(s->ready_count < LIMIT_TRANSFER_WINDOW);
    set_state(s, slot, state);
    s->ready[(s->ready_at + s->ready_count++) % LIMIT_TRANSFER_WINDOW] = slot->index;
}

static gw_err take_verdict(struct sender *s, struct record *rec)
{
    struct slot *slot = take_index(s, rec);
    uint32_t verdict;
    bool unasked = false;
    if (!slot || rec->count < 2 || mp_read_u32(&rec->fields, &verdict) != GW_OK ||
        (rec->count > 2 && mp_read_bool(&rec->fields, &unasked) != GW_OK)) {
        return wrong(s, rec, "that does not parse, or for an entry that nobody told");
    }
    bool file = slot->entry.type == ENTRY_FILE;
    bool told = slot->state == SLOT_TOLD, sent = slot->state == SLOT_SENT;
    /* In SENT it is SAME when all of it was copied from the file that is there. */
    switch (verdict) {
    case VERDICT_SAME:
    case VERDICT_KEPT:
    case VERDICT_DONE:
    case VERDICT_PLACED:
        if (file ? (verdict == VERDICT_DONE || !(verdict == VERDICT_PLACED ? sent : told || sent))
                 : (verdict != VERDICT_DONE || !told)) {
            break;
        }
        return end_as(s, slot, (record_verdict)verdict);
    case VERDICT_WHOLE:
    case VERDICT_BASIS:
        if (!file || !told) {
            break;
        }
        set_state(s, slot, SLOT_READY);
        slot->has_basis = verdict == VERDICT_BASIS;
        slot->unasked = unasked;
        make_ready(s, slot, SLOT_READY);
        return GW_OK;
    default: break;
    }
    return wrong(s, rec, "that does not fit its entry");
}

static gw_err take_failed(struct sender *s, struct record *rec)
{
    struct slot *slot = take_index(s, rec);
    struct gw_error why = {0};
    if (!slot || rec->count < 4 || record_parse_failure(&rec->fields, &why) != GW_OK) {
        return wrong(s, rec, "that does not parse, or for an entry that nobody told");
    }
    switch (slot->state) {
    case SLOT_SENDING: /* its content stops at the next record */ slot->refused = why; return GW_OK;
    case SLOT_SENT:
        if (why.code == GW_ECORRUPT && !s->finishing) {
            slot->plain = true;
            slot->refused = why;
            make_ready(s, slot, SLOT_AGAIN);
            return GW_OK;
        }
        return fail_slot(s, slot, why.code, &why);
    case SLOT_TOLD: return fail_slot(s, slot, why.code, &why);
    default: return wrong(s, rec, "for an entry that it had wanted, or that had ended");
    }
}

static gw_err take_basis(struct sender *s, struct record *rec)
{
    struct slot *slot = take_index(s, rec);
    uint32_t basis;
    struct span chunks;
    bool more;
    if (!slot || rec->count < 4 || mp_read_u32(&rec->fields, &basis) != GW_OK ||
        mp_read_bin(&rec->fields, &chunks) != GW_OK || mp_read_bool(&rec->fields, &more) != GW_OK) {
        return wrong(s, rec, "that does not parse, or for an entry that nobody told");
    }
    /* What was on its way when the file was given up is of no use. */
    if ((slot->state != SLOT_READY && slot->state != SLOT_SENDING) || slot->listed) {
        return GW_OK;
    }
    gw_err err = delta_index_add(&slot->basis, basis, chunks);
    if (err != GW_OK) {
        return err == GW_ENOMEM ? no_memory(s) : wrong(s, rec, "with chunks that cannot be");
    }
    slot->listed = !more;
    return GW_OK;
}

static gw_err take_finished(struct sender *s, struct record *rec)
{
    if (!s->finishing || s->unplaced > 0) {
        return wrong(s, rec, "before it was asked to finish");
    }
    s->finished = true;
    return GW_OK;
}

static gw_err take(struct sender *s, struct record *rec)
{
    switch (rec->kind) {
    case RECORD_OPENED: return take_opened(s, rec);
    case RECORD_VERDICT: return take_verdict(s, rec);
    case RECORD_FAILED: return take_failed(s, rec);
    case RECORD_BASIS: return take_basis(s, rec);
    case RECORD_FINISHED: return take_finished(s, rec);
    default: return wrong(s, rec, "which a receiver does not say");
    }
}

/* Everything that has come. Writes nothing: it is called while a write waits. */
static gw_err take_all(void *arg)
{
    struct sender *s = arg;
    for (;;) {
        struct record rec;
        gw_err err = record_take(&s->records, &rec);
        if (err != GW_OK) {
            return err == GW_EAGAIN ? GW_OK : err;
        }
        GW_TRY(take(s, &rec));
    }
}

static gw_err wait_more(struct sender *s)
{
    struct record rec;
    GW_TRY(record_next(&s->records, &rec));
    GW_TRY(take(s, &rec));
    return take_all(s);
}

static gw_err say(struct sender *s, record_kind kind)
{
    (void)record_begin(&s->records, kind, 0);
    return record_end(&s->records);
}

static gw_err say_index(struct sender *s, record_kind kind, const struct slot *slot)
{
    mp_uint(record_begin(&s->records, kind, 1), slot->index);
    return record_end(&s->records);
}

/* --- content --- */
/* Between the records of a file: has the receiver enough of it? */
static gw_err on_pass(void *arg)
{
    struct sender *s = arg;
    if (s->o->dry_run) {
        GW_TRY(record_alive(&s->records));
    }
    return s->sending->refused.code != GW_OK ? GW_EREFUSED : GW_OK;
}

/* More chunks of what the receiver has, or that these were all. */
static gw_err more_basis(void *arg, bool *ret_whole)
{
    struct sender *s = arg;
    struct slot *slot = s->sending;
    size_t had = slot->basis.count;
    while (slot->basis.count == had && !slot->listed && slot->refused.code == GW_OK) {
        GW_TRY(wait_more(s));
    }
    *ret_whole = slot->listed;
    return slot->refused.code != GW_OK ? GW_EREFUSED : GW_OK;
}

static gw_err send_content(struct sender *s, struct slot *slot, bool *ret_bad, struct gw_error *bad)
{
    struct content_of f = {.entry = &slot->entry, .fd = -1, .more = more_basis, .arg = s};
    *ret_bad = true;
    GW_TRY(source_file(s->source, &slot->entry, &f.fd, bad));
    *ret_bad = false;
    if (slot->has_basis && !slot->plain) {
        f.basis = &slot->basis;
    }
    gw_err err = GW_OK;
    if (f.basis && !slot->unasked) {
        err = say_index(s, RECORD_LIST, slot);
    }
    if (err == GW_OK && !s->o->dry_run) {
        err = say_index(s, RECORD_START, slot);
    }
    if (err == GW_OK) {
        err = content_send(&s->content, &f, slot->hash, bad);
    }
    close(f.fd);
    slot->hashed = err == GW_OK;
    *ret_bad = f.bad;
    return err;
}

/* What was counted for a file that is sent again, or not at all, does not count. */
static void uncount(struct sender *s, uint64_t sent, uint64_t saved)
{
    uint64_t more_sent = s->content.sent - sent, more_saved = s->content.saved - saved;
    atomic_fetch_sub(&s->progress->bytes, more_sent + more_saved);
    atomic_fetch_sub(&s->progress->saved_bytes, more_saved);
    s->content.saved = saved;
}

static gw_err send_file(struct sender *s, struct slot *slot)
{
    uint64_t sent = s->content.sent, saved = s->content.saved;
    bool is_bad;
    struct gw_error bad = {0};
    set_state(s, slot, SLOT_SENDING);
    s->sending = slot;
    progress_set_path(s->progress, slot->entry.path);
    gw_err err = send_content(s, slot, &is_bad, &bad);
    s->sending = NULL;
    if (err == GW_OK && !s->o->dry_run && slot->refused.code == GW_OK) {
        set_state(s, slot, SLOT_SENT);
        return GW_OK;
    }
    if (err != GW_OK && !is_bad && slot->refused.code == GW_OK) {
        if (bad.code != GW_OK && s->why && s->why->code == GW_OK) {
            *s->why = bad;
        }
        return err;
    }
    if (err != GW_OK || s->o->dry_run) { /* else the receiver has seen its end already */
        GW_TRY(say_index(s, RECORD_GIVE_UP, slot));
    }
    if (err == GW_OK && slot->refused.code == GW_OK) {
        slot->hashed = false;
        if (s->o->on_planned) {
            s->o->on_planned(s->o->arg, &slot->entry, s->content.sent - sent);
        }
        return end_slot(s, slot, true);
    }
    uncount(s, sent, saved);
    const struct gw_error *why = slot->refused.code != GW_OK ? &slot->refused : &bad;
    bool again = why->code == GW_ECORRUPT || (is_bad && why->code == GW_ECONFLICT);
    slot->plain |= why->code == GW_ECORRUPT;
    return again ? try_again(s, slot, why) : fail_slot(s, slot, why->code, why);
}

static gw_err send_ready(struct sender *s)
{
    while (s->ready_count > 0) {
        struct slot *slot = slot_at(s, s->ready[s->ready_at]);
        s->ready_at = (s->ready_at + 1) % LIMIT_TRANSFER_WINDOW;
        s->ready_count--;
        if (slot->state == SLOT_AGAIN) {
            struct gw_error why = slot->refused;
            GW_TRY(try_again(s, slot, &why));
        } else {
            GW_TRY(send_file(s, slot));
        }
    }
    return GW_OK;
}

/* --- the session --- */
static gw_err open_session(struct sender *s, bool one_source)
{
    const struct send_options *o = s->o;
    struct buf *b = record_begin(&s->records, RECORD_OPEN, 5);
    mp_uint(b, RECORD_VERSION);
    mp_uint(b, (one_source ? OPEN_ONE_SOURCE : 0u) | (o->overwrite ? OPEN_OVERWRITE : 0u) |
                   (o->update ? OPEN_UPDATE : 0u) | (o->verify || o->move ? OPEN_VERIFY : 0u) |
                   (o->dry_run ? OPEN_DRY_RUN : 0u));
    if (o->dst) {
        mp_bin(b, o->dst, strlen(o->dst));
        mp_nil(b);
    } else {
        mp_nil(b);
        mp_array(b, 2);
        mp_id(b, o->ticket);
        mp_id(b, o->agent);
    }
    mp_uint(b, o->placing);
    GW_TRY(record_end(&s->records));
    while (!s->opened) {
        GW_TRY(wait_more(s));
    }
    return GW_OK;
}

/* Nothing to send now: count ahead, have the receiver place what it holds back, wait. */
static gw_err idle(struct sender *s)
{
    if (!s->counted && !s->source_ended) {
        GW_TRY(count_some(s, COUNT_AT_ONCE));
        GW_TRY(record_flush(&s->records));
        return record_poll(&s->records);
    }
    if (s->told == 0 && s->unplaced > 0 && !s->flushing && (s->source_ended || !has_room(s))) {
        s->flushing = true;
        GW_TRY(say(s, RECORD_FLUSH));
    }
    return wait_more(s);
}

static gw_err run(struct sender *s, bool one_source)
{
    GW_TRY(open_session(s, one_source));
    while (!s->source_ended || s->head > s->tail) {
        GW_TRY(tell_some(s));
        GW_TRY(send_ready(s));
        if (s->ready_count == 0 && s->head > s->tail && (s->source_ended || !has_room(s))) {
            GW_TRY(idle(s));
        } else if (s->head > s->tail) {
            GW_TRY(record_poll(&s->records));
        }
    }
    GW_TRY(count_some(s, 0));
    s->finishing = true;
    GW_TRY(say(s, RECORD_FINISH));
    while (!s->finished) {
        GW_TRY(wait_more(s));
    }
    return GW_OK;
}

static gw_err set_up(struct sender *s, struct bulk_io *io)
{
    GW_TRY(record_init(&s->records, io, false, s->progress, s->why));
    s->records.silence_ms = s->o->silence_ms ? s->o->silence_ms : s->records.silence_ms;
    s->records.on_input = take_all;
    s->records.arg = s;
    rate_init(&s->records.limit, s->o->limit, rate_now_ns());
    s->content = (struct content){.records = &s->records,
                                  .progress = s->progress,
                                  .compress = s->o->compress,
                                  .dry_run = s->o->dry_run,
                                  .on_pass = on_pass,
                                  .arg = s};
    GW_TRY(content_init(&s->content, s->why));
    s->slots = calloc(LIMIT_TRANSFER_WINDOW, sizeof *s->slots);
    return s->slots && digest_init(&s->all) == GW_OK ? GW_OK : no_memory(s);
}

static void tear_down(struct sender *s)
{
    for (size_t i = 0; s->slots && i < LIMIT_TRANSFER_WINDOW; i++) {
        entry_clear(&s->slots[i].entry);
        delta_index_free(&s->slots[i].basis);
    }
    free(s->slots);
    digest_deinit(&s->all);
    moved_free(&s->moved);
    content_deinit(&s->content);
    record_deinit(&s->records);
}

/* SHA-256 of the one file, or of all entries. */
static gw_err make_hash(struct sender *s)
{
    struct send_result *ret = s->result;
    if (!s->hashed || s->o->dry_run || s->head == 0) {
        return GW_OK;
    }
    if (s->head == 1 && s->only_file) {
        memcpy(ret->hash, s->only, sizeof ret->hash);
    } else if (digest_end(&s->all, ret->hash) != GW_OK) {
        return no_memory(s);
    }
    ret->hashed = true;
    return GW_OK;
}

gw_err send_files(struct bulk_io *io, struct source *source, const struct send_options *o,
                  struct progress *progress, struct send_result *ret, struct gw_error *why)
{
    struct gw_error own = {0};
    struct sender *s = calloc(1, sizeof *s);
    *ret = (struct send_result){.placing = o->placing};
    if (!s) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *s = (struct sender){.source = source,
                         .o = o,
                         .progress = progress,
                         .result = ret,
                         .why = why ? why : &own,
                         .hashed = true};
    *s->why = (struct gw_error){0};
    gw_err err = set_up(s, io);
    if (err == GW_OK) {
        source_set_pass(source, on_step, s);
        err = run(s, source_count(source) == 1);
        source_set_pass(source, NULL, NULL);
        if (err != GW_OK) {
            record_farewell(&s->records, err, s->why);
        }
    }
    if (err == GW_OK) {
        err = make_hash(s);
    }
    if (err == GW_OK && o->move && !o->dry_run) {
        err = moved_remove(&s->moved, source, report, s, &ret->removed, s->why);
    }
    ret->sent_bytes = s->content.sent;
    ret->saved_bytes = s->content.saved;
    tear_down(s);
    free(s);
    return err;
}

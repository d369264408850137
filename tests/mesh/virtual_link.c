/* Links of the virtual mesh: one a pair of hosts, ordered, with delay; each end learns of up and
 * down at its own time.
 *
 *     down --dial (both run, ready or not; not apart)--> up --cut--> down, dialled again after a
 * back-off
 *
 * What is in flight when a link ends is lost; what an end sends before it has learned of it, too. A
 * new link may come up while an end still believes in the old one: that end is told down first. */
#include "tests/mesh/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "protocol/base/log.h"
#include "protocol/value.h"

/* When an end gives up a link on which it hears nothing (host/net/link.c). */
#define SILENCE_LEAST_US 30000000LL
#define SILENCE_MOST_US  45000000LL

struct flight { /* a frame under way, or news for one end */
    struct vlink *link;
    uint64_t incarnation;
    int end;    /* the receiver */
    bool stray; /* delivered whatever the link's incarnation */
    struct buf bytes;
};

static struct flight *flight_new(struct vlink *l, int end)
{
    struct flight *f = xcalloc(1, sizeof *f);
    f->link = l;
    f->incarnation = l->incarnation;
    f->end = end;
    return f;
}

static void flight_free(void *arg)
{
    struct flight *f = arg;
    buf_free(&f->bytes);
    free(f);
}

struct vlink *vlink_of(struct mesh *m, size_t a, size_t b)
{
    gw_assert(a != b && a < m->host_count && b < m->host_count);
    return a < b ? &m->links[a][b] : &m->links[b][a];
}

void vlink_init(struct mesh *m)
{
    for (size_t i = 0; i < m->host_count; i++) {
        for (size_t j = i + 1; j < m->host_count; j++) {
            struct vlink *l = &m->links[i][j];
            l->mesh = m;
            l->ends[0] = &m->hosts[i];
            l->ends[1] = &m->hosts[j];
            l->delay_us = mesh_between(m, 60, 600);
        }
    }
}

/* --- up and down --- */
static void dial(void *arg);

static void dial_later(struct vlink *l, int64_t low_us, int64_t high_us)
{
    if (l->dialling || l->mesh->ending) {
        return;
    }
    l->dialling = true;
    int64_t at = l->mesh->now_us + mesh_between(l->mesh, low_us, high_us);
    mesh_push(l->mesh, NULL, at > l->hold_until_us ? at : l->hold_until_us, dial, NULL, l);
}

static void end_down(struct vlink *l, int end)
{
    if (l->told[end]) {
        l->told[end] = false;
        node_peer_down(l->ends[end]->node, &l->ends[!end]->id);
    }
}

static void tell_up(void *arg)
{
    struct flight *f = arg;
    struct vlink *l = f->link;
    if (l->incarnation == f->incarnation && l->up) {
        end_down(l, f->end);
        l->told[f->end] = true;
        node_peer_up(l->ends[f->end]->node, &l->ends[!f->end]->id);
    }
    flight_free(f);
}

static void tell_down(void *arg)
{
    struct flight *f = arg;
    if (f->link->incarnation == f->incarnation) {
        end_down(f->link, f->end);
    }
    flight_free(f);
}

static bool can_dial(const struct vlink *l)
{
    return l->wanted && !l->apart && !l->up && l->ends[0]->node && l->ends[1]->node &&
           !l->ends[0]->dying && !l->ends[1]->dying;
}

static int64_t later_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Until when one end stands still, or does not hear the other. */
static int64_t blocked_until(const struct vlink *l)
{
    return later_of(later_of(l->mute_until_us[0], l->mute_until_us[1]),
                    later_of(l->ends[0]->stands_until_us, l->ends[1]->stands_until_us));
}

static void dial(void *arg)
{
    struct vlink *l = arg;
    struct mesh *m = l->mesh;
    l->dialling = false;
    if (!can_dial(l)) {
        return; /* whatever changes that dials again */
    }
    if (blocked_until(l) > m->now_us) {
        l->hold_until_us = later_of(l->hold_until_us, blocked_until(l));
        dial_later(l, 100, 200000);
        return;
    }
    l->up = true;
    l->lingers = false;
    l->incarnation++;
    mesh_note(m, "link %s %s up", l->ends[0]->name, l->ends[1]->name);
    for (int end = 0; end < 2; end++) {
        l->last_us[end] = m->now_us + mesh_between(m, 1, l->delay_us * 2);
        mesh_push(m, l->ends[end], l->last_us[end], tell_up, flight_free, flight_new(l, end));
    }
}

void vlink_want(struct vlink *l)
{
    l->wanted = true;
    if (can_dial(l)) {
        dial_later(l, 100, 3000);
    }
}

/* The frames in flight notice by `up` and the incarnation. An end that lives learns of it soon, or
 * late. */
void vlink_cut(struct vlink *l)
{
    struct mesh *m = l->mesh;
    if (!l->up) {
        return;
    }
    mesh_note(m, "link %s %s cut", l->ends[0]->name, l->ends[1]->name);
    mesh_figure_add(FIGURE_CUT);
    l->up = false;
    l->lingers = m->lingers && mesh_random(m, 2);
    for (int end = 0; end < 2; end++) {
        if (l->told[end] && l->ends[end]->node && !l->ends[end]->dying) {
            bool late = mesh_random(m, 8) == 0;
            int64_t after = late ? mesh_between(m, 1000000, 5000000) : mesh_between(m, 10, 20000);
            if (l->mute_until_us[end] > m->now_us) { /* it notices by itself, by the silence */
                after = mesh_between(m, 0, SILENCE_MOST_US - SILENCE_LEAST_US);
            }
            mesh_push(m, l->ends[end], m->now_us + after, tell_down, flight_free,
                      flight_new(l, end));
        }
    }
    dial_later(l, 10000, 200000);
}

void vlink_host_up(struct vhost *h)
{
    for (size_t i = 0; i < h->mesh->host_count; i++) {
        if (i != h->index) {
            vlink_want(vlink_of(h->mesh, h->index, i));
        }
    }
}

/* The dead end is told nothing. */
void vlink_host_down(struct vhost *h)
{
    for (size_t i = 0; i < h->mesh->host_count; i++) {
        if (i != h->index) {
            struct vlink *l = vlink_of(h->mesh, h->index, i);
            l->told[l->ends[1] == h] = false;
            vlink_cut(l);
        }
    }
}

void mesh_cut(struct mesh *m, size_t a, size_t b)
{
    vlink_cut(vlink_of(m, a, b));
}

void mesh_part(struct mesh *m, size_t a, size_t b, bool apart)
{
    struct vlink *l = vlink_of(m, a, b);
    l->apart = apart;
    if (apart) {
        mesh_figure_add(FIGURE_PARTED);
        vlink_cut(l);
    } else if (can_dial(l)) {
        dial_later(l, 1000, 100000);
    }
}

bool mesh_linked(const struct mesh *m, size_t a, size_t b)
{
    const struct vlink *l = a < b ? &m->links[a][b] : &m->links[b][a];
    return l->up && l->told[0] && l->told[1];
}

void mesh_set_delay(struct mesh *m, size_t a, size_t b, int64_t us)
{
    vlink_of(m, a, b)->delay_us = us;
}

/* --- silence --- */
static void give_up(void *arg)
{
    struct flight *f = arg;
    struct vlink *l = f->link;
    struct mesh *m = l->mesh;
    const struct vhost *other = l->ends[!f->end];
    bool silent = l->mute_until_us[f->end] > m->now_us || mesh_stands(other);
    if (l->up && l->incarnation == f->incarnation && silent && !mesh_stands(l->ends[f->end])) {
        mesh_note(m, "%s hears nothing of %s", l->ends[f->end]->name, other->name);
        mesh_figure_add(FIGURE_SILENT);
        vlink_cut(l);
    }
    flight_free(f);
}

/* The end hears nothing for some time: frames in flight arrive after it, then those that follow. */
static void be_silent(struct vlink *l, int end, int64_t until_us)
{
    struct mesh *m = l->mesh;
    if (l->up) {
        mesh_push(m, NULL, m->now_us + mesh_between(m, SILENCE_LEAST_US, SILENCE_MOST_US), give_up,
                  flight_free, flight_new(l, end));
        l->last_us[end] = later_of(l->last_us[end], until_us);
    }
}

void mesh_mute(struct mesh *m, size_t from, size_t to, int64_t ms)
{
    struct vlink *l = vlink_of(m, from, to);
    int end = l->ends[1] == &m->hosts[to];
    mesh_note(m, "%s does not hear %s for %lld ms", m->hosts[to].name, m->hosts[from].name,
              (long long)ms);
    mesh_figure_add(FIGURE_MUTED);
    l->mute_until_us[end] = later_of(l->mute_until_us[end], m->now_us + ms * 1000);
    be_silent(l, end, l->mute_until_us[end]);
}

void vlink_host_stands(struct vhost *h)
{
    for (size_t i = 0; i < h->mesh->host_count; i++) {
        if (i != h->index) {
            struct vlink *l = vlink_of(h->mesh, h->index, i);
            int mine = l->ends[1] == h;
            be_silent(l, !mine, h->mesh->now_us);
            l->last_us[mine] = later_of(l->last_us[mine], h->stands_until_us);
        }
    }
}

/* --- frames --- */
static void deliver(void *arg);

static void again(const struct flight *f, int64_t low_us, int64_t high_us, bool stray)
{
    struct mesh *m = f->link->mesh;
    struct flight *copy = flight_new(f->link, f->end);
    copy->stray = stray;
    buf_add(&copy->bytes, f->bytes.data, f->bytes.len);
    mesh_push(m, NULL, m->now_us + mesh_between(m, low_us, high_us), deliver, flight_free, copy);
}

static void hand_over(struct vlink *l, int end, struct span raw, bool stray)
{
    struct vhost *to = l->ends[end];
    struct frame frame;
    if (frame_take(&raw, LIMIT_MESSAGE_BYTES, &frame) != GW_OK || raw.n > 0) {
        if (stray) {
            vlink_cut(l); /* as a real link does when it reads what is no frame */
            return;
        }
        mesh_fail(l->mesh, "%s sent %s what is not one frame", l->ends[!end]->name, to->name);
    }
    if (frame.kind == FRAME_CALL || frame.kind == FRAME_CANCEL) {
        vcall_frame(to, l->ends[!end], &frame);
    } else {
        node_peer_frame(to->node, &l->ends[!end]->id, &frame);
    }
    check_host(to);
}

static mesh_fate ask_fate(struct flight *f)
{
    struct mesh *m = f->link->mesh;
    struct span raw = buf_span(&f->bytes);
    struct frame frame;
    if (f->stray || !m->on_frame || frame_take(&raw, LIMIT_MESSAGE_BYTES, &frame) != GW_OK) {
        return FATE_PASS;
    }
    return m->on_frame(m->frame_arg, f->link->ends[!f->end]->index, f->link->ends[f->end]->index,
                       &frame);
}

/* What a line of the trace says of a frame besides its kind. */
static void describe(const struct frame *frame, char *ret, size_t cap)
{
    struct mp m = frame->rest;
    gw_value args = gw_nil();
    char op[LIMIT_NAME_BYTES + 1];
    uint32_t code;
    ret[0] = 0;
    if (frame->kind == FRAME_CALL && mp_read_text(&m, op, sizeof op) == GW_OK &&
        value_unpack(&m, &args) == GW_OK) {
        const char *agent = gw_map_str(&args, "agent", "");
        (void)snprintf(ret, cap, " %s ..%s %s", op, strlen(agent) > 20 ? agent + 20 : agent,
                       gw_map_str(&args, "method", ""));
        size_t at = strlen(ret);
        int64_t seq = gw_map_int(&args, "seq", 0);
        if (seq > 0 && at < cap) {
            (void)snprintf(ret + at, cap - at, " from ..%s number %lld",
                           gw_map_str(&args, "sender", "                    ?") + 20,
                           (long long)seq);
        }
    } else if (frame->kind == FRAME_REPLY && mp_read_u32(&m, &code) == GW_OK) {
        (void)snprintf(ret, cap, " %s", gw_err_name(gw_err_from_wire(code)));
    }
    gw_value_free(&args);
}

static void note_frame(const struct flight *f, mesh_fate fate)
{
    static const char *const fates[] = {
        "",       "  LOST",       "  CUT",      "  CUT AFTER",     "  TWICE",
        "  LATE", "  CRASH FROM", "  CRASH TO", "  CRASH TO AFTER"};
    struct span raw = buf_span(&f->bytes);
    unsigned hash = (unsigned)XXH64(raw.p, raw.n, 0);
    struct frame frame;
    char what[120];
    if (frame_take(&raw, LIMIT_MESSAGE_BYTES, &frame) != GW_OK) {
        return;
    }
    describe(&frame, what, sizeof what);
    mesh_note(f->link->mesh, "%s > %s %s/%llu%s, %zu bytes %08x%s%s", f->link->ends[!f->end]->name,
              f->link->ends[f->end]->name, frame_kind_name(frame.kind),
              (unsigned long long)frame.stream, what, f->bytes.len, hash,
              f->stray ? " (stray)" : "", fates[fate]);
}

static void deliver(void *arg)
{
    struct flight *f = arg;
    struct vlink *l = f->link;
    struct mesh *m = l->mesh;
    struct vhost *to = l->ends[f->end], *from = l->ends[!f->end];
    bool current = (l->up || l->lingers) && (f->incarnation == l->incarnation || f->stray);
    if (!current || !l->told[f->end] || !to->node) {
        flight_free(f);
        return;
    }
    int64_t heard_us = later_of(l->mute_until_us[f->end], to->stands_until_us);
    if (heard_us > m->now_us) { /* numbers keep the order of what waits */
        mesh_push(m, NULL, heard_us, deliver, flight_free, f);
        return;
    }
    uint64_t life = to->life;
    mesh_fate fate = ask_fate(f);
    mesh_figure_add(l->up ? FIGURE_FRAMES : FIGURE_LINGERED);
    note_frame(f, fate);
    static const figure counted[] = {
        [FATE_LOSE] = FIGURE_LOST, [FATE_TWICE] = FIGURE_TWICE, [FATE_LATE] = FIGURE_LATE};
    if (fate == FATE_LOSE || fate == FATE_TWICE || fate == FATE_LATE) {
        mesh_figure_add(counted[fate]);
    }
    if (fate == FATE_CUT || fate == FATE_LOSE || fate == FATE_CRASH_TO) {
        if (fate == FATE_CUT) {
            vlink_cut(l);
        } else if (fate == FATE_CRASH_TO) {
            mesh_crash(m, to->index);
        }
        flight_free(f);
        return;
    }
    hand_over(l, f->end, buf_span(&f->bytes), f->stray);
    gw_assert(to->life == life);
    switch (fate) {
    case FATE_CUT_AFTER: vlink_cut(l); break;
    case FATE_TWICE: again(f, 1, 3000, true); break;
    case FATE_LATE: again(f, 500000, 20000000, true); break;
    case FATE_CRASH_FROM: mesh_crash(m, from->index); break;
    case FATE_CRASH_TO_AFTER: mesh_crash(m, to->index); break;
    default: break;
    }
    flight_free(f);
}

void vlink_send(struct vhost *from, const struct host_id *to, struct buf *frame)
{
    struct mesh *m = from->mesh;
    struct buf bytes = buf_take(frame);
    gw_assert(buf_ok(&bytes) && bytes.len > 4);
    for (size_t i = 0; i < m->host_count && !from->dying; i++) {
        struct vlink *l = i != from->index ? vlink_of(m, from->index, i) : NULL;
        if (!l || !host_id_equal(to, &m->hosts[i].id)) {
            continue;
        }
        int end = l->ends[1] == &m->hosts[i];
        if (l->up && l->told[!end]) {
            struct flight *f = flight_new(l, end);
            f->bytes = buf_take(&bytes);
            int64_t at = m->now_us + mesh_between(m, l->delay_us, l->delay_us + l->delay_us / 4);
            l->last_us[end] = at > l->last_us[end] ? at : l->last_us[end] + 1;
            mesh_push(m, NULL, l->last_us[end], deliver, flight_free, f);
        }
    }
    buf_free(&bytes);
}

void mesh_inject(struct mesh *m, size_t from, size_t to, const struct buf *frame)
{
    struct vlink *l = vlink_of(m, from, to);
    struct flight *f = flight_new(l, l->ends[1] == &m->hosts[to]);
    f->stray = true;
    buf_add(&f->bytes, frame->data, frame->len);
    mesh_push(m, NULL, m->now_us + 1, deliver, flight_free, f);
}

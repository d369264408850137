/* Two links in the name of one host: the same process that has dialled again, a process that was
 * started anew while the old link is not known to be dead, or a copy of the state directory.
 *
 *   one link --a second one--> RIVAL: its HELLO is waited for, nothing else of it is taken
 *     the same instance, or nothing to compare --> it takes the place of the first
 *     another instance: the first is asked to show that it lives (PROBE)
 *       --ALIVE--> the second is told `identity_copied` (VERDICT), and ends
 *       --silence for PROBE_MS, or its link goes--> the second takes the place
 *
 * So the one that was there first stays. ALIVE is sealed over the instance of the second: that is
 * random and of this start, so the seal shows that another process with this identity lives now,
 * and no peer can say so without one. */
#include <stdlib.h>
#include <string.h>

#include "host/core/internal.h"

#define HELLO_MS 5000
#define PROBE_MS 3000

static void forget(struct node *n, struct peer *p)
{
    n->env->timer_free(n->env->ctx, p->rival.timer);
    buf_free(&p->rival.hello);
    memset(&p->rival, 0, sizeof p->rival);
}

/* The environment brings the first link down and the second up, in a later turn. */
static void take(struct node *n, struct peer *p)
{
    n->env->timer_free(n->env->ctx, p->rival.timer);
    p->rival.timer = NULL;
    p->rival.taken = true;
    n->env->peer_rival(n->env->ctx, &p->id, true, NULL, "its other link is gone");
}

static void refuse(struct node *n, struct peer *p, struct buf *last_word, const char *reason)
{
    struct host_id id = p->id;
    forget(n, p);
    n->env->peer_rival(n->env->ctx, &id, false, last_word, reason);
}

static void late(void *arg)
{
    struct peer *p = arg;
    struct node *n = p->rival.node;
    if (p->rival.probed) {
        take(n, p);
    } else {
        refuse(n, p, NULL, "it did not say HELLO");
    }
}

static void wait_for(struct node *n, struct peer *p, int64_t ms)
{
    if (!p->rival.timer) {
        p->rival.timer = n->env->timer_new(n->env->ctx, late, p);
    }
    n->env->timer_start(n->env->ctx, p->rival.timer, ms);
}

void node_peer_rival(struct node *n, const struct host_id *id)
{
    struct peer *p = peer_intern(n, id);
    forget(n, p);
    p->rival.node = n;
    p->rival.there = true;
    wait_for(n, p, HELLO_MS);
}

void node_rival_down(struct node *n, const struct host_id *id)
{
    struct peer *p = peer_find(n, id);
    if (p) {
        forget(n, p);
    }
}

/* The instance that a HELLO names; false: it names none. */
static bool instance_of(const struct frame *f, uint8_t ret[INSTANCE_BYTES])
{
    struct mp m = f->rest;
    struct span role;
    uint32_t version;
    GW_AUTO(gw_value_free) gw_value about = gw_nil();
    if (mp_read_str(&m, &role) != GW_OK || mp_read_u32(&m, &version) != GW_OK ||
        value_unpack(&m, &about) != GW_OK) {
        return false;
    }
    const gw_value *instance = gw_map_get(&about, "instance");
    if (!instance || instance->kind != GW_BYTES || instance->s.n != INSTANCE_BYTES) {
        return false;
    }
    memcpy(ret, instance->s.p, INSTANCE_BYTES);
    return true;
}

static void probe(struct node *n, struct peer *p)
{
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_PROBE, 0, 1);
    mp_bin(&frame, p->rival.instance, INSTANCE_BYTES);
    frame_end(&frame, at);
    p->rival.probed = true;
    peer_send_frame(n, p, &frame);
    wait_for(n, p, PROBE_MS);
}

void node_rival_frame(struct node *n, const struct host_id *id, const struct frame *f)
{
    struct peer *p = peer_find(n, id);
    if (!p || !p->rival.there || p->rival.hello.len > 0 || f->kind != FRAME_HELLO) {
        return;
    }
    buf_add(&p->rival.hello, f->rest.p, (size_t)(f->rest.end - f->rest.p));
    if (!buf_ok(&p->rival.hello)) {
        refuse(n, p, NULL, "out of memory");
        return;
    }
    bool named = instance_of(f, p->rival.instance);
    bool same = memcmp(p->rival.instance, p->heard.instance, INSTANCE_BYTES) == 0;
    if (!p->hello || !named || same || p->held == HELD_STALE || p->heard.boot == 0) {
        take(n, p);
    } else {
        probe(n, p);
    }
}

void rivals_link_down(struct node *n, struct peer *p)
{
    if (p->rival.probed && !p->rival.taken) {
        take(n, p);
    }
}

void rivals_link_up(struct node *n, struct peer *p, struct buf *ret_hello)
{
    *ret_hello = p->rival.taken ? buf_take(&p->rival.hello) : (struct buf){0};
    forget(n, p);
}

void rivals_free(struct node *n)
{
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        forget(n, p);
    }
}

/* ---- frames over links that are ---- */

static void alive(struct node *n, struct peer *p, struct mp *m)
{
    struct buf frame = {0};
    struct standing s;
    uint8_t challenge[INSTANCE_BYTES];
    if (mp_read_fixed(m, challenge, sizeof challenge) != GW_OK) {
        return;
    }
    standing_alive(n, n->boot, n->standing.instance, challenge, s.seal);
    size_t at = frame_begin(&frame, FRAME_ALIVE, 0, 4);
    mp_uint(&frame, n->boot);
    mp_bin(&frame, n->standing.instance, INSTANCE_BYTES);
    mp_bin(&frame, challenge, sizeof challenge);
    mp_bin(&frame, s.seal, SEAL_BYTES);
    frame_end(&frame, at);
    peer_send_frame(n, p, &frame);
}

static void it_lives(struct node *n, struct peer *p, struct mp *m)
{
    struct standing s = {0};
    uint8_t challenge[INSTANCE_BYTES];
    if (mp_read_uint(m, &s.boot) != GW_OK ||
        mp_read_fixed(m, s.instance, INSTANCE_BYTES) != GW_OK ||
        mp_read_fixed(m, challenge, sizeof challenge) != GW_OK ||
        mp_read_fixed(m, s.seal, SEAL_BYTES) != GW_OK || !p->rival.probed || p->rival.taken ||
        memcmp(challenge, p->rival.instance, sizeof challenge) != 0) {
        return;
    }
    struct buf frame = {0};
    standing_verdict(&frame, GW_EIDENTITY_COPIED, &s);
    log_warn("peer.copied", "host=%s a second process runs under its identity: it is sent away",
             peer_label(p));
    event_now(n, &(struct event){.kind = "host.copied", .peer = p});
    refuse(n, p, &frame, "another process runs as this host");
    buf_free(&frame);
}

void rivals_frame(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp m = f->rest;
    if (f->kind == FRAME_PROBE) {
        alive(n, p, &m);
    } else {
        it_lives(n, p, &m);
    }
}

/* The invariants, looked at after every event over all hosts that live.
 *
 * I1  at most one runnable copy of an agent, at any epoch.
 * I2  what was once runnable at epoch e is never runnable below e again, on any host; and nothing
 * is runnable at or below an epoch that a host shows as departed. */
#include "tests/mesh/internal.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"

static struct known *known_of(struct mesh *m, const gw_id *agent)
{
    for (size_t i = 0; i < m->known_count; i++) {
        if (gw_id_equal(&m->known[i].agent, agent)) {
            return &m->known[i];
        }
    }
    if (m->known_count == m->known_cap) {
        m->known_cap = m->known_cap ? m->known_cap * 2 : 16;
        m->known = realloc(m->known, m->known_cap * sizeof *m->known);
        gw_assert(m->known);
    }
    m->known[m->known_count] = (struct known){.agent = *agent};
    return &m->known[m->known_count++];
}

static bool take_view(void *arg, const struct node_agent_view *view)
{
    struct vhost *h = arg;
    gw_assert(h->view_count < VIEWS_MAX);
    struct view *v = &h->views[h->view_count++];
    v->agent = view->agent;
    v->epoch = view->epoch;
    v->runnable = view->runnable;
    strncpy(v->status, view->status, sizeof v->status - 1);
    v->status[sizeof v->status - 1] = 0;
    return true;
}

static void check_view(struct vhost *h, const struct view *v)
{
    struct mesh *m = h->mesh;
    char id[GW_ID_TEXT];
    struct known *k = known_of(m, &v->agent);
    if (strcmp(v->status, "departed") == 0 && k->least < v->epoch + 1) {
        k->least = v->epoch + 1;
    }
    if (!v->runnable || k->excused) {
        return;
    }
    if (v->epoch < k->least) {
        mesh_fail(m, "I2: agent %s is runnable at %s at epoch %llu, the least allowed is %llu",
                  gw_id_text(&v->agent, id), h->name, (unsigned long long)v->epoch,
                  (unsigned long long)k->least);
    }
    k->least = v->epoch;
    for (size_t i = 0; i < m->host_count; i++) {
        for (size_t j = 0; j < m->hosts[i].view_count; j++) {
            const struct view *other = &m->hosts[i].views[j];
            if (other != v && other->runnable && gw_id_equal(&other->agent, &v->agent)) {
                mesh_fail(m, "I1: agent %s is runnable twice: at %s epoch %llu, at %s epoch %llu",
                          gw_id_text(&v->agent, id), h->name, (unsigned long long)v->epoch,
                          m->hosts[i].name, (unsigned long long)other->epoch);
            }
        }
    }
}

void check_host(struct vhost *h)
{
    h->view_count = 0;
    if (!h->node || h->dying) {
        return;
    }
    node_each_agent(h->node, take_view, h);
    for (size_t i = 0; i < h->view_count; i++) {
        check_view(h, &h->views[i]);
    }
}

void check_host_down(struct vhost *h)
{
    h->view_count = 0;
}

size_t mesh_copies(struct mesh *m, const gw_id *agent)
{
    size_t n = 0;
    for (size_t i = 0; i < m->host_count; i++) {
        for (size_t j = 0; j < m->hosts[i].view_count; j++) {
            n += gw_id_equal(&m->hosts[i].views[j].agent, agent) &&
                 strcmp(m->hosts[i].views[j].status, "quarantined") != 0;
        }
    }
    return n;
}

size_t mesh_where(struct mesh *m, const gw_id *agent, uint64_t *ret_epoch)
{
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < m->host_count; i++) {
        for (size_t j = 0; j < m->hosts[i].view_count; j++) {
            const struct view *v = &m->hosts[i].views[j];
            if (v->runnable && gw_id_equal(&v->agent, agent)) {
                if (ret_epoch) {
                    *ret_epoch = v->epoch;
                }
                return i;
            }
        }
    }
    mesh_fail(m, "agent %s is nowhere", gw_id_text(agent, id));
}

/* --- healing --- */
static bool whole(void *arg)
{
    struct mesh *m = arg;
    for (size_t i = 0; i < m->host_count; i++) {
        if (!m->hosts[i].ready || node_moves_count(m->hosts[i].node) > 0) {
            return false;
        }
        for (size_t j = 0; j < m->hosts[i].view_count; j++) {
            if (strcmp(m->hosts[i].views[j].status, "moving") == 0) {
                return false;
            }
        }
    }
    return true;
}

/* Until nobody stands still or is muted; full disks are emptied now. */
static int64_t calm_in_ms(struct mesh *m)
{
    int64_t until_us = m->now_us;
    for (size_t i = 0; i < m->host_count; i++) {
        struct vhost *h = &m->hosts[i];
        h->full_until_us = 0;
        until_us = h->stands_until_us > until_us ? h->stands_until_us : until_us;
        for (size_t j = i + 1; j < m->host_count; j++) {
            for (int end = 0; end < 2; end++) {
                int64_t mute_us = m->links[i][j].mute_until_us[end];
                until_us = mute_us > until_us ? mute_us : until_us;
            }
        }
    }
    return until_us > m->now_us ? (until_us - m->now_us) / 1000 + 1 : 0;
}

void mesh_heal(struct mesh *m)
{
    mesh_note(m, "healing");
    mesh_on_frame(m, NULL, NULL);
    mesh_on_commit(m, NULL, NULL);
    mesh_on_file(m, NULL, NULL);
    for (size_t i = 0; i < m->host_count; i++) {
        for (size_t j = i + 1; j < m->host_count; j++) {
            m->links[i][j].hold_until_us = 0;
            mesh_part(m, i, j, false);
        }
    }
    mesh_run(m, calm_in_ms(m));
    mesh_start_all(m);
    if (!mesh_run_until(m, whole, m, 300000)) {
        for (size_t i = 0; i < m->host_count; i++) {
            mesh_note(m, "%s: %zu moves", m->hosts[i].name, node_moves_count(m->hosts[i].node));
        }
        mesh_fail(m, "moves have not ended five minutes after everything was mended");
    }
    mesh_run(m, 3000);
}

void mesh_expect_whole(struct mesh *m)
{
    char id[GW_ID_TEXT];
    if (!whole(m)) {
        mesh_fail(m, "a move is still in flight");
    }
    for (size_t i = 0; i < m->known_count; i++) {
        const struct known *k = &m->known[i];
        size_t copies = mesh_copies(m, &k->agent);
        if (copies > 1 || (k->expected && copies == 0)) {
            mesh_fail(m, "agent %s: %zu copies", gw_id_text(&k->agent, id), copies);
        }
        if (k->expected) {
            (void)mesh_where(m, &k->agent, NULL);
        }
    }
}

void mesh_expect(struct mesh *m, const gw_id *agent)
{
    known_of(m, agent)->expected = true;
}

void mesh_expect_disposed(struct mesh *m, const gw_id *agent)
{
    known_of(m, agent)->expected = false;
}

void mesh_excuse(struct mesh *m, const gw_id *agent)
{
    known_of(m, agent)->excused = true;
}

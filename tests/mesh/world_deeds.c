/* What the agents of a random life are asked to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/mesh/internal.h"
#include "tests/mesh/world.h"

#define ROUNDS_MOST 60 /* of asking again after healing, each up to a minute */

size_t world_host(struct world *w)
{
    return mesh_random(w->m, w->hosts);
}

static size_t any_agent(struct world *w)
{
    return mesh_random(w->m, w->agents);
}

/* ---- deeds ---- */

static const char *method_of(deed_kind kind)
{
    static const char *const methods[DEED_KINDS] = {
        [DEED_NOTE] = "note",   [DEED_TELL] = "note",   [DEED_RELAY] = "relay",
        [DEED_WANT] = "want",   [DEED_GIVE] = "give",   [DEED_ALARM] = "alarm",
        [DEED_HUSH] = "hush",   [DEED_WATCH] = "watch", [DEED_ANNOUNCE] = "announce",
        [DEED_SPOIL] = "spoil", [DEED_CARRY] = "carry", [DEED_SHED] = "shed",
    };
    return methods[kind];
}

/* Arguments of its method; `give` and `hush` name the want, the alarm. */
static void args_of(struct world *w, const struct deed *d, char *ret, size_t cap)
{
    size_t number = (size_t)(d - w->deeds);
    switch (d->kind) {
    case DEED_RELAY:
        (void)snprintf(ret, cap, "{'to': '%s', 'number': %zu}", w->text[d->to], number);
        break;
    case DEED_WATCH:
        (void)snprintf(ret, cap, "{'agent': '%s', 'number': %zu}", w->text[WORLD_PARENT(w)],
                       number);
        break;
    case DEED_CARRY:
        (void)snprintf(ret, cap, "{'number': %zu, 'copy': %s}", number, d->to ? "true" : "false");
        break;
    case DEED_GIVE:
    case DEED_SHED:
    case DEED_HUSH: (void)snprintf(ret, cap, "{'number': %zu}", d->to); break;
    case DEED_ALARM:
        (void)snprintf(ret, cap, "{'number': %zu, 'ms': %zu}", number, 1 + number * 7919 % 20000);
        break;
    case DEED_ANNOUNCE: (void)snprintf(ret, cap, "{'topic': 'news', 'number': %zu}", number); break;
    default: (void)snprintf(ret, cap, "{'number': %zu}", number); break;
    }
}

void deed_ask(struct world *w, struct deed *d, size_t via)
{
    size_t number = (size_t)(d - w->deeds);
    via = d->fixed != NOBODY ? d->fixed : via;
    d->asked_us = d->asked_us ? d->asked_us : mesh_now_us(w->m);
    mesh_call_free(d->call);
    switch (d->kind) {
    case DEED_POST:
        d->call =
            mesh_ask(w->m, via, "publish",
                     "{'topic': 'news', 'args': {'number': %zu}, 'key': 'k%zu'}", number, number);
        break;
    case DEED_CREATE:
        d->call = mesh_ask(w->m, via, "create", "{'type': 'settler', 'at': 'h%zu', 'key': 'k%zu'}",
                           d->to, number);
        break;
    case DEED_DISPOSE:
        d->call = mesh_ask(w->m, via, "dispose", "{'agent': '%s'}", w->text[WORLD_PARENT(w)]);
        break;
    default: {
        char args[160];
        args_of(w, d, args, sizeof args);
        d->call = mesh_ask(w->m, via, "send",
                           "{'agent': '%s', 'method': '%s', 'args': %s, 'text': true, 'tell': %s, "
                           "'key': 'k%zu'}",
                           w->text[d->agent], method_of(d->kind), args,
                           d->kind == DEED_TELL ? "true" : "false", number);
    }
    }
}

static bool is_acknowledged(struct world *w, const struct deed *d)
{
    gw_err err = d->call->err;
    if (d->kind == DEED_SPOIL) {
        mesh_assert(w->m, err != GW_OK);
        return err == GW_EREFUSED;
    }
    if (d->kind == DEED_DISPOSE) {
        return err == GW_OK || err == GW_EDISPOSED;
    }
    return err == GW_OK;
}

bool deed_settle(struct world *w, struct deed *d)
{
    if (d->acked || !d->call || !d->call->done || !is_acknowledged(w, d)) {
        return d->acked;
    }
    d->acked = true;
    d->acked_us = d->call->done_us;
    if (d->kind == DEED_WANT) {
        int64_t got = gw_map_int(gw_map_get(&d->call->value, "reply"), "got", -1);
        if (got != d - w->deeds) {
            mesh_fail(w->m, "want %td is answered by %lld", d - w->deeds, (long long)got);
        }
    } else if (d->kind == DEED_CREATE) {
        mesh_assert(w->m, gw_id_parse(gw_map_str(&d->call->value, "agent", ""), &d->made) == GW_OK);
        mesh_expect(w->m, &d->made);
    }
    return true;
}

static struct deed *new_deed(struct world *w, deed_kind kind, size_t agent, size_t to)
{
    struct deed *d = &w->deeds[w->deed_count++];
    *d = (struct deed){.kind = kind, .agent = agent, .to = to, .fixed = NOBODY};
    if (kind == DEED_POST || kind == DEED_CREATE) {
        d->fixed = world_host(w);
    }
    return d;
}

static bool has_deed(const struct world *w, deed_kind kind, size_t to)
{
    for (size_t i = 0; i < w->deed_count; i++) {
        if (w->deeds[i].kind == kind && (to == NOBODY || w->deeds[i].to == to)) {
            return true;
        }
    }
    return false;
}

/* The give of a want, the hush of an alarm, of the last one that is without. */
static struct deed *answer_to(struct world *w, deed_kind kind, deed_kind of)
{
    for (size_t i = w->deed_count; i-- > 0;) {
        if (w->deeds[i].kind == of && !has_deed(w, kind, i)) {
            return new_deed(w, kind, w->deeds[i].agent, i);
        }
    }
    return NULL;
}

static deed_kind any_kind(struct world *w)
{
    static const uint8_t weights[DEED_KINDS] = {
        [DEED_NOTE] = 20,   [DEED_TELL] = 10,    [DEED_RELAY] = 22, [DEED_WANT] = 6,
        [DEED_GIVE] = 6,    [DEED_ALARM] = 6,    [DEED_HUSH] = 5,   [DEED_WATCH] = 3,
        [DEED_POST] = 3,    [DEED_ANNOUNCE] = 8, [DEED_SPOIL] = 4,  [DEED_CREATE] = 3,
        [DEED_DISPOSE] = 2, [DEED_CARRY] = 9,    [DEED_SHED] = 2,
    };
    size_t sum = 0;
    for (size_t i = 0; i < DEED_KINDS; i++) {
        sum += weights[i];
    }
    size_t dice = mesh_random(w->m, sum);
    for (size_t i = 0;; i++) {
        if (dice < weights[i]) {
            return (deed_kind)i;
        }
        dice -= weights[i];
    }
}

static struct deed *deed_new(struct world *w)
{
    deed_kind kind = any_kind(w);
    switch (kind) {
    case DEED_GIVE: return answer_to(w, kind, DEED_WANT);
    case DEED_HUSH: return answer_to(w, kind, DEED_ALARM);
    case DEED_SHED: return answer_to(w, kind, DEED_CARRY);
    case DEED_CARRY: return new_deed(w, kind, any_agent(w), mesh_random(w->m, 3) == 0);
    case DEED_RELAY: return new_deed(w, kind, any_agent(w), any_agent(w));
    case DEED_DISPOSE: return has_deed(w, kind, NOBODY) ? NULL : new_deed(w, kind, NOBODY, NOBODY);
    case DEED_CREATE:
        /* a key is kept for a day of the clock of the host that was asked */
        return world_has(w, TROUBLE_CLOCKS) ? NULL : new_deed(w, kind, NOBODY, world_host(w));
    case DEED_POST: return new_deed(w, kind, NOBODY, NOBODY);
    default: return new_deed(w, kind, any_agent(w), NOBODY);
    }
}

/* Its answer may be anything, but has to come. */
static void keep(struct world *w, struct mesh_call *call)
{
    size_t kept = 0;
    for (size_t i = 0; i < w->wish_count; i++) {
        if (w->wishes[i]->done) {
            mesh_call_free(w->wishes[i]);
        } else {
            w->wishes[kept++] = w->wishes[i];
        }
    }
    w->wish_count = kept;
    mesh_assert(w->m, kept < WORLD_WISHES);
    w->wishes[w->wish_count++] = call;
}

void deed_any(struct world *w)
{
    struct deed *d = NULL;
    if (w->deed_count > 0 && mesh_random(w->m, 4) == 0) {
        d = &w->deeds[mesh_random(w->m, w->deed_count)];
        (void)deed_settle(w, d);
    } else if (w->deed_count < WORLD_DEEDS - 16) { /* room for gives in the end */
        d = deed_new(w);
    }
    if (d) {
        deed_ask(w, d, world_host(w));
        if (d->fixed == NOBODY && mesh_random(w->m, 8) == 0) { /* twice at once, two ways */
            keep(w, d->call);
            d->call = NULL;
            deed_ask(w, d, world_host(w));
        }
    }
}

/* ---- wishes ---- */

static void wish(struct world *w, const char *agent, const char *op, const char *more)
{
    keep(w, mesh_ask(w->m, world_host(w), op, "{'agent': '%s'%s}", agent, more));
}

/* One of the agents, mostly a citizen. */
static const char *any_being(struct world *w)
{
    return w->text[mesh_random(w->m, mesh_random(w->m, 4) ? w->agents : w->agents + 2)];
}

static void wish_about_itself(struct world *w, const char *agent)
{
    char more[120];
    static const char *const methods[] = {"go", "go", "twin"};
    if (mesh_random(w->m, 3) == 0) {
        (void)snprintf(more, sizeof more, ", 'method': 'doze', 'args': {'ms': %d}",
                       mesh_random(w->m, 2) ? 0 : (int)mesh_random(w->m, 5000));
    } else {
        (void)snprintf(more, sizeof more, ", 'method': '%s', 'args': {'to': 'h%zu'}",
                       methods[mesh_random(w->m, 3)], world_host(w));
    }
    wish(w, agent, "send", more);
}

static void wish_sleep(struct world *w, const char *agent)
{
    static const char *const forms[] = {"", ", 'wake_after': 700",
                                        ", 'wake_on_message': false, 'wake_after': 3000",
                                        ", 'at_start': true"};
    if (mesh_random(w->m, 3) == 0) {
        wish(w, agent, "activate", "");
    } else {
        wish(w, agent, "deactivate", forms[mesh_random(w->m, 4)]);
    }
}

static void wish_journey(struct world *w, const char *agent)
{
    char more[160];
    (void)snprintf(more, sizeof more, ", 'stops': ['h%zu', 'h%zu'], 'home': %s", world_host(w),
                   world_host(w), mesh_random(w->m, 2) ? "true" : "false");
    wish(w, agent, "itinerary", more);
}

void wish_any(struct world *w)
{
    char more[40];
    const char *agent = any_being(w);
    uint64_t dice = mesh_random(w->m, 100);
    (void)snprintf(more, sizeof more, ", 'to': 'h%zu'", world_host(w));
    if (dice < 44) {
        wish(w, agent, "dispatch", more);
    } else if (dice < 52) {
        wish(w, agent, "retract", "");
    } else if (dice < 64) {
        wish_sleep(w, agent);
    } else if (dice < 70) {
        wish(w, agent, "clone", more);
    } else if (dice < 82) {
        wish_about_itself(w, agent);
    } else if (dice < 88) {
        keep(w, mesh_ask(w->m, world_host(w), "drain", "{'to': 'any'}"));
    } else if (dice < 94) {
        wish_journey(w, agent);
    } else {
        wish(w, agent, "show", "");
    }
}

void deeds_rush(struct world *w, size_t host)
{
    char more[40];
    (void)snprintf(more, sizeof more, ", 'to': 'h%zu'", host);
    for (size_t i = 0; i < w->agents; i++) {
        wish(w, w->text[i], "dispatch", more);
    }
    if (mesh_random(w->m, 2)) {
        keep(w, mesh_ask(w->m, world_host(w), "drain", "{'to': 'h%zu'}", host));
    }
    if (w->deed_count < WORLD_DEEDS - 16) {
        struct deed *d = new_deed(w, DEED_POST, NOBODY, NOBODY);
        d->fixed = host;
        deed_ask(w, d, host);
    }
}

/* ---- the end ---- */

static size_t ask_again(struct world *w, size_t round)
{
    size_t open = 0;
    for (size_t i = 0; i < w->deed_count; i++) {
        struct deed *d = &w->deeds[i];
        if (deed_settle(w, d)) {
            continue;
        }
        open++;
        if (!d->call || d->call->done) {
            deed_ask(w, d, (i + round) % w->hosts);
        }
    }
    return open;
}

static bool all_done(void *arg)
{
    struct world *w = arg;
    for (size_t i = 0; i < w->deed_count; i++) {
        if (w->deeds[i].call && !w->deeds[i].call->done) {
            return false;
        }
    }
    for (size_t i = 0; i < w->wish_count; i++) {
        if (!w->wishes[i]->done) {
            return false;
        }
    }
    return true;
}

/* The log of an agent, and what it owes, into the trace. */
static void tell_agent(struct world *w, size_t agent)
{
    gw_value v = gw_nil();
    if (mesh_op(w->m, 0, &v, "send", "{'agent': '%s', 'method': 'history'}", w->text[agent]) ==
        GW_OK) {
        const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
        char line[120] = "";
        for (size_t i = 0; i < log->list.n; i++) {
            (void)snprintf(line + strlen(line), sizeof line - strlen(line), " %s",
                           log->list.items[i].s.p);
            if (strlen(line) > 100 || i + 1 == log->list.n) {
                mesh_note(w->m, "agent %zu:%s", agent, line);
                line[0] = '\0';
            }
        }
    }
    gw_value_free(&v);
}

void deeds_tell(struct world *w)
{
    for (size_t i = 0; i < w->agents; i++) {
        tell_agent(w, i);
    }
    for (size_t i = 0; i < w->deed_count; i++) {
        const struct deed *d = &w->deeds[i];
        mesh_note(w->m, "deed %zu: kind %d, agent %zd, to %zd, %s", i, (int)d->kind,
                  (ssize_t)d->agent, (ssize_t)d->to, d->acked ? "acknowledged" : "open");
    }
    for (size_t i = 0; i < w->deed_count; i++) {
        const struct deed *d = &w->deeds[i];
        if (!d->acked) {
            mesh_note(w->m, "deed %zu (kind %d) is not acknowledged: %s %s", i, (int)d->kind,
                      d->call->done ? gw_err_name(d->call->err) : "open", d->call->why.text);
        }
    }
    for (size_t i = 0; i < w->wish_count; i++) {
        if (!w->wishes[i]->done) {
            mesh_note(w->m, "wish %zu is not answered", i);
        }
    }
}

void deeds_complete(struct world *w)
{
    size_t open = 1;
    while (answer_to(w, DEED_GIVE, DEED_WANT)) {
        mesh_assert(w->m, w->deed_count < WORLD_DEEDS);
    }
    for (size_t round = 0; round < ROUNDS_MOST && open > 0; round++) {
        open = ask_again(w, round);
        (void)mesh_run_until(w->m, all_done, w, 60000);
        if (open > 0) {
            mesh_run(w->m, 1000);
        }
    }
    if (open > 0 || !all_done(w)) {
        deeds_tell(w);
        mesh_fail(w->m, "%zu deeds are never acknowledged, or a call is never answered", open);
    }
}

/* After healing: what every agent's log has to say of every deed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/world.h"

#define LETTERS  "msapwgodthcx"
#define LETTER_N (sizeof LETTERS - 1)
#define HOOKS(X) X(create) X(leave) X(arrive) X(retract) X(clone) X(sleep) X(wake) X(going)

struct book { /* the log of an agent, by number */
    struct {
        size_t at; /* place in the log, from 1; 0 = never */
        size_t count;
    } lines[LETTER_N][WORLD_DEEDS];
    size_t hooks[8];
    uint64_t epoch;
};

#define fail(w, ...) (deeds_tell(w), mesh_fail((w)->m, __VA_ARGS__))

static size_t letter(char c)
{
    const char *p = c ? strchr(LETTERS, c) : NULL;
    return p ? (size_t)(p - LETTERS) : LETTER_N;
}

static bool read_hook(struct book *b, const char *line)
{
    static const char *const names[] = {
#define HOOK_NAME(name) #name,
        HOOKS(HOOK_NAME)
#undef HOOK_NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(line, names[i]) == 0) {
            b->hooks[i]++;
            return true;
        }
    }
    return false;
}

static void read_line(struct world *w, size_t agent, struct book *b, const char *line, size_t at)
{
    char *end;
    if (read_hook(b, line) || files_line(w, agent, line)) {
        return;
    }
    size_t l = letter(line[0]);
    unsigned long n = strtoul(line + 1, &end, 10);
    if (l == LETTER_N || *end || n >= w->deed_count) {
        fail(w, "agent %zu has the line \"%s\"", agent, line);
    }
    b->lines[l][n].count++;
    b->lines[l][n].at = at + 1;
}

static void read_book(struct world *w, size_t agent, struct book *b)
{
    gw_value v = gw_nil();
    gw_err err = GW_EFAIL;
    for (size_t i = 0; i < 30 && err != GW_OK; i++) {
        err = mesh_op(w->m, i % w->hosts, &v, "send", "{'agent': '%s', 'method': 'history'}",
                      w->text[agent]);
        if (err != GW_OK) {
            mesh_run(w->m, 1000);
        }
    }
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    mesh_assert(w->m, log && log->kind == GW_LIST);
    for (size_t i = 0; i < log->list.n; i++) {
        read_line(w, agent, b, log->list.items[i].s.p, i);
    }
    gw_value_free(&v);
}

/* ---- deeds ---- */

static void expect(struct world *w, const struct book *books, size_t agent, char what, size_t n,
                   size_t least, size_t most)
{
    size_t count = books[agent].lines[letter(what)][n].count;
    if (count < least || count > most) {
        fail(w, "I4: agent %zu (%s) has the line %c%zu %zu times instead of %zu", agent,
             w->text[agent], what, n, count, least);
    }
}

static bool parent_ends(const struct world *w)
{
    for (size_t i = 0; i < w->deed_count; i++) {
        if (w->deeds[i].kind == DEED_DISPOSE) {
            return true;
        }
    }
    return false;
}

/* How often each line may be there: by deed, agent and letter. */
static void expect_all_hear(struct world *w, const struct book *books, size_t n)
{
    for (size_t a = 0; a < w->agents; a++) {
        expect(w, books, a, 'p', n, w->follows[a], w->follows[a]);
    }
}

static bool is_hushed(const struct world *w, size_t alarm)
{
    for (size_t i = 0; i < w->deed_count; i++) {
        if (w->deeds[i].kind == DEED_HUSH && w->deeds[i].to == alarm) {
            return true;
        }
    }
    return false;
}

static void expect_deed(struct world *w, const struct book *books, size_t n)
{
    const struct deed *d = &w->deeds[n];
    switch (d->kind) {
    case DEED_NOTE:
    case DEED_TELL: expect(w, books, d->agent, 'm', n, 1, 1); break;
    case DEED_RELAY:
        expect(w, books, d->agent, 's', n, 1, 1);
        expect(w, books, d->to, 'm', n, 1, 1);
        break;
    case DEED_WANT: expect(w, books, d->agent, 'w', n, 1, 1); break;
    case DEED_GIVE: expect(w, books, d->agent, 'g', d->to, 1, 1); break;
    case DEED_ALARM: expect(w, books, d->agent, 't', n, !is_hushed(w, n), 1); break;
    case DEED_HUSH:
        expect(w, books, d->agent, 'h', d->to, 1, 1);
        if (books[d->agent].lines[letter('t')][d->to].at >
            books[d->agent].lines[letter('h')][d->to].at) {
            /* set again by a later request? each is made once: it was set before */
            mesh_assert(w->m, w->deeds[d->to].acked_us > d->asked_us);
        }
        break;
    case DEED_CARRY: expect(w, books, d->agent, 'c', n, 1, 1); break;
    case DEED_SHED:
        expect(w, books, d->agent, 'x', d->to, 1, 1);
        w->shed[d->to] = books[d->agent].lines[letter('x')][d->to].at >
                         books[d->agent].lines[letter('c')][d->to].at;
        break;
    case DEED_WATCH: {
        size_t downs = parent_ends(w);
        expect(w, books, d->agent, 'o', n, 1, 1);
        expect(w, books, d->agent, 'd', n, downs, downs);
        break;
    }
    case DEED_ANNOUNCE:
        expect(w, books, d->agent, 'a', n, 1, 1);
        expect_all_hear(w, books, n);
        break;
    case DEED_POST: expect_all_hear(w, books, n); break;
    default: break;
    }
}

/* Every line that is there has been looked for: sums of both sides. */
static void expect_nothing_else(struct world *w, const struct book *books)
{
    size_t lines = 0, wanted = 0, followers = 0;
    for (size_t a = 0; a < w->agents; a++) {
        followers += w->follows[a];
        for (size_t l = 0; l < LETTER_N; l++) {
            for (size_t n = 0; n < w->deed_count; n++) {
                lines += books[a].lines[l][n].count;
            }
        }
    }
    for (size_t n = 0; n < w->deed_count; n++) {
        const struct deed *d = &w->deeds[n];
        switch (d->kind) {
        case DEED_RELAY: wanted += 2; break;
        case DEED_ALARM: wanted += books[d->agent].lines[letter('t')][n].count; break;
        case DEED_WATCH: wanted += 1 + parent_ends(w); break;
        case DEED_ANNOUNCE: wanted += 1 + followers; break;
        case DEED_POST: wanted += followers; break;
        case DEED_SPOIL:
        case DEED_CREATE:
        case DEED_DISPOSE: break;
        default: wanted++; break;
        }
    }
    if (lines != wanted) {
        fail(w, "I4: %zu lines are in the logs instead of %zu", lines, wanted);
    }
}

/* ---- order ---- */

static char own_letter(deed_kind kind)
{
    static const char letters[DEED_KINDS] = {
        [DEED_NOTE] = 'm', [DEED_RELAY] = 's', [DEED_WATCH] = 'o', [DEED_ANNOUNCE] = 'a'};
    return letters[kind];
}

/* A deed that was acknowledged before another was asked stands before it. One-way messages of
 * people have an order among themselves. */
static void expect_order_of_people(struct world *w, const struct book *books, size_t i, size_t j)
{
    const struct deed *a = &w->deeds[i], *b = &w->deeds[j];
    char la = own_letter(a->kind), lb = own_letter(b->kind);
    bool told = a->kind == DEED_TELL && b->kind == DEED_TELL;
    la = told ? 'm' : la;
    lb = told ? 'm' : lb;
    if (a->agent != b->agent || !la || !lb || a->acked_us > b->asked_us) {
        return;
    }
    if (books[a->agent].lines[letter(la)][i].at > books[b->agent].lines[letter(lb)][j].at) {
        fail(w,
             "I4: deed %zu was acknowledged before deed %zu was asked, and stands "
             "behind it in the log of agent %zu",
             i, j, a->agent);
    }
}

/* What one agent sent another, in the order in which it did. */
static void expect_order_of_agents(struct world *w, const struct book *books, size_t i, size_t j)
{
    const struct deed *a = &w->deeds[i], *b = &w->deeds[j];
    bool relays = a->kind == DEED_RELAY && b->kind == DEED_RELAY && a->to == b->to;
    bool news = a->kind == DEED_ANNOUNCE && b->kind == DEED_ANNOUNCE;
    if (a->agent != b->agent || (!relays && !news)) {
        return;
    }
    size_t sent = letter(relays ? 's' : 'a'), heard = letter(relays ? 'm' : 'p');
    bool first = books[a->agent].lines[sent][i].at < books[a->agent].lines[sent][j].at;
    for (size_t x = 0; x < w->agents; x++) {
        if (relays ? x != a->to : !w->follows[x]) {
            continue;
        }
        if (first != (books[x].lines[heard][i].at < books[x].lines[heard][j].at)) {
            fail(w,
                 "I4: agent %zu hears %zu and %zu of agent %zu in another order than "
                 "they were sent",
                 x, i, j, a->agent);
        }
    }
}

/* ---- hooks, copies ---- */

static void expect_hooks(struct world *w, size_t agent, const struct book *b)
{
    enum { CREATE, LEAVE, ARRIVE, RETRACT, CLONE, SLEEP, WAKE, GOING };
    const size_t *n = b->hooks;
    uint64_t epoch;
    (void)mesh_where(w->m, &w->id[agent], &epoch);
    size_t came = n[ARRIVE] + n[RETRACT]; /* who wants to go where it is arrives at once */
    if (n[CREATE] != 1 || n[CLONE] != 0 || n[LEAVE] > came || came > n[LEAVE] + n[GOING] ||
        n[LEAVE] > epoch - 1 || n[WAKE] > n[SLEEP] + epoch) {
        fail(w,
             "agent %zu at epoch %llu has run create %zu, clone %zu, leave %zu, arrive "
             "%zu, retract %zu, sleep %zu, wake %zu",
             agent, (unsigned long long)epoch, n[CREATE], n[CLONE], n[LEAVE], n[ARRIVE], n[RETRACT],
             n[SLEEP], n[WAKE]);
    }
    for (uint64_t i = 1; i < epoch; i++) {
        mesh_figure_add(FIGURE_MOVES);
    }
}

static size_t settlers_at(struct world *w, size_t host)
{
    gw_value v = gw_nil();
    mesh_must(w->m, host, &v, "agents", "{'type': 'settler', 'limit': 1000}");
    const gw_value *list = gw_map_get(&v, "agents");
    size_t n = list && list->kind == GW_LIST ? list->list.n : 0;
    gw_value_free(&v);
    return n;
}

static void expect_settlers(struct world *w)
{
    size_t wanted = 0, there = 0;
    for (size_t i = 0; i < w->deed_count; i++) {
        wanted += w->deeds[i].kind == DEED_CREATE;
    }
    for (size_t i = 0; i < w->hosts; i++) {
        there += settlers_at(w, i);
    }
    if (there != wanted) {
        fail(w, "%zu agents were made by %zu creates", there, wanted);
    }
}

static void expect_family(struct world *w)
{
    for (size_t i = WORLD_PARENT(w); i <= WORLD_CHILD(w); i++) {
        if (parent_ends(w)) {
            mesh_expect_disposed(w->m, &w->id[i]);
            if (mesh_copies(w->m, &w->id[i]) > 0) {
                fail(w, "agent %zu has ended and is there", i);
            }
        }
    }
}

void world_check(struct world *w)
{
    struct book *books = calloc(w->agents, sizeof *books);
    gw_assert(books);
    expect_family(w);
    mesh_expect_whole(w->m);
    for (size_t a = 0; a < w->agents; a++) {
        read_book(w, a, &books[a]);
        expect_hooks(w, a, &books[a]);
    }
    for (size_t i = 0; i < w->deed_count; i++) {
        expect_deed(w, books, i);
        for (size_t j = 0; j < w->deed_count; j++) {
            if (i != j) {
                expect_order_of_people(w, books, i, j);
                expect_order_of_agents(w, books, i, j);
            }
        }
    }
    expect_nothing_else(w, books);
    expect_settlers(w);
    files_look(w);
    for (size_t i = 0; i < w->hosts; i++) {
        fences_look(w, i);
    }
    mesh_run(w->m, 2000);
    rows_check(w);
    free(books);
}

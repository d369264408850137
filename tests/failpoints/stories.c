#include "tests/failpoints/stories.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/buf.h"

#define LONG "\"timeout\":100000" /* of the hosts, who are in a hurry */

static const char *const names[MESH_HOSTS] = {"one", "two", "three"};

/* ---- what all of them do ---- */

static unsigned key(struct world *w)
{
    return ++w->serial;
}

static void make(struct world *w, struct cast *c, const char *type, const char *state,
                 enum role host)
{
    GW_AUTO(gw_value_free) gw_value made = gw_nil();
    memset(c, 0, sizeof *c);
    world_ask(w, HOME, GW_OK, &made, "create", "{\"type\":\"%s\",\"state\":%s,\"key\":\"k%u\"}",
              type, state, key(w));
    snprintf(c->id, sizeof c->id, "%s", gw_map_str(&made, "agent", ""));
    if (host != HOME) {
        world_ask(w, HOME, GW_OK, NULL, "dispatch",
                  "{\"agent\":\"%s\",\"to\":\"%s\",\"key\":\"k%u\"," LONG "}", c->id, names[host],
                  key(w));
    }
}

/* Args: a JSON map. */
static void send(struct world *w, const struct cast *c, const char *method, const char *args)
{
    world_ask(w, HOME, GW_OK, NULL, "send",
              "{\"agent\":\"%s\",\"method\":\"%s\",\"args\":%s,\"key\":\"k%u\"," LONG "}", c->id,
              method, args, key(w));
}

static void hear(struct world *w, struct cast *c)
{
    char args[40];
    snprintf(args, sizeof args, "{\"n\":%lld}", (long long)++c->said);
    send(w, c, "hear", args);
}

static int64_t look(struct world *w, const struct cast *c, const char *what)
{
    GW_AUTO(gw_value_free) gw_value answer = gw_nil();
    world_ask(w, HOME, GW_OK, &answer, "send", "{\"agent\":\"%s\",\"method\":\"look\"," LONG "}",
              c->id);
    const gw_value *reply = gw_map_get(&answer, "reply");
    return reply ? gw_map_int(reply, what, -1) : -1;
}

static void wait_look(struct world *w, const struct cast *c, const char *what, int64_t wanted)
{
    while (world_is_fine(w) && look(w, c, what) < wanted) {
        snprintf(w->last, sizeof w->last, "%s is not yet %lld", what, (long long)wanted);
        if (world_now_ms() > w->until_ms) {
            world_fault(w, "agent %s: %s never becomes %lld", c->id, what, (long long)wanted);
        }
        world_pause(w, 10);
    }
}

static void check_look(struct world *w, const struct cast *c, const char *what, int64_t wanted)
{
    int64_t got = look(w, c, what);
    if (got != wanted) {
        world_fault(w, "agent %s: %s is %lld, wanted %lld", c->id, what, (long long)got,
                    (long long)wanted);
    }
}

void story_check(struct world *w, struct tale *t)
{
    for (size_t i = 0; i < TALE_AGENTS && world_is_fine(w); i++) {
        const struct cast *c = &t->cast[i];
        int count = c->id[0] ? world_count(w, c->id) : 0;
        if (c->id[0] && count != !c->gone) {
            world_fault(w, "agent %s is there %d times", c->id, count);
        } else if (c->id[0] && !c->gone && c->said >= 0) {
            check_look(w, c, "heard", c->said);
            check_look(w, c, "wrong", 0);
        }
    }
    const struct cast *first = &t->cast[0];
    if (t->ticks >= 0) {
        check_look(w, first, "ticks", t->ticks);
    }
    if (t->topics >= 0) {
        check_look(w, first, "topics", t->topics);
    }
    if (t->downs >= 0) {
        check_look(w, first, "downs", t->downs);
    }
    if (t->pad_kib > 0) {
        check_look(w, first, "pad", t->pad_kib * 1024);
    }
}

/* ---- moves ---- */

static void subject_at_source(struct world *w, struct tale *t)
{
    make(w, &t->cast[0], "subject", "{}", SOURCE);
    hear(w, &t->cast[0]);
}

static void move_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    unsigned same = key(w);
    world_start(w, HOME, "dispatch", "{\"agent\":\"%s\",\"to\":\"two\",\"key\":\"k%u\"," LONG "}",
                c->id, same);
    hear(w, c);
    hear(w, c);
    world_ask(w, HOME, GW_OK, NULL, "dispatch",
              "{\"agent\":\"%s\",\"to\":\"two\",\"key\":\"k%u\"," LONG "}", c->id, same);
    hear(w, c);
}

static void guest_at_source(struct world *w, struct tale *t)
{
    make(w, &t->cast[0], "guest", "{}", SOURCE);
    hear(w, &t->cast[0]);
}

#define LOAD_BYTES 300000
#define LOAD       "{\"bytes\":300000}"

static void files_at_source(struct world *w, struct tale *t)
{
    subject_at_source(w, t);
    send(w, &t->cast[0], "carry", LOAD);
}

/* Its file is there in the end, whole. */
static void move_files_act(struct world *w, struct tale *t)
{
    move_act(w, t);
    check_look(w, &t->cast[0], "load", LOAD_BYTES);
}

static void carry_act(struct world *w, struct tale *t)
{
    send(w, &t->cast[0], "carry", LOAD);
    hear(w, &t->cast[0]);
    check_look(w, &t->cast[0], "load", LOAD_BYTES);
}

/* It cannot get there, and is put back. */
static void abort_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    while (world_is_fine(w) && !world_fired(w) && world_now_ms() < w->until_ms) {
        (void)!world_try(w, SOURCE, NULL, "dispatch",
                         "{\"agent\":\"%s\",\"to\":\"two\",\"key\":\"k%u\"," LONG "}", c->id,
                         key(w));
        world_pause(w, 10);
    }
    hear(w, c);
}

static void stay_before(struct world *w, struct tale *t)
{
    subject_at_source(w, t);
    send(w, &t->cast[0], "stay", "{\"on\":true}");
}

static void stay_act(struct world *w, struct tale *t)
{
    gw_err err = GW_EUNREACHABLE;
    while (world_is_fine(w) && world_now_ms() < w->until_ms &&
           (err == GW_EUNREACHABLE || err == GW_ETIMEOUT)) {
        err = world_try(w, HOME, NULL, "dispatch",
                        "{\"agent\":\"%s\",\"to\":\"two\",\"key\":\"k%u\"," LONG "}", t->cast[0].id,
                        key(w));
        world_pause(w, 10);
    }
    hear(w, &t->cast[0]);
}

static void fill_act(struct world *w, struct tale *t)
{
    t->pad_kib = 300;
    send(w, &t->cast[0], "fill", "{\"kib\":300,\"with\":7}");
}

static void big_before(struct world *w, struct tale *t)
{
    subject_at_source(w, t);
    fill_act(w, t);
}

/* The destination is away for good, as far as the operator knows. */
static void resolve_act(struct world *w, struct tale *t)
{
    char ticket[GW_ID_TEXT] = "";
    unsigned last = w->hosts[DEST].deaths;
    w->hosts[DEST].hold = true;
    world_start(w, HOME, "dispatch", "{\"agent\":\"%s\",\"to\":\"two\",\"key\":\"k%u\"," LONG "}",
                t->cast[0].id, key(w));
    while (world_is_fine(w) && w->hosts[DEST].deaths == last && world_now_ms() < w->until_ms) {
        world_pause(w, 5);
    }
    while (world_is_fine(w) && !ticket[0] && world_now_ms() < w->until_ms) {
        GW_AUTO(gw_value_free) gw_value moves = gw_nil();
        world_ask(w, SOURCE, GW_OK, &moves, "moves", "{}");
        const gw_value *list = gw_map_get(&moves, "moves");
        if (list && list->list.n > 0) {
            snprintf(ticket, sizeof ticket, "%s", gw_map_str(&list->list.items[0], "ticket", ""));
        }
        world_pause(w, 5);
    }
    world_ask(w, SOURCE, GW_ENOT_FOUND, NULL, "resolve", "{\"ticket\":\"%s\"}", ticket);
    hear(w, &t->cast[0]);
}

/* ---- lives ---- */

static void create_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    GW_AUTO(gw_value_free) gw_value made = gw_nil();
    world_ask(w, HOME, GW_OK, &made, "create",
              "{\"type\":\"subject\",\"at\":\"one\",\"key\":\"k%u\"}", key(w));
    snprintf(c->id, sizeof c->id, "%s", gw_map_str(&made, "agent", ""));
    hear(w, c);
}

static void alias_before(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    GW_AUTO(gw_value_free) gw_value made = gw_nil();
    snprintf(t->alias, sizeof t->alias, "alias%u", key(w));
    world_ask(w, SOURCE, GW_OK, &made, "create",
              "{\"type\":\"subject\",\"alias\":\"%s\",\"key\":\"k%u\"}", t->alias, key(w));
    snprintf(c->id, sizeof c->id, "%s", gw_map_str(&made, "agent", ""));
}

/* The other host says for certain that it has made nothing; one that was out of reach for a moment
 * does not, and the next key is tried. */
static void create_refused_act(struct world *w, struct tale *t)
{
    do {
        (void)!world_try(w, HOME, NULL, "create",
                         "{\"type\":\"subject\",\"at\":\"one\",\"alias\":\"%s\",\"key\":\"k%u\"}",
                         t->alias, key(w));
        world_pause(w, 10);
    } while (world_is_fine(w) && !world_fired(w) && world_now_ms() < w->until_ms);
    hear(w, &t->cast[0]);
}

static void clone_to(struct world *w, struct tale *t, const char *to)
{
    GW_AUTO(gw_value_free) gw_value made = gw_nil();
    struct cast *c = &t->cast[1];
    world_ask(w, SOURCE, GW_OK, &made, "clone",
              "{\"agent\":\"%s\",\"to\":\"%s\",\"key\":\"k%u\"," LONG "}", t->cast[0].id, to,
              key(w));
    snprintf(c->id, sizeof c->id, "%s", gw_map_str(&made, "agent", ""));
    c->said = t->cast[0].said;
    hear(w, c);
    hear(w, &t->cast[0]);
}

static void clone_act(struct world *w, struct tale *t)
{
    clone_to(w, t, "one");
}

static void clone_away_act(struct world *w, struct tale *t)
{
    clone_to(w, t, "two");
}

static void sleep_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    world_ask(w, HOME, GW_OK, NULL, "deactivate", "{\"agent\":\"%s\"}", c->id);
    hear(w, c);
    world_ask(w, HOME, GW_OK, NULL, "deactivate", "{\"agent\":\"%s\"}", c->id);
    world_ask(w, HOME, GW_OK, NULL, "activate", "{\"agent\":\"%s\"}", c->id);
    hear(w, c);
}

static void dispose_act(struct world *w, struct tale *t)
{
    world_ask(w, HOME, GW_EDISPOSED, NULL, "dispose", "{\"agent\":\"%s\"}", t->cast[0].id);
    t->cast[0].gone = true;
    t->ticks = t->topics = t->downs = -1;
}

/* Two handlers that end their runner, and it is kept from running. */
static void quarantine_act(struct world *w, struct tale *t)
{
    const char *status = "";
    while (world_is_fine(w) && strcmp(status, "quarantined") != 0 && world_now_ms() < w->until_ms) {
        GW_AUTO(gw_value_free) gw_value shown = gw_nil();
        (void)!world_try(w, HOME, NULL, "send",
                         "{\"agent\":\"%s\",\"method\":\"crash\",\"key\":\"k%u\"," LONG "}",
                         t->cast[0].id, key(w));
        world_ask(w, HOME, GW_OK, &shown, "show", "{\"agent\":\"%s\"}", t->cast[0].id);
        status = strcmp(gw_map_str(&shown, "status", ""), "quarantined") == 0 ? "quarantined" : "";
    }
    world_ask(w, HOME, GW_OK, NULL, "activate", "{\"agent\":\"%s\"}", t->cast[0].id);
    hear(w, &t->cast[0]);
}

static void wish_act(struct world *w, struct tale *t)
{
    do { /* one that cannot be done is given up */
        send(w, &t->cast[0], "go", "{\"to\":\"two\"}");
        hear(w, &t->cast[0]);
        world_pause(w, 50);
    } while (world_is_fine(w) && !world_fired(w) && world_now_ms() < w->until_ms);
}

static void wish_fails_act(struct world *w, struct tale *t)
{
    send(w, &t->cast[0], "go", "{\"to\":\"nowhere\"}");
    hear(w, &t->cast[0]);
}

/* It has no key to be repeated under: whoever got no answer looks first. */
static void itinerary_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    bool set = false;
    while (world_is_fine(w) && !set && world_now_ms() < w->until_ms) {
        GW_AUTO(gw_value_free) gw_value seen = gw_nil();
        set = world_try(
                  w, HOME, NULL, "itinerary",
                  "{\"agent\":\"%s\",\"home\":false,\"stops\":["
                  "{\"to\":\"two\",\"method\":\"hear\",\"args\":{\"n\":2},\"policy\":\"wait\"},"
                  "{\"to\":\"one\",\"method\":\"hear\",\"args\":{\"n\":3},\"policy\":\"wait\"}]}",
                  c->id) == GW_OK;
        if (!set) {
            world_ask(w, HOME, GW_OK, &seen, "itinerary", "{\"agent\":\"%s\"}", c->id);
            const gw_value *it = gw_map_get(&seen, "itinerary");
            set = it && it->kind == GW_MAP;
        }
    }
    wait_look(w, c, "heard", 3);
    c->said = 3;
}

/* ---- messages ---- */

static void two_agents(struct world *w, struct tale *t)
{
    subject_at_source(w, t);
    make(w, &t->cast[1], "subject", "{}", DEST);
}

static void hear_act(struct world *w, struct tale *t)
{
    for (int i = 0; i < 6; i++) {
        hear(w, &t->cast[0]);
    }
}

static void tell_act(struct world *w, struct tale *t)
{
    for (int i = 0; i < 3; i++) {
        char args[100];
        snprintf(args, sizeof args, "{\"to\":\"%s\",\"n\":%lld}", t->cast[1].id,
                 (long long)++t->cast[1].said);
        send(w, &t->cast[0], "say", args);
    }
    wait_look(w, &t->cast[1], "heard", t->cast[1].said);
}

static void client_tell_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    for (int i = 0; i < 3; i++) {
        world_ask(w, HOME, GW_OK, NULL, "send",
                  "{\"agent\":\"%s\",\"method\":\"hear\",\"args\":{\"n\":%lld},\"tell\":true,"
                  "\"key\":\"k%u\"," LONG "}",
                  c->id, (long long)++c->said, key(w));
    }
    wait_look(w, c, "heard", c->said);
}

static void timer_act(struct world *w, struct tale *t)
{
    for (t->ticks = 0; world_is_fine(w) && t->ticks < 2;) {
        send(w, &t->cast[0], "beat", "{\"ms\":100}");
        wait_look(w, &t->cast[0], "ticks", ++t->ticks);
    }
}

static void subscribers(struct world *w, const char *topic, int64_t wanted)
{
    int64_t got = -1;
    while (world_is_fine(w) && got != wanted) {
        GW_AUTO(gw_value_free) gw_value topics = gw_nil();
        world_ask(w, DEST, GW_OK, &topics, "topics", "{\"topic\":\"%s\"}", topic);
        const gw_value *list = gw_map_get(&topics, "topics");
        got = list && list->list.n > 0 ? gw_map_int(&list->list.items[0], "subscribers", -1) : 0;
        if (world_now_ms() > w->until_ms) {
            world_fault(w, "topic %s: %lld subscribers, wanted %lld", topic, (long long)got,
                        (long long)wanted);
        }
        world_pause(w, 5);
    }
}

static void topic_of(const struct tale *t, char ret[40])
{
    snprintf(ret, 40, "t%s", t->cast[0].id + 10);
}

static void listen_act(struct world *w, struct tale *t)
{
    char topic[40], args[80];
    topic_of(t, topic);
    snprintf(args, sizeof args, "{\"topic\":\"%s\"}", topic);
    send(w, &t->cast[0], "listen", args);
    subscribers(w, topic, 1);
    for (t->topics = 0; t->topics < 2; t->topics++) {
        world_ask(w, DEST, GW_OK, NULL, "publish", "{\"topic\":\"%s\",\"key\":\"k%u\"}", topic,
                  key(w));
    }
    wait_look(w, &t->cast[0], "topics", t->topics);
}

/* A lost word about topics is said again with the next link. */
static void listen_again_act(struct world *w, struct tale *t)
{
    char topic[40], args[80];
    topic_of(t, topic);
    snprintf(args, sizeof args, "{\"topic\":\"%s\"}", topic);
    send(w, &t->cast[0], "listen", args);
    world_kill(w, DEST);
    listen_act(w, t);
}

static void listen_before(struct world *w, struct tale *t)
{
    subject_at_source(w, t);
    listen_act(w, t);
}

/* The end of a subscriber, of which the publisher's host has not heard. */
static void topic_gone_act(struct world *w, struct tale *t)
{
    char topic[40];
    topic_of(t, topic);
    dispose_act(w, t);
    world_ask(w, DEST, GW_OK, NULL, "publish", "{\"topic\":\"%s\",\"key\":\"k%u\"}", topic, key(w));
    subscribers(w, topic, 0);
}

static void monitor_act(struct world *w, struct tale *t)
{
    char args[100];
    snprintf(args, sizeof args, "{\"whom\":\"%s\"}", t->cast[1].id);
    send(w, &t->cast[0], "watch", args);
    hear(w, &t->cast[1]);
    world_ask(w, HOME, GW_EDISPOSED, NULL, "dispose", "{\"agent\":\"%s\"}", t->cast[1].id);
    t->cast[1].gone = true;
    t->downs = 1;
    wait_look(w, &t->cast[0], "downs", 1);
}

/* Of nobody: that it is not found is for the watcher's host to say. */
static void monitor_nobody_act(struct world *w, struct tale *t)
{
    send(w, &t->cast[0], "watch", "{\"whom\":\"00000000000000000000000001\"}");
    t->downs = 1;
    wait_look(w, &t->cast[0], "downs", 1);
}

static void later_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    unsigned same = key(w);
    bool in = false;
    while (world_is_fine(w) && !in) {
        GW_AUTO(gw_value_free) gw_value answer = gw_nil();
        world_start(w, HOME, "send",
                    "{\"agent\":\"%s\",\"method\":\"enter\",\"key\":\"k%u\"," LONG "}", c->id,
                    same);
        hear(w, c);
        send(w, c, "let_in", "{}");
        in = world_try(w, HOME, &answer, "send",
                       "{\"agent\":\"%s\",\"method\":\"enter\",\"key\":\"k%u\"," LONG "}", c->id,
                       same) == GW_OK;
        if (world_now_ms() > w->until_ms) {
            world_fault(w, "the late answer never comes: %s", w->last);
        }
    }
}

static void dig_act(struct world *w, struct tale *t)
{
    GW_AUTO(gw_value_free) gw_value made = gw_nil();
    struct cast *c = &t->cast[0];
    world_ask(w, SOURCE, GW_OK, &made, "create",
              "{\"type\":\"digger\",\"state\":{\"steps\":5},\"key\":\"k%u\"}", key(w));
    snprintf(c->id, sizeof c->id, "%s", gw_map_str(&made, "agent", ""));
    c->said = -1;
    t->ticks = t->topics = t->downs = -1;
    for (int64_t done = 0; done < 5 && world_is_fine(w);) {
        GW_AUTO(gw_value_free) gw_value answer = gw_nil();
        world_ask(w, SOURCE, GW_OK, &answer, "send", "{\"agent\":\"%s\",\"method\":\"depth\"}",
                  c->id);
        const gw_value *reply = gw_map_get(&answer, "reply");
        done = reply ? gw_map_int(reply, "done", 0) : 0;
        if (done > 5 || world_now_ms() > w->until_ms) {
            world_fault(w, "the digger has done %lld of 5 steps", (long long)done);
        }
        world_pause(w, 5);
    }
}

static void saver_at_source(struct world *w, struct tale *t)
{
    make(w, &t->cast[0], "saver", "{}", SOURCE);
}

/* Its state is in memory until its host stops; by SIGKILL it is gone, and it has heard nothing. */
static void stop_act(struct world *w, struct tale *t)
{
    struct cast *c = &t->cast[0];
    hear(w, c);
    world_restart(w, SOURCE);
    c->said = look(w, c, "heard");
    if (c->said != 0 && c->said != 1) {
        world_fault(w, "the saver has heard %lld", (long long)c->said);
    }
}

/* A message that crashed its runner three times. */
static void dead_before(struct world *w, struct tale *t)
{
    subject_at_source(w, t);
    world_ask(w, SOURCE, GW_OK, NULL, "send",
              "{\"agent\":\"%s\",\"method\":\"crash\",\"tell\":true,\"key\":\"k%u\"}",
              t->cast[0].id, key(w));
}

static void dead_act(struct world *w, struct tale *t)
{
    int64_t letter = 0;
    while (world_is_fine(w) && letter == 0) {
        GW_AUTO(gw_value_free) gw_value dead = gw_nil();
        (void)!world_try(w, SOURCE, NULL, "activate", "{\"agent\":\"%s\"}", t->cast[0].id);
        world_ask(w, SOURCE, GW_OK, &dead, "dead", "{}");
        const gw_value *list = gw_map_get(&dead, "letters");
        for (size_t i = 0; list && i < list->list.n; i++) {
            letter = gw_map_int(&list->list.items[i], "letter", 0);
        }
        if (world_now_ms() > w->until_ms) {
            world_fault(w, "there is no dead letter");
        }
        world_pause(w, 10);
    }
    world_ask(w, SOURCE, GW_ENOT_FOUND, NULL, "dead.drop", "{\"letter\":%lld}", (long long)letter);
    world_ask(w, SOURCE, GW_OK, NULL, "activate", "{\"agent\":\"%s\"}", t->cast[0].id);
    hear(w, &t->cast[0]);
}

/* ---- hosts ---- */

/* Others come and go: events of links, what is known of members. */
static void neighbour_act(struct world *w, struct tale *t)
{
    world_kill(w, DEST);
    hear(w, &t->cast[0]);
}

static void neighbours_act(struct world *w, struct tale *t)
{
    world_kill(w, HOME);
    world_kill(w, SOURCE);
    hear(w, &t->cast[0]);
}

static void self_act(struct world *w, struct tale *t)
{
    hear(w, &t->cast[0]);
}

/* A stream for a client, and a client that wants no more of it. */
static void stream_act(struct world *w, struct tale *t)
{
    gw_err err = GW_EUNREACHABLE;
    while (world_is_fine(w) && err != GW_OK && world_now_ms() < w->until_ms) {
        err = world_try(w, HOME, NULL, "events", "{\"limit\":3}");
        world_pause(w, 5);
    }
    while (world_is_fine(w) && world_now_ms() < w->until_ms && !world_fired(w)) {
        world_cancel(w, HOME, "events", "{\"follow\":true}");
        world_pause(w, 5);
    }
    hear(w, &t->cast[0]);
}

const struct story stories[] = {
    {"move", subject_at_source, move_act},
    {"move-guest", guest_at_source, move_act},
    {"move-files", files_at_source, move_files_act},
    {"carry", subject_at_source, carry_act},
    {"move-big", big_before, move_act},
    {"abort", subject_at_source, abort_act},
    {"stay", stay_before, stay_act},
    {"fill", subject_at_source, fill_act},
    {"resolve", subject_at_source, resolve_act},
    {"create", NULL, create_act},
    {"create-refused", alias_before, create_refused_act},
    {"clone", subject_at_source, clone_act},
    {"clone-away", subject_at_source, clone_away_act},
    {"sleep", subject_at_source, sleep_act},
    {"dispose", subject_at_source, dispose_act},
    {"quarantine", subject_at_source, quarantine_act},
    {"wish", subject_at_source, wish_act},
    {"wish-fails", subject_at_source, wish_fails_act},
    {"itinerary", subject_at_source, itinerary_act},
    {"hear", subject_at_source, hear_act},
    {"tell", two_agents, tell_act},
    {"client-tell", subject_at_source, client_tell_act},
    {"timer", subject_at_source, timer_act},
    {"listen", subject_at_source, listen_act},
    {"listen-again", subject_at_source, listen_again_act},
    {"topic-gone", listen_before, topic_gone_act},
    {"monitor", two_agents, monitor_act},
    {"monitor-nobody", subject_at_source, monitor_nobody_act},
    {"later", subject_at_source, later_act},
    {"dig", NULL, dig_act},
    {"stop", saver_at_source, stop_act},
    {"dead", dead_before, dead_act},
    {"neighbour", subject_at_source, neighbour_act},
    {"neighbours", subject_at_source, neighbours_act},
    {"self", subject_at_source, self_act},
    {"stream", subject_at_source, stream_act},
};
const size_t story_count = sizeof stories / sizeof stories[0];

const struct story *story_find(const char *name)
{
    for (size_t i = 0; i < story_count; i++) {
        if (strcmp(stories[i].name, name) == 0) {
            return &stories[i];
        }
    }
    return NULL;
}

#include "persistence/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/log.h"
#include "protocol/text.h"

#define EACH       UINT32_MAX
#define SPEED_MOST 1000

bool failpoint_on;
unsigned failpoint_speed = 1;

static struct {
    uint32_t pass; /* at which it fails; 0 = none is set here, EACH */
    fail_action action;
    atomic_uint passed;
} points[FAIL_COUNT];

/* Of the storage thread: the log is written by it alone. */
static int write_errno;

static const char *const point_names[POINT_COUNT] = {
#define COMMIT_POINT(name, text, what) [POINT_##name] = text,
#include "persistence/points.def"
};
static const char *const point_about[POINT_COUNT] = {
#define COMMIT_POINT(name, text, what) [POINT_##name] = what,
#include "persistence/points.def"
};
static const struct {
    const char *name, *about;
    unsigned actions;
} places[PLACE_COUNT] = {
#define FAIL_PLACE(name, text, actions, what) [PLACE_##name] = {text, what, actions},
#include "persistence/points.def"
};
static const struct {
    const char *action;
    fail_action is;
} actions[] = {{"kill", FAIL_KILL},     {"stop", FAIL_STOP}, {"eio", FAIL_EIO},
               {"enospc", FAIL_ENOSPC}, {"lost", FAIL_LOST}, {"twice", FAIL_TWICE}};
#define ACTIONS (sizeof actions / sizeof actions[0])

/* ---- names ---- */

/* What hosts and clients say to each other: not what a link does by itself, nor runners. A host
 * sends streams and cancels none, clients the other way round; ABORTED nobody sends. */
static bool is_said(uint32_t kind, bool received)
{
    switch (kind) {
    case FRAME_ITEM: return !received;
    case FRAME_CANCEL: return received;
    case FRAME_ABORTED: return false;
    default:
        return (kind >= FRAME_HELLO && kind < FRAME_CANCEL) ||
               (kind >= FRAME_MEMBERS && kind < FRAME_RUN);
    }
}

static const char *name_of_frame(uint32_t kind, bool received, char room[48])
{
    const char *name = is_said(kind, received) ? frame_kind_name(kind) : "?";
    if (name[0] == '?') {
        return NULL;
    }
    snprintf(room, 48, "frame.%s.%s", name, received ? "received" : "sent");
    for (char *c = room; *c; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    return room;
}

const char *failpoint_name(unsigned at, char room[48], unsigned *ret_actions)
{
    const unsigned always = FAIL_KILL | FAIL_STOP;
    if (at < FAIL_AT_PLACE) {
        const char *name = point_names[at / 2];
        *ret_actions = at % 2 ? always : always | FAIL_EIO | FAIL_ENOSPC;
        if (!name) {
            return NULL;
        }
        snprintf(room, 48, "%s.%s", name, at % 2 ? "after" : "before");
        return room;
    }
    if (at < FAIL_AT_FRAME) {
        *ret_actions = always | places[at - FAIL_AT_PLACE].actions;
        return places[at - FAIL_AT_PLACE].name;
    }
    at -= FAIL_AT_FRAME;
    *ret_actions = at % 2 ? always : always | FAIL_LOST | FAIL_TWICE;
    return at / 2 < FAIL_FRAMES ? name_of_frame(at / 2, at % 2, room) : NULL;
}

static const char *about(unsigned at)
{
    return at < FAIL_AT_PLACE   ? point_about[at / 2]
           : at < FAIL_AT_FRAME ? places[at - FAIL_AT_PLACE].about
                                : "a frame";
}

void failpoint_list(FILE *out)
{
    char room[48];
    unsigned may;
    for (unsigned at = 0; at < FAIL_COUNT; at++) {
        const char *name = failpoint_name(at, room, &may);
        if (!name) {
            continue;
        }
        fprintf(out, "%-32s", name);
        for (size_t i = 0; i < ACTIONS; i++) {
            fprintf(out, " %-6s", may & actions[i].is ? actions[i].action : "");
        }
        fprintf(out, "  %s\n", about(at));
    }
}

static bool find_name(struct span name, unsigned *ret_at, unsigned *ret_actions)
{
    char room[48];
    for (unsigned at = 0; at < FAIL_COUNT; at++) {
        const char *text = failpoint_name(at, room, ret_actions);
        if (text && span_is(name, text)) {
            *ret_at = at;
            return true;
        }
    }
    return false;
}

/* ---- setting them ---- */

static struct span take_until(struct span *rest, char end)
{
    struct span part = {rest->p, 0};
    while (part.n < rest->n && rest->p[part.n] != (uint8_t)end) {
        part.n++;
    }
    size_t gone = part.n < rest->n ? part.n + 1 : part.n;
    rest->p += gone;
    rest->n -= gone;
    return part;
}

static gw_err read_number(struct span text, uint64_t most, uint64_t *ret)
{
    char room[24];
    uint64_t n;
    if (!span_text(text, room, sizeof room) || text_uint(room, &n) != GW_OK || n == 0 || n > most) {
        return GW_EARG;
    }
    *ret = n;
    return GW_OK;
}

static gw_err refuse(struct gw_error *why, struct span item, const char *what)
{
    gw_fail(why, GW_EARG, "GODWIT_FAIL: \"%.*s\" %s", (int)(item.n < 100 ? item.n : 100),
            (const char *)item.p, what);
    gw_hint(why, "NAME[:PASS]:ACTION, for example move.departed.before:kill, or speed=N");
    return GW_EARG;
}

static gw_err set_one(struct span item, struct gw_error *why)
{
    struct span rest = item;
    struct span name = take_until(&rest, ':'), pass = {0}, action = take_until(&rest, ':');
    uint64_t number = 1;
    unsigned at, may;
    if (rest.n > 0) {
        pass = action;
        action = rest;
    }
    if (!find_name(name, &at, &may)) {
        return refuse(why, item, "is no failpoint");
    }
    if (pass.n > 0 && span_is(pass, "*")) {
        number = EACH;
    } else if (pass.n > 0 && read_number(pass, EACH - 1, &number) != GW_OK) {
        return refuse(why, item, "names no pass: 1, 2, … or *");
    }
    for (size_t i = 0; i < ACTIONS; i++) {
        if (span_is(action, actions[i].action) && may & actions[i].is) {
            points[at].pass = (uint32_t)number;
            points[at].action = actions[i].is;
            return GW_OK;
        }
    }
    return refuse(why, item, "is no action of that failpoint");
}

gw_err failpoint_open(const char *text, struct gw_error *why)
{
    static const char speed[] = "speed=";
    struct span rest = {(const uint8_t *)text, text ? strlen(text) : 0};
    while (rest.n > 0) {
        struct span item = take_until(&rest, ',');
        if (item.n >= sizeof speed && memcmp(item.p, speed, sizeof speed - 1) == 0) {
            struct span number = {item.p + sizeof speed - 1, item.n - (sizeof speed - 1)};
            uint64_t n;
            if (read_number(number, SPEED_MOST, &n) != GW_OK) {
                return refuse(why, item, "is no speed from 1 to 1000");
            }
            failpoint_speed = (unsigned)n;
        } else {
            GW_TRY(set_one(item, why));
        }
        failpoint_on = true;
    }
    return GW_OK;
}

void failpoint_reset(void)
{
    memset(points, 0, sizeof points);
    failpoint_on = false;
    failpoint_speed = 1;
    write_errno = 0;
}

/* ---- passing them ---- */

unsigned failpoint_pass(unsigned at)
{
    char room[48];
    unsigned may;
    if (at >= FAIL_COUNT || points[at].pass == 0) {
        return 0;
    }
    unsigned passed = atomic_fetch_add_explicit(&points[at].passed, 1, memory_order_relaxed) + 1;
    if (points[at].pass != EACH && points[at].pass != passed) {
        return 0;
    }
    fail_action action = points[at].action;
    for (size_t i = 0; i < ACTIONS; i++) {
        if (actions[i].is == action) {
            log_warn("failpoint", "name=%s pass=%u action=%s", failpoint_name(at, room, &may),
                     passed, actions[i].action);
        }
    }
    if (action == FAIL_KILL || action == FAIL_STOP) {
        (void)kill(getpid(), action == FAIL_KILL ? SIGKILL : SIGSTOP);
        return 0;
    }
    errno = action == FAIL_EIO ? EIO : action == FAIL_ENOSPC ? ENOSPC : 0;
    return action;
}

void failpoint_fail_log(commit_point point)
{
    if (failpoint(FAIL_AT_POINT + 2 * (unsigned)point) != 0) {
        write_errno = errno;
    }
}

int failpoint_write_errno(void)
{
    int error = write_errno;
    write_errno = 0;
    return error;
}

/* Which hosts a selector names, and choosing one of them. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/selector.h"

static bool matches(const struct selector *s, const struct peer *p)
{
    char *url = (char *)p->url; /* lent to a list of one, read only */
    gw_strs urls = {.items = &url, .len = p->url[0] ? 1 : 0};
    struct selector_host host = {.name = p->name,
                                 .id = &p->id,
                                 .urls = &urls,
                                 .tags = &p->tags,
                                 .properties = &p->properties};
    return selector_matches(s, &host);
}

size_t peers_select(struct node *n, const char *selector, struct peer **ret, size_t cap,
                    struct gw_error *why)
{
    struct selector s;
    size_t found = 0;
    if (selector_parse(selector, &s, why) != GW_OK) {
        return 0;
    }
    gw_fail(why, GW_EHOST_NOT_FOUND, "no host matches \"%s\"", selector);
    gw_hint(why, "`godwit hosts` lists the members that host \"%s\" knows", n->name);
    for (struct peer *p = n->peers; p && found < cap; p = p->hh.next) {
        if ((p->name[0] || s.kind == SELECT_ID) && matches(&s, p)) {
            ret[found++] = p;
        }
    }
    return found;
}

static const char *missing_tag(const struct peer *p, const gw_value *require)
{
    for (size_t i = 0; require && require->kind == GW_LIST && i < require->list.n; i++) {
        const char *tag = require->list.items[i].kind == GW_STR ? require->list.items[i].s.p : "";
        bool there = false;
        for (size_t t = 0; t < p->tags.len && !there; t++) {
            there = strcasecmp(p->tags.items[t], tag) == 0;
        }
        if (!there) {
            return tag;
        }
    }
    return NULL;
}

#define FULL_US 5000000 /* as long as a host that was full is not asked again */

void peer_is_full(struct peer *p, int64_t now_us)
{
    p->full_until_us = now_us + FULL_US;
}

static bool may_have_room(const struct node *n, const struct peer *p)
{
    return p->full_until_us == 0 || n->env->mono_us(n->env->ctx) >= p->full_until_us;
}

const struct peer *peer_better(const struct node *n, const struct peer *full, const char *type)
{
    for (const struct peer *p = n->peers; p; p = p->hh.next) {
        if (p != full && !p->self && p->up && move_out_takes_type(p, type) && may_have_room(n, p)) {
            return p;
        }
    }
    return NULL;
}

/* Of those that are up, who is not known to be full, in front; how many. */
static size_t with_room(const struct node *n, struct peer **found, size_t ups)
{
    size_t count = 0;
    for (size_t i = 0; i < ups; i++) {
        if (may_have_room(n, found[i])) {
            found[count++] = found[i];
        }
    }
    return count;
}

/* One of `found`, which has all that match; it is put in order anew. */
static gw_err pick(struct node *n, struct peer **found, size_t count, bool choice, bool not_self,
                   const gw_value *require, struct peer **ret, struct gw_error *why)
{
    const char *missing = missing_tag(found[0], require);
    const struct peer *first = found[0];
    size_t fit = 0, ups = 0;
    for (size_t i = 0; i < count; i++) {
        if (!missing_tag(found[i], require)) {
            found[fit++] = found[i];
        }
    }
    if (fit == 0) {
        return gw_fail(why, GW_EREFUSED, "host \"%s\" does not have the required tag \"%.64s\"",
                       peer_label(first), missing);
    }
    first = found[0];
    for (size_t i = 0; i < fit; i++) {
        if (found[i]->up && !(choice && not_self && found[i]->self)) {
            found[ups++] = found[i];
        }
    }
    if (ups == 0 && fit == 1 && first->self) {
        return gw_fail(why, GW_EHOST_NOT_FOUND,
                       "no host but \"%s\" itself matches and is reachable", n->name);
    }
    if (ups == 0) {
        gw_fail(why, GW_EUNREACHABLE, "host \"%s\" is not reachable", peer_label(first));
        gw_hint(why, "`godwit hosts` shows the state of each member");
        return GW_EUNREACHABLE;
    }
    if (!choice) {
        *ret = found[0];
        return GW_OK;
    }
    first = found[0];
    ups = with_room(n, found, ups);
    if (ups == 0) {
        gw_fail(why, GW_EBUSY, "every host that fits is full, host \"%s\" for one",
                peer_label(first));
        gw_hint(why, "try again in %d s, or name more hosts", FULL_US / 1000000);
        return GW_EBUSY;
    }
    uint32_t random;
    node_random(n, &random, sizeof random);
    *ret = found[random % ups];
    return GW_OK;
}

gw_err peers_pick_tagged(struct node *n, const char *selector, bool not_self,
                         const gw_value *require, struct peer **ret, struct gw_error *why)
{
    struct gw_error local;
    struct selector s;
    why = why ? why : &local;
    GW_TRY(selector_parse(selector, &s, why));
    if (s.kind == SELECT_ALL) {
        return gw_fail(why, GW_EARG, "\"all\" names every host; one is wanted here");
    }
    size_t cap = HASH_COUNT(n->peers);
    struct peer **found = xcalloc(cap, sizeof(struct peer *));
    size_t count = peers_select(n, selector, found, cap, why);
    gw_err err = count == 0 ? why->code
                            : pick(n, found, count, s.kind == SELECT_ANY || s.kind == SELECT_TERMS,
                                   not_self, require, ret, why);
    free(found);
    return err;
}

gw_err peers_pick(struct node *n, const char *selector, bool not_self, struct peer **ret,
                  struct gw_error *why)
{
    return peers_pick_tagged(n, selector, not_self, NULL, ret, why);
}

/* Which hosts a selector names, and choosing one of them. */
#include "host/core/internal.h"

#include <string.h>

#include "protocol/selector.h"

static bool matches(const struct selector *s, const struct peer *p)
{
    char *url = (char *)p->url; /* lent to a list of one, read only */
    gw_strs urls = {.items = &url, .len = p->url[0] ? 1 : 0};
    struct selector_host host = {
        .name = p->name, .id = &p->id, .urls = &urls, .tags = &p->tags, .properties = &p->properties};
    return selector_matches(s, &host);
}

static bool is_named(const struct selector *s, const struct peer *p)
{
    return (p->name[0] || s->kind == SELECT_ID) && matches(s, p);
}

gw_err peers_pick(struct node *n, const char *selector, bool not_self, struct peer **ret,
                  struct gw_error *why)
{
    struct peer *first = NULL, *chosen = NULL;
    struct gw_error local;
    struct selector s;
    uint64_t ups = 0;
    why = why ? why : &local;
    GW_TRY(selector_parse(selector, &s, why));
    if (s.kind == SELECT_ALL) {
        return gw_fail(why, GW_EARG, "\"all\" names every host; one is wanted here");
    }
    bool choice = s.kind == SELECT_ANY || s.kind == SELECT_TERMS;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (!is_named(&s, p)) {
            continue;
        }
        uint64_t random = 0;
        first = first ? first : p;
        if (!p->up || (choice && not_self && p->self)) {
            continue;
        }
        node_random(n, &random, sizeof random);
        if (ups++ == 0 || (choice && random % ups == 0)) {
            chosen = p; /* each of those seen so far with the same chance */
        }
    }
    if (!first) {
        gw_fail(why, GW_EHOST_NOT_FOUND, "no host matches \"%s\"", selector);
        gw_hint(why, "`godwit hosts` lists the members that host \"%s\" knows", n->name);
        return GW_EHOST_NOT_FOUND;
    }
    if (!chosen && choice && first->self) {
        return gw_fail(why, GW_EHOST_NOT_FOUND, "no other host matches \"%s\" and is reachable", selector);
    }
    if (!chosen) {
        gw_fail(why, GW_EUNREACHABLE, "host \"%s\" is not reachable", peer_label(first));
        gw_hint(why, "`godwit hosts` shows the state of each member");
        return GW_EUNREACHABLE;
    }
    *ret = chosen;
    return GW_OK;
}

/* Which hosts a selector names, and choosing one of them. */
#include "host/core/internal.h"

#include <string.h>

#include "protocol/selector.h"

#define CHOICES_MAX 64

static bool matches(const struct selector *s, const struct peer *p)
{
    char *url = (char *)p->url; /* lent to a list of one, read only */
    gw_strs urls = {.items = &url, .len = p->url[0] ? 1 : 0};
    struct selector_host host = {
        .name = p->name, .id = &p->id, .urls = &urls, .tags = &p->tags, .properties = &p->properties};
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

gw_err peers_pick(struct node *n, const char *selector, bool not_self, struct peer **ret,
                  struct gw_error *why)
{
    struct peer *found[CHOICES_MAX], *up[CHOICES_MAX];
    struct gw_error local;
    struct selector s;
    size_t ups = 0;
    why = why ? why : &local;
    GW_TRY(selector_parse(selector, &s, why));
    if (s.kind == SELECT_ALL) {
        return gw_fail(why, GW_EARG, "\"all\" names every host; one is wanted here");
    }
    size_t count = peers_select(n, selector, found, CHOICES_MAX, why);
    if (count == 0) {
        return why->code;
    }
    bool choice = s.kind == SELECT_ANY || s.kind == SELECT_TERMS;
    for (size_t i = 0; i < count; i++) {
        if (found[i]->up && !(choice && not_self && found[i]->self)) {
            up[ups++] = found[i];
        }
    }
    if (ups == 0) {
        gw_fail(why, GW_EUNREACHABLE, "host \"%s\" is not reachable", peer_label(found[0]));
        gw_hint(why, "`godwit hosts` shows the state of each member");
        return why->code;
    }
    uint32_t random;
    node_random(n, &random, sizeof random);
    *ret = up[choice ? random % ups : 0];
    return GW_OK;
}

#include "protocol/place.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/selector.h"

/* What the text says of itself by its beginning; SELECT_NAME: nothing. */
static selector_kind announced(const char *text)
{
    if (strncasecmp(text, "https://", 8) == 0 || strncasecmp(text, "http://", 7) == 0) {
        return SELECT_URL; /* the second is none, but no host named "http" either */
    }
    bool terms =
        text[0] == '!' || strncmp(text, "tag:", 4) == 0 || strncmp(text, "property:", 9) == 0;
    return terms ? SELECT_TERMS : SELECT_NAME;
}

/* Whether the first n bytes are a selector, and of the kind that was announced. NULL: they are not;
 * else a copy of them. */
static char *selector_in(const char *text, size_t n)
{
    struct selector s;
    selector_kind kind = announced(text);
    char *copy = strndup(text, n);
    bool fits = copy && selector_parse(copy, &s, NULL) == GW_OK &&
                (s.kind == kind || (kind == SELECT_NAME && s.kind != SELECT_URL));
    if (!fits) {
        free(copy);
        return NULL;
    }
    return copy;
}

static bool path_begins(const char *p)
{
    return *p == '\0' || *p == '/' || *p == '~' || *p == '.';
}

gw_err place_parse(const char *text, struct place *ret, struct gw_error *why)
{
    char *selector = NULL;
    const char *path = NULL;
    for (const char *p = strchr(text, ':'); p; p = strchr(p + 1, ':')) {
        if (path && !path_begins(p + 1)) {
            continue;
        }
        char *longer = selector_in(text, (size_t)(p - text));
        if (!longer) {
            continue;
        }
        free(selector);
        selector = longer;
        path = p + 1;
        if (path_begins(path)) {
            break;
        }
    }
    if (!selector) {
        gw_fail(why, GW_EARG, "\"%.100s\" does not name a host and a path", text);
        gw_hint(why, "write HOST:PATH, as in beta:/srv/data or tag:gpu:~/results; `godwit hosts` "
                     "lists the hosts");
        return GW_EARG;
    }
    char *rest = strdup(path);
    if (!rest) {
        free(selector);
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *ret = (struct place){selector, rest};
    return GW_OK;
}

void place_free(struct place *p)
{
    free(p->selector);
    free(p->path);
    *p = (struct place){0};
}

#include "host/files/exclude.h"

#include <stdlib.h>
#include <string.h>

#include "host/files/names.h"
#include "protocol/limits.h"

struct exclude {
    char *pattern;     /* without what the flags say; owned */
    bool taken_back;   /* ! */
    bool folders_only; /* / at the end */
    bool whole;        /* / at the beginning: the path from its beginning */
    bool parts;        /* / in the middle: as many last parts of the path */
};

static gw_err exclude_set(struct exclude *x, const char *text, struct gw_error *why)
{
    x->taken_back = text[0] == '!';
    text += x->taken_back;
    x->whole = text[0] == '/';
    text += x->whole;
    size_t n = strlen(text);
    x->folders_only = n > 0 && text[n - 1] == '/';
    x->pattern = strndup(text, n - x->folders_only);
    if (!x->pattern) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    x->parts = strchr(x->pattern, '/') != NULL;
    return names_check_pattern(x->pattern, why);
}

gw_err excludes_set(struct excludes *x, const char *const *patterns, size_t n, struct gw_error *why)
{
    if (n > LIMIT_FILE_EXCLUDES) {
        return gw_fail(why, GW_ETOO_BIG, "%zu excludes are more than %d", n, LIMIT_FILE_EXCLUDES);
    }
    struct excludes new = {.items = n ? calloc(n, sizeof *new.items) : NULL};
    if (n && !new.items) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    for (; new.count < n; new.count++) {
        gw_err err = exclude_set(&new.items[new.count], patterns[new.count], why);
        if (err) {
            new.count++;
            excludes_clear(&new);
            return err;
        }
    }
    *x = new;
    return GW_OK;
}

void excludes_clear(struct excludes *x)
{
    for (size_t i = 0; i < x->count; i++) {
        free(x->items[i].pattern);
    }
    free(x->items);
    *x = (struct excludes){0};
}

static bool fits(const struct exclude *x, const char *path)
{
    if (x->whole) {
        return names_fit_path(x->pattern, path, true);
    }
    if (!x->parts) {
        const char *last = strrchr(path, '/');
        return names_fit_path(x->pattern, last ? last + 1 : path, true);
    }
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (names_fit_path(x->pattern, at, true)) {
            return true;
        }
    }
    return false;
}

bool excludes_fit(const struct excludes *x, const char *path, bool folder)
{
    for (size_t i = 0; i < x->count; i++) {
        if ((folder || !x->items[i].folders_only) && fits(&x->items[i], path)) {
            return !x->items[i].taken_back;
        }
    }
    return false;
}

#include "protocol/selector.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "protocol/text.h"

/* --- parsing --- */

static bool starts_with(const char *text, const char *head)
{
    return strncmp(text, head, strlen(head)) == 0;
}

/* The end of "https://host[:port]" after its scheme; the host may be an IPv6 address in brackets.
 */
static bool url_is_valid(const char *url)
{
    const char *p = url + strlen("https://");
    size_t host = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    if (*p == '[') {
        host = 1 + strspn(p + 1, "0123456789abcdefABCDEF:.%");
        if (host < 3 || p[host++] != ']') {
            return false;
        }
    }
    if (host == 0 || p[host] != ':') {
        return false;
    }
    char port[6];
    p += host + 1;
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || digits >= sizeof port ||
        (strcmp(p + digits, "") != 0 && strcmp(p + digits, "/") != 0)) {
        return false;
    }
    memcpy(port, p, digits);
    port[digits] = '\0';
    int64_t number;
    return text_int(port, &number) == GW_OK && number >= 1 && number <= 65535;
}

static gw_err fault(struct gw_error *why, const char *text, const char *at, const char *what)
{
    gw_fail(why, GW_EARG, "the selector is not valid: %s", what);
    text_caret(why, text, (size_t)(at - text));
    return GW_EARG;
}

/* Copy [from, to) into a fixed array; false when empty or too long. */
static bool copy_part(const char *from, const char *to, char *ret, size_t cap)
{
    size_t n = (size_t)(to - from);
    if (n == 0 || n >= cap) {
        return false;
    }
    memcpy(ret, from, n);
    ret[n] = '\0';
    return true;
}

/* One term in [p, end). */
static gw_err parse_term(const char *text, const char *p, const char *end,
                         struct selector_term *ret, struct gw_error *why)
{
    if (p < end && *p == '!') {
        ret->negated = true;
        p++;
    }
    const char *key_end = end;
    if (starts_with(p, "tag:") && p + 4 <= end) {
        p += 4;
    } else if (starts_with(p, "property:") && p + 9 <= end) {
        ret->property = true;
        p += 9;
        key_end = memchr(p, '=', (size_t)(end - p));
        if (!key_end) {
            return fault(why, text, end, "a property term is \"property:NAME=VALUE\"");
        }
    } else {
        return fault(why, text, p, "a term begins with \"tag:\" or \"property:\"");
    }
    if (!copy_part(p, key_end, ret->key, sizeof ret->key) || !name_is_valid(ret->key)) {
        return fault(why, text, p,
                     ret->property ? "this is not the name of a property" : "this is not a tag");
    }
    if (ret->property && key_end + 1 < end &&
        !copy_part(key_end + 1, end, ret->value, sizeof ret->value)) {
        return fault(why, text, key_end + 1, "the value is longer than 256 bytes");
    }
    return GW_OK;
}

static gw_err parse_terms(const char *text, struct selector *s, struct gw_error *why)
{
    const char *p = text;
    for (;;) {
        p += strspn(p, " ");
        const char *end = strchr(p, ',');
        const char *next = end ? end + 1 : NULL;
        end = end ? end : p + strlen(p);
        if (s->term_count == SELECTOR_TERMS) {
            return fault(why, text, p, "more than 16 terms");
        }
        GW_TRY(parse_term(text, p, end, &s->terms[s->term_count], why));
        s->term_count++;
        if (!next) {
            return GW_OK;
        }
        p = next;
    }
}

static bool is_terms(const char *text)
{
    return *text == '!' || strchr(text, ',') || starts_with(text, "tag:") ||
           starts_with(text, "property:");
}

gw_err selector_parse(const char *text, struct selector *ret, struct gw_error *why)
{
    struct selector s = {0};
    size_t n = text ? strlen(text) : 0;
    if (n == 0) {
        return gw_fail(why, GW_EARG, "the selector is empty");
    }
    if (is_terms(text)) {
        s.kind = SELECT_TERMS;
        GW_TRY(parse_terms(text, &s, why));
        snprintf(s.text, sizeof s.text, "%s", text); /* for show only: the terms are what counts */
    } else if (!copy_part(text, text + n, s.text, sizeof s.text)) {
        return gw_fail(why, GW_EARG, "the selector is longer than 256 bytes");
    } else if (strcmp(text, "any") == 0) {
        s.kind = SELECT_ANY;
    } else if (strcmp(text, "all") == 0) {
        s.kind = SELECT_ALL;
    } else if (strncasecmp(text, "https://", 8) == 0) {
        s.kind = SELECT_URL;
        if (!url_is_valid(text)) {
            return gw_fail(why, GW_EARG, "the URL \"%s\" is not of the form https://host:port",
                           text);
        }
    } else if (host_id_parse(text, &s.id) == GW_OK) {
        s.kind = SELECT_ID;
    } else if (name_is_valid(text)) {
        s.kind = SELECT_NAME;
    } else {
        char shown[80];
        snprintf(shown, sizeof shown, "%s", text);
        text_clean(shown);
        gw_fail(why, GW_EARG, "\"%s\" does not name a host", shown);
        gw_hint(why, "use a name, https://host:port, a host id, tag:a,!tag:b, any or all");
        return GW_EARG;
    }
    *ret = s;
    return GW_OK;
}

/* --- matching --- */

static bool url_equal(const char *a, const char *b)
{
    size_t n = strlen(a), k = strlen(b);
    n -= n > 0 && a[n - 1] == '/';
    k -= k > 0 && b[k - 1] == '/';
    return n == k && strncasecmp(a, b, n) == 0;
}

static bool holds(const gw_strs *list, const char *text, bool (*equal)(const char *, const char *))
{
    for (size_t i = 0; list && i < list->len; i++) {
        if (equal(list->items[i], text)) {
            return true;
        }
    }
    return false;
}

static bool tag_equal(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

static bool has_property(const gw_strs *list, const struct selector_term *term)
{
    size_t n = strlen(term->key);
    for (size_t i = 0; list && i < list->len; i++) {
        const char *p = list->items[i];
        if (strncmp(p, term->key, n) == 0 && p[n] == '=' && strcmp(p + n + 1, term->value) == 0) {
            return true;
        }
    }
    return false;
}

static bool term_matches(const struct selector_term *term, const struct selector_host *host)
{
    bool found = term->property ? has_property(host->properties, term)
                                : holds(host->tags, term->key, tag_equal);
    return found != term->negated;
}

bool selector_matches(const struct selector *s, const struct selector_host *host)
{
    switch (s->kind) {
    case SELECT_ANY:
    case SELECT_ALL: return true;
    case SELECT_NAME: return host->name && strcmp(host->name, s->text) == 0;
    case SELECT_URL: return holds(host->urls, s->text, url_equal);
    case SELECT_ID: return host->id && host_id_equal(host->id, &s->id);
    case SELECT_TERMS: break;
    }
    for (size_t i = 0; i < s->term_count; i++) {
        if (!term_matches(&s->terms[i], host)) {
            return false;
        }
    }
    return s->term_count > 0;
}

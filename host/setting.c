/* What each setting takes: conversion and checks, one function per form of text. */
#include "host/setting.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/id.h"
#include "protocol/text.h"

/* --- forms of text; each says in `why` what it wants --- */

static gw_err check_none(const char *text, struct gw_error *why)
{
    (void)text;
    (void)why;
    return GW_OK;
}

static gw_err check_name(const char *text, struct gw_error *why)
{
    struct host_id id;
    if (!name_is_valid(text)) {
        gw_fail(why, GW_EARG, "\"%.80s\" is not a name", text);
        gw_hint(why, "a name begins with a letter or digit and holds letters, digits, . _ - only");
        return GW_EARG;
    }
    if (strcmp(text, "any") == 0 || strcmp(text, "all") == 0) {
        return gw_fail(why, GW_EARG, "\"%s\" cannot be a name: selectors use that word", text);
    }
    if (host_id_parse(text, &id) == GW_OK) {
        return gw_fail(why, GW_EARG, "\"%s\" cannot be a name: it reads like a host id", text);
    }
    return GW_OK;
}

static gw_err check_tag(const char *text, struct gw_error *why)
{
    if (!name_is_valid(text)) {
        gw_fail(why, GW_EARG, "\"%.80s\" is not a tag", text);
        gw_hint(why, "a tag begins with a letter or digit and holds letters, digits, . _ - only");
        return GW_EARG;
    }
    return GW_OK;
}

static bool has_control(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return true;
        }
    }
    return false;
}

/* Copy n bytes to an array of cap bytes; false when they do not fit. */
static bool part(const char *text, size_t n, char *ret, size_t cap)
{
    if (n >= cap) {
        return false;
    }
    memcpy(ret, text, n);
    ret[n] = '\0';
    return true;
}

static gw_err check_property(const char *text, struct gw_error *why)
{
    char key[LIMIT_NAME_BYTES + 1];
    const char *equals = strchr(text, '=');
    if (!equals) {
        return gw_fail(why, GW_EARG, "\"%.80s\" is not of the form K=V", text);
    }
    if (!part(text, (size_t)(equals - text), key, sizeof key) || !name_is_valid(key)) {
        return gw_fail(why, GW_EARG, "\"%.80s\" does not begin with a name before \"=\"", text);
    }
    if (strlen(text) > LIMIT_PROPERTY_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "the property \"%s\" is longer than %d bytes", key,
                       LIMIT_PROPERTY_BYTES);
    }
    if (has_control(text)) {
        return gw_fail(why, GW_EARG, "the property \"%s\" holds a control character", key);
    }
    return GW_OK;
}

static gw_err check_port(const char *text, uint64_t least, struct gw_error *why)
{
    uint64_t port;
    if (*text < '0' || *text > '9' || text_uint(text, &port) != GW_OK || port < least ||
        port > 65535) {
        return gw_fail(why, GW_EARG, "\"%.20s\" is not a port number", text);
    }
    return GW_OK;
}

/* Take ADDR from "ADDR", "ADDR:PORT", "[V6]" or "[V6]:PORT"; the port, or NULL, goes to ret_port.
 */
static gw_err split_address(const char *text, char *ret_addr, size_t cap, bool *ret_v6,
                            const char **ret_port, struct gw_error *why)
{
    const char *end;
    bool v6 = *text == '[';
    if (v6) {
        end = strchr(++text, ']');
        if (!end || (end[1] && end[1] != ':')) {
            return gw_fail(why, GW_EARG, "\"[%.60s\" has no \"]\" before its port", text);
        }
    } else {
        end = text + strcspn(text, ":");
        if (*end && strchr(end + 1, ':')) {
            gw_fail(why, GW_EARG, "\"%.60s\" has more than one \":\"", text);
            gw_hint(why, "write an IPv6 address in brackets: [::1]:7420");
            return GW_EARG;
        }
    }
    if (!part(text, (size_t)(end - text), ret_addr, cap) || !*ret_addr) {
        return gw_fail(why, GW_EARG, "\"%.60s\" is not an address", text);
    }
    end += v6;
    *ret_v6 = v6;
    *ret_port = *end ? end + 1 : NULL;
    return GW_OK;
}

static bool is_numeric(const char *address, bool v6)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    return inet_pton(v6 ? AF_INET6 : AF_INET, address, bytes) == 1;
}

static gw_err check_listen(const char *text, struct gw_error *why)
{
    char address[64];
    const char *port;
    bool v6;
    GW_TRY(split_address(text, address, sizeof address, &v6, &port, why));
    if (!is_numeric(address, v6)) {
        gw_fail(why, GW_EARG, "\"%s\" is not a numeric address", address);
        gw_hint(why, "for example 127.0.0.1, 0.0.0.0:7420 or [::1]:7420");
        return GW_EARG;
    }
    return port ? check_port(port, 0, why) : GW_OK;
}

static gw_err check_peer(const char *text, struct gw_error *why)
{
    static const char scheme[] = "https://";
    char host[254];
    const char *port;
    bool v6;
    if (strncmp(text, scheme, sizeof scheme - 1) != 0) {
        gw_fail(why, GW_EARG, "\"%.80s\" does not begin with https://", text);
        gw_hint(why, "a peer is given as https://ADDR:PORT");
        return GW_EARG;
    }
    text += sizeof scheme - 1;
    GW_TRY(split_address(text, host, sizeof host, &v6, &port, why));
    size_t legal = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
    if (v6 ? !is_numeric(host, true) : host[legal] != '\0') {
        return gw_fail(why, GW_EARG, "\"%.80s\" is not the address of a host", host);
    }
    return port ? check_port(port, 1, why) : GW_OK;
}

static gw_err check_path(const char *text, struct gw_error *why)
{
    if (!*text || strlen(text) >= 4096 || has_control(text)) {
        return gw_fail(why, GW_EARG, "\"%.80s\" is not a path", text);
    }
    return GW_OK;
}

static gw_err check_absolute(const char *text, struct gw_error *why)
{
    GW_TRY(check_path(text, why));
    if (*text != '/') {
        return gw_fail(why, GW_EARG, "\"%.80s\" does not begin with /", text);
    }
    return GW_OK;
}

/* --- the table --- */

const struct setting settings[] = {
#define SETTING(kind, key, option, metavar, fallback, least, most, check, help)                    \
    {SETTING_##kind, #key, option, metavar, fallback,                                              \
     least,          most, check,  help,    offsetof(struct host_config, key)},
#include "host/settings.def"
#undef SETTING
};
const size_t settings_count = sizeof settings / sizeof settings[0];

/* --- texts into members --- */

static gw_err set_string(const struct setting *s, char **member, const char *text,
                         struct gw_error *why)
{
    size_t n = strlen(text);
    if (n < s->least || n > s->most) {
        return n == 0 ? gw_fail(why, GW_EARG, "the value is empty")
                      : gw_fail(why, GW_ETOO_BIG, "the value is longer than %llu bytes",
                                (unsigned long long)s->most);
    }
    GW_TRY(s->check(text, why));
    char *copy = strdup(text);
    if (!copy) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    free(*member);
    *member = copy;
    return GW_OK;
}

/* Whether the element stands there already: tags without case, properties by their key. */
static bool stands(const struct setting *s, const gw_strs *list, const char *text)
{
    bool property = strcmp(s->key, "properties") == 0;
    size_t n = property ? strcspn(text, "=") + 1 : strlen(text) + 1;
    for (size_t i = 0; i < list->len; i++) {
        if (strncasecmp(list->items[i], text, n) == 0) {
            return true;
        }
    }
    return false;
}

static gw_err add_element(const struct setting *s, gw_strs *list, const char *text,
                          struct gw_error *why)
{
    GW_TRY(s->check(text, why));
    if (strcmp(s->key, "properties") == 0 && stands(s, list, text)) {
        return gw_fail(why, GW_EARG, "the property \"%.*s\" is given twice",
                       (int)strcspn(text, "="), text);
    }
    if (strcmp(s->key, "tags") == 0 && stands(s, list, text)) {
        return GW_OK;
    }
    if (list->len >= s->most) {
        return gw_fail(why, GW_ETOO_BIG, "more than %llu are given", (unsigned long long)s->most);
    }
    if (gw_strs_add(list, text) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return GW_OK;
}

static gw_err set_choice(const struct setting *s, int *member, const char *text,
                         struct gw_error *why)
{
    int place = 0;
    size_t n = strlen(text);
    for (const char *word = s->metavar;; place++) {
        size_t len = strcspn(word, "|");
        if (len == n && memcmp(word, text, n) == 0) {
            *member = place;
            return GW_OK;
        }
        if (!word[len]) {
            return gw_fail(why, GW_EARG, "\"%.40s\" is none of %s", text, s->metavar);
        }
        word += len + 1;
    }
}

static gw_err set_number(const struct setting *s, uint64_t *member, const char *text,
                         struct gw_error *why)
{
    uint64_t v;
    bool size = s->kind == SETTING_SIZE;
    bool digit = *text >= '0' && *text <= '9'; /* no sign, no white space */
    if (!digit || (size ? text_size(text, &v) : text_uint(text, &v)) != GW_OK) {
        return gw_fail(why, GW_EARG, "\"%.40s\" is not a %s", text,
                       size ? "size (as 4096, 64K, 1.5G)" : "number");
    }
    if (v < s->least || v > s->most) {
        return gw_fail(why, GW_EARG, "%s is not within %llu and %llu", text,
                       (unsigned long long)s->least, (unsigned long long)s->most);
    }
    *member = v;
    return GW_OK;
}

gw_err setting_set(const struct setting *s, struct host_config *config, const char *text,
                   struct gw_error *why)
{
    void *member = (char *)config + s->offset;
    switch (s->kind) {
    case SETTING_STRING: return set_string(s, member, text, why);
    case SETTING_LIST: return add_element(s, member, text, why);
    case SETTING_CHOICE: return set_choice(s, member, text, why);
    case SETTING_COUNT:
    case SETTING_SIZE: return set_number(s, member, text, why);
    }
    return GW_EFAIL;
}

void setting_clear(const struct setting *s, struct host_config *config)
{
    if (s->kind == SETTING_LIST) {
        gw_strs_clear((gw_strs *)(void *)((char *)config + s->offset));
    }
}

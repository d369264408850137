#include "clients/cli/args.h"

#include <stdio.h>
#include <string.h>

#include "protocol/base/buf.h"
#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/value.h"

/* [A-Za-z_][A-Za-z0-9_.-]*, as parameters and fields are named. */
static bool key_is_valid(const char *p, size_t n)
{
    if (n == 0 || n > LIMIT_NAME_BYTES) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool letter = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') || p[i] == '_';
        bool other = (p[i] >= '0' && p[i] <= '9') || p[i] == '-' || p[i] == '.';
        if (!letter && (i == 0 || !other)) {
            return false;
        }
    }
    return true;
}

static gw_err parse_json(const char *key, const char *text, gw_value *ret, struct gw_error *why)
{
    struct gw_error fault = {0};
    gw_err err = json_parse(text, strlen(text), ret, &fault);
    if (err != GW_OK) {
        (void)gw_fail(why, err, "%s:= is not followed by JSON: %s", key, fault.text);
        gw_hint(why, "text in JSON stands in double quotes: '%s:=\"text\"', or use %s=text", key,
                key);
    }
    return err;
}

static gw_err parse_text(const char *key, const char *text, gw_value *ret, struct gw_error *why)
{
    size_t n = strlen(text);
    if (!utf8_is_valid(text, n)) {
        gw_err err = gw_fail(why, GW_EARG, "the value of \"%s\" is not valid UTF-8", key);
        gw_hint(why, "bytes go as %s:='{\"base64\": \"...\"}'", key);
        return err;
    }
    gw_err err = gw_value_set_str(ret, text, n);
    return err == GW_OK ? err : gw_fail(why, err, "out of memory");
}

static gw_err parse_word(const char *word, gw_value *map, bool *text, struct gw_error *why)
{
    size_t at = strcspn(word, "=");
    bool json = at > 0 && word[at] == '=' && word[at - 1] == ':';
    size_t key_len = json ? at - 1 : at;
    if (word[at] != '=' || !key_is_valid(word, key_len)) {
        gw_err err =
            gw_fail(why, GW_EARG, "\"%.80s\" is not of the form key=value or key:=JSON", word);
        return err;
    }
    char key[LIMIT_NAME_BYTES + 1];
    snprintf(key, sizeof key, "%.*s", (int)key_len, word);
    if (gw_map_get(map, key)) {
        return gw_fail(why, GW_EARG, "\"%s\" is given twice", key);
    }
    gw_value value = gw_nil();
    GW_TRY((json ? parse_json : parse_text)(key, word + at + 1, &value, why));
    *text = *text || !json;
    gw_err err = gw_map_set(map, key, value);
    return err == GW_OK ? err : gw_fail(why, err, "out of memory");
}

gw_err args_parse(char *const *words, int n, gw_value *ret, bool *ret_text, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value map = {.kind = GW_MAP};
    bool text = false;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        bytes += strlen(words[i]);
        if (bytes > LIMIT_ARGS_BYTES) {
            return gw_fail(why, GW_ETOO_BIG, "the arguments are longer than %u bytes",
                           LIMIT_ARGS_BYTES);
        }
        GW_TRY(parse_word(words[i], &map, &text, why));
    }
    *ret = map;
    *ret_text = text;
    map = gw_nil();
    return GW_OK;
}

/* The config file: YAML through libcyaml, whose schema is made from the settings table. libcyaml
 * hands over texts only; setting_set converts and checks them, as it does for options. */
#include "host/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cyaml/cyaml.h>

#include "host/setting.h"
#include "protocol/text.h"

#define VALUE_BYTES  4096 /* one text of the file */
#define LIST_ENTRIES 256  /* more than any list setting takes: setting_set says it better */

/* The file as libcyaml fills it: a text, or a list of texts, for each row. */
#define RAW_STRING(key) char *key;
#define RAW_CHOICE(key) char *key;
#define RAW_COUNT(key)  char *key;
#define RAW_SIZE(key)   char *key;
#define RAW_LIST(key)                                                                              \
    char **key;                                                                                    \
    unsigned key##_count;
struct raw {
#define SETTING(kind, key, ...) RAW_##kind(key)
#include "host/settings.def"
#undef SETTING
};

static const cyaml_schema_value_t element = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, VALUE_BYTES)};

#define FLAGS           (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define FIELD_TEXT(key) CYAML_FIELD_STRING_PTR(#key, FLAGS, struct raw, key, 0, VALUE_BYTES),
#define FIELD_STRING    FIELD_TEXT
#define FIELD_CHOICE    FIELD_TEXT
#define FIELD_COUNT     FIELD_TEXT
#define FIELD_SIZE      FIELD_TEXT
#define FIELD_LIST(key)                                                                            \
    CYAML_FIELD_SEQUENCE(#key, FLAGS, struct raw, key, &element, 0, LIST_ENTRIES),
static const cyaml_schema_field_t raw_fields[] = {
#define SETTING(kind, key, ...) FIELD_##kind(key)
#include "host/settings.def"
#undef SETTING
    CYAML_FIELD_END};

static const cyaml_schema_value_t document = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, raw_fields)};

/* Where the texts of row i stand in struct raw. */
static const struct {
    size_t offset, count_offset;
} raw_places[] = {
#define PLACE_TEXT(key)         {offsetof(struct raw, key), 0},
#define PLACE_STRING            PLACE_TEXT
#define PLACE_CHOICE            PLACE_TEXT
#define PLACE_COUNT             PLACE_TEXT
#define PLACE_SIZE              PLACE_TEXT
#define PLACE_LIST(key)         {offsetof(struct raw, key), offsetof(struct raw, key##_count)},
#define SETTING(kind, key, ...) PLACE_##kind(key)
#include "host/settings.def"
#undef SETTING
};

/* --- what libcyaml says, in our words --- */

struct report {
    char first[160]; /* its first line */
    char place[120]; /* the innermost "in ... (line: L, column: C)" */
    bool trace;
};

static void take_line(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct report *r = ctx;
    char line[200];
    (void)level;
    vsnprintf(line, sizeof line, fmt, args);
    line[strcspn(line, "\n")] = '\0';
    const char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    if (strcmp(text, "Backtrace:") == 0) {
        r->trace = true;
    } else if (!r->trace && !r->first[0]) {
        snprintf(r->first, sizeof r->first, "%.*s", (int)sizeof r->first - 1, text);
    } else if (r->trace && !r->place[0]) {
        snprintf(r->place, sizeof r->place, "%.*s", (int)sizeof r->place - 1,
                 text + strspn(text, " "));
    }
    text_clean(r->first);
    text_clean(r->place);
}

/* Number of the line that begins with this key; 0 when none does. */
static unsigned line_of_key(struct span text, const char *key)
{
    size_t n = strlen(key);
    unsigned line = 1;
    for (size_t i = 0; i < text.n; i++) {
        bool begins = i == 0 || text.p[i - 1] == '\n';
        if (begins && n < text.n - i && memcmp(text.p + i, key, n) == 0 && text.p[i + n] == ':') {
            return line;
        }
        line += text.p[i] == '\n';
    }
    return 0;
}

static gw_err explain(cyaml_err_t err, const struct report *r, struct span text, const char *file,
                      struct gw_error *why)
{
    static const char unknown[] = "Unexpected key: ", doubled[] = "Mapping field already seen: ";
    const char *key = NULL, *what = NULL;
    if (err == CYAML_ERR_OOM) {
        return gw_fail(why, GW_ENOMEM, "out of memory for config file \"%s\"", file);
    }
    if (strncmp(r->first, unknown, sizeof unknown - 1) == 0) {
        key = r->first + sizeof unknown - 1;
        what = "unknown key";
    } else if (strncmp(r->first, doubled, sizeof doubled - 1) == 0) {
        key = r->first + sizeof doubled - 1;
        what = "a second key";
    }
    if (key) {
        unsigned line = line_of_key(text, key);
        gw_fail(why, GW_EARG, "config file \"%s\": %s \"%.64s\"", file, what, key);
        if (line > 0 && err == CYAML_ERR_INVALID_KEY) {
            gw_prefix(why, "line %u", line);
        }
        gw_hint(why, "docs/settings.md lists the keys");
        return GW_EARG;
    }
    if (err == CYAML_ERR_ALIAS) {
        return gw_fail(why, GW_EARG, "config file \"%s\": aliases (*name) are not taken, %s", file,
                       r->place);
    }
    return gw_fail(why, GW_EARG, "config file \"%s\": %s%s%s", file,
                   r->first[0] ? r->first : cyaml_strerror(err), r->place[0] ? ", " : "", r->place);
}

/* --- texts into the config --- */

static gw_err set_key(const struct setting *s, struct host_config *config, const char *text,
                      const char *file, struct gw_error *why)
{
    gw_err err = setting_set(s, config, text ? text : "", why);
    if (err != GW_OK) {
        gw_prefix(why, "config file \"%s\": key \"%s\"", file, s->key);
    }
    return err;
}

static gw_err take(const struct raw *raw, const char *file, struct host_config *config,
                   struct gw_error *why)
{
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *s = &settings[i];
        const char *base = (const char *)raw;
        if (s->kind != SETTING_LIST) {
            char *text;
            memcpy(&text, base + raw_places[i].offset, sizeof text);
            if (text) {
                GW_TRY(set_key(s, config, text, file, why));
            }
            continue;
        }
        char **items;
        unsigned count;
        memcpy(&items, base + raw_places[i].offset, sizeof items);
        memcpy(&count, base + raw_places[i].count_offset, sizeof count);
        if (items) {
            setting_clear(s, config);
        }
        for (unsigned k = 0; items && k < count; k++) {
            GW_TRY(set_key(s, config, items[k], file, why));
        }
    }
    return GW_OK;
}

/* libcyaml reads the first document and ignores what follows; a second one is a mistake. */
static bool has_second_document(struct span text)
{
    bool content = false;
    for (size_t i = 0; i < text.n;) {
        const uint8_t *line = text.p + i;
        const uint8_t *end = memchr(line, '\n', text.n - i);
        size_t n = end ? (size_t)(end - line) : text.n - i;
        if (n >= 3 && memcmp(line, "---", 3) == 0 && content) {
            return true;
        }
        content = content || (n > 0 && line[0] != '#' && line[0] != '%' && line[0] != '\r');
        i += n + 1;
    }
    return false;
}

gw_err config_parse(struct span text, const char *file, struct host_config *config,
                    struct gw_error *why)
{
    if (text.n > LIMIT_CONFIG_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "config file \"%s\" is larger than %u bytes", file,
                       LIMIT_CONFIG_BYTES);
    }
    if (has_second_document(text)) {
        return gw_fail(why, GW_EARG, "config file \"%s\" holds a second document (---)", file);
    }
    struct report report = {0};
    cyaml_config_t setup = {
        .log_fn = take_line,
        .log_ctx = &report,
        .log_level = CYAML_LOG_ERROR,
        .mem_fn = cyaml_mem,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct raw *raw = NULL;
    cyaml_err_t err = cyaml_load_data(text.n ? text.p : (const uint8_t *)"", text.n, &setup,
                                      &document, (cyaml_data_t **)&raw, NULL);
    if (err != CYAML_OK) {
        return explain(err, &report, text, file, why);
    }
    gw_err result = raw ? take(raw, file, config, why) : GW_OK; /* no document: nothing is set */
    cyaml_free(&setup, &document, raw, 0);
    return result;
}

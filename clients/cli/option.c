#include "clients/cli/option.h"

#include <getopt.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/text.h"

#define LONG_BASE   256 /* getopt values above any letter: LONG_BASE + index of the row */
#define HELP_COLUMN 30

/* The rows of both tables in one sequence. */
static const struct cli_option *row_at(const struct options *o, size_t index)
{
    for (const struct cli_option *r = o->global; r && r->name; r++) {
        if (index-- == 0) {
            return r;
        }
    }
    for (const struct cli_option *r = o->own; r && r->name; r++) {
        if (index-- == 0) {
            return r;
        }
    }
    return NULL;
}

static size_t find_row(const struct options *o, const char *name, int letter)
{
    const struct cli_option *row;
    for (size_t i = 0; (row = row_at(o, i)); i++) {
        if (name ? strcmp(row->name, name) == 0 : row->letter == letter) {
            return i;
        }
    }
    return OPTIONS_MAX;
}

/* ---- nearest name ---- */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Steps from a to b: insert, drop, replace, swap neighbours. Words up to 31 characters. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned d[32][32];
    if (n > 31 || m > 31) {
        return 99;
    }
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = least(replace, least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
            }
        }
    }
    return d[n][m];
}

const char *nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    unsigned best_steps = strlen(word) < 4 ? 2 : 3; /* fewer than this are a slip of the finger */
    for (size_t i = 0; i < n; i++) {
        unsigned steps = distance(word, names[i]);
        if (steps < best_steps) {
            best_steps = steps;
            best = names[i];
        }
    }
    return best;
}

/* ---- parsing ---- */

static gw_err unknown_option(const struct options *o, char **argv, struct gw_error *why)
{
    if (optopt > 0 && optopt < LONG_BASE) {
        return gw_fail(why, GW_EARG, "unknown option \"-%c\"", optopt);
    }
    const char *word = argv[optind - 1];
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    if (optopt >= LONG_BASE) {
        return gw_fail(why, GW_EARG, "option \"%s\" takes no value", name);
    }
    const char *names[OPTIONS_MAX];
    size_t n = 0;
    const struct cli_option *row;
    for (; (row = row_at(o, n)); n++) {
        names[n] = row->name;
    }
    gw_err err = gw_fail(why, GW_EARG, "unknown option \"%s\"", name);
    const char *near = nearest_name(name + strspn(name, "-"), names, n);
    if (near) {
        gw_hint(why, "did you mean --%s?", near);
    }
    return err;
}

static bool take_size(const char *text, int64_t *ret)
{
    uint64_t bytes;
    if (text_size(text, &bytes) != GW_OK || bytes > INT64_MAX) {
        return false;
    }
    *ret = (int64_t)bytes;
    return true;
}

static gw_err take_value(struct options *o, size_t index, const char *text, struct gw_error *why)
{
    const struct cli_option *row = row_at(o, index);
    struct option_value *v = &o->values[index];
    const char *wanted = NULL;
    gw_assert(row);
    switch (row->kind) {
    case OPTION_FLAG: break;
    case OPTION_TEXT: break;
    case OPTION_INT: wanted = text_int(text, &v->number) == GW_OK ? NULL : "a whole number"; break;
    case OPTION_DURATION:
        wanted =
            text_duration(text, &v->number) == GW_OK ? NULL : "a duration like 250ms, 5s or 2h";
        break;
    case OPTION_SIZE:
        wanted = take_size(text, &v->number) ? NULL : "a size like 64K, 10M or 1.5G";
        break;
    case OPTION_LIST: GW_TRY(gw_strs_add(&v->list, text)); break;
    }
    if (wanted) {
        return gw_fail(why, GW_EARG, "--%s: \"%.60s\" is not %s", row->name, text, wanted);
    }
    v->given = true;
    v->text = text;
    return GW_OK;
}

/* The tables in the form of getopt_long. Arrays have room for OPTIONS_MAX rows and an end. */
static void make_getopt(const struct options *o, bool stop_early, struct option *longs,
                        char *shorts)
{
    const struct cli_option *row;
    size_t n = 0;
    *shorts++ = stop_early ? '+' : ':';
    if (stop_early) {
        *shorts++ = ':';
    }
    for (; (row = row_at(o, n)); n++) {
        gw_assert(n < OPTIONS_MAX);
        bool takes = row->kind != OPTION_FLAG;
        longs[n] = (struct option){row->name, takes ? required_argument : no_argument, NULL,
                                   LONG_BASE + (int)n};
        if (row->letter) {
            *shorts++ = row->letter;
            if (takes) {
                *shorts++ = ':';
            }
        }
    }
    longs[n] = (struct option){0};
    *shorts = '\0';
}

gw_err options_parse(struct options *o, int argc, char **argv, bool stop_early, int *ret_first,
                     struct gw_error *why)
{
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 * OPTIONS_MAX + 3];
    make_getopt(o, stop_early, longs, shorts);
    opterr = 0;
    optind = 0; /* glibc: start afresh */
    for (;;) {
        optopt = 0;
        int c = getopt_long(argc, argv, shorts, longs, NULL);
        if (c == -1) {
            break;
        }
        if (c == '?') {
            return unknown_option(o, argv, why);
        }
        if (c == ':') {
            return gw_fail(why, GW_EARG, "option \"%s\" needs a value", argv[optind - 1]);
        }
        size_t index = c >= LONG_BASE ? (size_t)(c - LONG_BASE) : find_row(o, NULL, c);
        GW_TRY(take_value(o, index, optarg, why));
    }
    *ret_first = optind;
    return GW_OK;
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < OPTIONS_MAX; i++) {
        gw_strs_clear(&o->values[i].list);
    }
    *o = (struct options){0};
}

/* ---- values ---- */

static const struct option_value *value_of(const struct options *o, const char *name)
{
    size_t index = find_row(o, name, 0);
    gw_assert(index < OPTIONS_MAX);
    return &o->values[index];
}

bool option_given(const struct options *o, const char *name)
{
    return value_of(o, name)->given;
}

const char *option_text(const struct options *o, const char *name)
{
    return value_of(o, name)->text;
}

int64_t option_int(const struct options *o, const char *name, int64_t fallback)
{
    const struct option_value *v = value_of(o, name);
    return v->given ? v->number : fallback;
}

const gw_strs *option_list(const struct options *o, const char *name)
{
    return &value_of(o, name)->list;
}

void options_help(const struct cli_option *table, FILE *out)
{
    for (const struct cli_option *r = table; r && r->name; r++) {
        char left[80];
        int n = r->letter ? snprintf(left, sizeof left, "  -%c, --%s", r->letter, r->name)
                          : snprintf(left, sizeof left, "      --%s", r->name);
        if (r->value && n > 0 && (size_t)n < sizeof left) {
            snprintf(left + n, sizeof left - (size_t)n, " %s", r->value);
        }
        fprintf(out, "%-*s  %s\n", HELP_COLUMN, left, r->help);
    }
}

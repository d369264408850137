/* Recursive descent over the grammar in signature.h; every fault is reported with its place. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/signature_type.h"
#include "protocol/text.h"

struct parser {
    const char *text;
    const char *p; /* next character */
    unsigned depth;
    struct gw_error *why;
};

static gw_err fault(struct parser *ps, const char *at, const char *fmt, ...) GW_PRINTF(3, 4);

static gw_err fault(struct parser *ps, const char *at, const char *fmt, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    text_clean(what);
    gw_fail(ps->why, GW_ESIGNATURE, "the signature is not valid: %s", what);
    text_caret(ps->why, ps->text, (size_t)(at - ps->text));
    return GW_ESIGNATURE;
}

/* --- tokens --- */

static void skip_space(struct parser *ps)
{
    ps->p += strspn(ps->p, " \t\r\n");
}

static bool take(struct parser *ps, const char *token)
{
    skip_space(ps);
    size_t n = strlen(token);
    if (strncmp(ps->p, token, n) != 0) {
        return false;
    }
    ps->p += n;
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A word of letters, digits, '_' and the characters of `more`; `what` is for the message. */
static gw_err take_word(struct parser *ps, const char *what, const char *more, char **ret)
{
    skip_space(ps);
    size_t n = 0;
    while (is_letter(ps->p[n]) ||
           (n > 0 && (is_digit(ps->p[n]) || (ps->p[n] && strchr(more, ps->p[n]))))) {
        n++;
    }
    if (n == 0) {
        return fault(ps, ps->p, "expected %s", what);
    }
    if (n > LIMIT_NAME_BYTES) {
        return fault(ps, ps->p, "%s is longer than %d characters", what, LIMIT_NAME_BYTES);
    }
    *ret = strndup(ps->p, n);
    ps->p += n;
    return *ret ? GW_OK : GW_ENOMEM;
}

/* --- types --- */

static const struct {
    const char *name;
    sig_kind kind;
} bases[] = {
    {"bool", SIG_BOOL},   {"int", SIG_INT},           {"uint", SIG_UINT},
    {"float", SIG_FLOAT}, {"string", SIG_STRING},     {"bytes", SIG_BYTES},
    {"time", SIG_TIME},   {"duration", SIG_DURATION}, {"any", SIG_ANY},
    {"agent", SIG_AGENT}, {"artifact", SIG_ARTIFACT},
};

/* A number up to ".." or "]", or nothing. */
static gw_err parse_bound(struct parser *ps, sig_kind kind, struct sig_bound *ret)
{
    skip_space(ps);
    char number[40];
    size_t n = 0;
    while (ps->p[n] && !strchr("] \t\r\n", ps->p[n]) && strncmp(ps->p + n, "..", 2) != 0) {
        n++;
    }
    if (n == 0) {
        return GW_OK;
    }
    gw_err err = GW_EARG;
    if (n < sizeof number) {
        memcpy(number, ps->p, n);
        number[n] = '\0';
        err = kind == SIG_INT     ? text_int(number, &ret->i)
              : kind == SIG_FLOAT ? text_float(number, &ret->f)
                                  : text_size(number, &ret->u);
    }
    if (err) {
        return fault(ps, ps->p, "this is not a bound of a range of %s",
                     kind == SIG_INT     ? "int"
                     : kind == SIG_FLOAT ? "float"
                     : kind == SIG_UINT  ? "uint"
                                         : "lengths");
    }
    ret->set = true;
    ps->p += n;
    return GW_OK;
}

/* After the '['. */
static gw_err parse_range(struct parser *ps, struct sig_type *type)
{
    const char *start = ps->p - 1;
    bool ranged = type->kind == SIG_INT || type->kind == SIG_UINT || type->kind == SIG_FLOAT ||
                  type->kind == SIG_STRING || type->kind == SIG_BYTES;
    if (!ranged) {
        return fault(ps, start, "this type takes no range");
    }
    GW_TRY(parse_bound(ps, type->kind, &type->lo));
    if (!take(ps, "..")) {
        return fault(ps, ps->p, "expected \"..\" in a range");
    }
    GW_TRY(parse_bound(ps, type->kind, &type->hi));
    if (!take(ps, "]")) {
        return fault(ps, ps->p, "expected \"]\" after a range");
    }
    if (!type->lo.set && !type->hi.set) {
        return fault(ps, start, "a range needs a bound");
    }
    if (type->lo.set && type->hi.set &&
        (type->lo.i > type->hi.i || type->lo.u > type->hi.u || type->lo.f > type->hi.f)) {
        return fault(ps, start, "the range is empty");
    }
    return GW_OK;
}

static gw_err parse_base(struct parser *ps, struct sig_type *type)
{
    GW_AUTO(free_charp) char *word = NULL;
    skip_space(ps);
    const char *start = ps->p;
    GW_TRY(take_word(ps, "a type", "", &word));
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        if (strcmp(bases[i].name, word) == 0) {
            type->kind = bases[i].kind;
            return take(ps, "[") ? parse_range(ps, type) : GW_OK;
        }
    }
    return fault(ps, start, "\"%s\" is not a type", word);
}

static void type_free(struct sig_type *type)
{
    while (type) {
        struct sig_type *elem = type->elem;
        free(type->text);
        free(type);
        type = elem;
    }
}

static gw_err parse_type(struct parser *ps, struct sig_type **ret);

static gw_err parse_type_into(struct parser *ps, struct sig_type *type)
{
    const char *open = "[", *close = "]";
    type->kind = SIG_LIST;
    if (!take(ps, open)) {
        open = "{";
        close = "}";
        type->kind = SIG_MAP;
        if (!take(ps, open)) {
            return parse_base(ps, type);
        }
    }
    if (ps->depth == LIMIT_DEPTH) {
        return fault(ps, ps->p - 1, "the type is nested too deep");
    }
    ps->depth++;
    GW_TRY(parse_type(ps, &type->elem));
    ps->depth--;
    return take(ps, close) ? GW_OK : fault(ps, ps->p, "expected \"%s\" after the type", close);
}

/* The source without its blanks is the canonical text. */
static char *without_space(const char *from, const char *to)
{
    char *text = malloc((size_t)(to - from) + 1), *at = text;
    for (; text && from < to; from++) {
        if (!strchr(" \t\r\n", *from)) {
            *at++ = *from;
        }
    }
    if (text) {
        *at = '\0';
    }
    return text;
}

static gw_err parse_type(struct parser *ps, struct sig_type **ret)
{
    struct sig_type *type = calloc(1, sizeof *type);
    if (!type) {
        return GW_ENOMEM;
    }
    skip_space(ps);
    const char *start = ps->p;
    gw_err err = parse_type_into(ps, type);
    if (!err) {
        type->optional = take(ps, "?");
        type->text = without_space(start, ps->p);
        err = type->text ? GW_OK : GW_ENOMEM;
    }
    if (err) {
        type_free(type);
        return err;
    }
    *ret = type;
    return GW_OK;
}

/* --- defaults --- */

/* The end of the literal at p: a quoted text, or a run without blanks and separators. */
static const char *literal_end(const char *p)
{
    if (*p != '"') {
        return p + strcspn(p, " \t\r\n,()[]{}\"=:");
    }
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        }
    }
    return *p ? p + 1 : p;
}

/* A JSON scalar; what is none, like 5s or 64K, is a text for the type to judge. */
static gw_err read_literal(struct parser *ps, const char *end, gw_value *ret)
{
    size_t n = (size_t)(end - ps->p);
    bool quoted = *ps->p == '"';
    gw_err err = json_parse(ps->p, n, ret, NULL);
    if (err == GW_EARG && quoted) {
        return fault(ps, ps->p, "the text is not valid JSON");
    }
    return err == GW_EARG ? gw_value_set_str(ret, ps->p, n) : err;
}

/* What a text stands for as a default: only types that have no JSON scalar of their own, and
 * numbers with a unit; a quoted "true" is no bool. */
static bool default_is_text(sig_kind kind)
{
    return kind == SIG_INT || kind == SIG_UINT || kind == SIG_DURATION || kind == SIG_TIME ||
           kind == SIG_AGENT || kind == SIG_BYTES;
}

static gw_err parse_default(struct parser *ps, struct sig_param *param)
{
    skip_space(ps);
    const char *start = ps->p, *end = literal_end(start);
    if (end == start) {
        return fault(ps, start, "expected a default value");
    }
    bool bare = *start != '"';
    gw_value v = {0};
    GW_TRY(read_literal(ps, end, &v));
    struct gw_error inner = {0};
    struct sig_path path = {.name = param->name};
    gw_err err = GW_OK;
    if (v.kind == GW_STR && bare && !default_is_text(param->type->kind)) {
        err = gw_fail(&inner, GW_EARG, "a text stands in quotes");
    } else if (v.kind == GW_STR && default_is_text(param->type->kind)) {
        err = sig_from_text(param->type, &v);
        gw_fail(&inner, err, "this is not a default of %s", param->type->text);
    }
    if (!err) {
        err = sig_check(param->type, &v, SIG_CONVERT, &path, &inner);
    }
    param->fallback = v;
    if (err) {
        return err == GW_EARG ? fault(ps, start, "%s", inner.text) : err;
    }
    param->has_default = true;
    param->fallback_text = strndup(start, (size_t)(end - start));
    ps->p = end;
    return param->fallback_text ? GW_OK : GW_ENOMEM;
}

/* --- parameters --- */

static gw_err parse_param(struct parser *ps, bool reply, const struct sig_params *before,
                          struct sig_param *param)
{
    skip_space(ps);
    const char *start = ps->p;
    GW_TRY(take_word(ps, "the name of a parameter", "", &param->name));
    bool after_default = false;
    for (size_t i = 0; i < before->n; i++) {
        after_default = after_default || before->items[i].has_default;
        if (strcmp(before->items[i].name, param->name) == 0) {
            return fault(ps, start, "\"%s\" stands twice", param->name);
        }
    }
    if (!take(ps, ":")) {
        return fault(ps, ps->p, "expected \":\" and a type after \"%s\"", param->name);
    }
    GW_TRY(parse_type(ps, &param->type));
    if (take(ps, "=")) {
        if (reply) {
            return fault(ps, ps->p - 1, "a reply has no defaults");
        }
        return parse_default(ps, param);
    }
    if (after_default && !param->type->optional) {
        return fault(ps, start, "\"%s\" needs a default, for it follows one that has", param->name);
    }
    return GW_OK;
}

/* From "(" to ")". */
static gw_err parse_params(struct parser *ps, bool reply, struct sig_params *list)
{
    if (!take(ps, "(")) {
        return fault(ps, ps->p, "expected \"(\"");
    }
    if (take(ps, ")")) {
        return GW_OK;
    }
    do {
        struct sig_param *more = realloc(list->items, (list->n + 1) * sizeof *more);
        if (!more) {
            return GW_ENOMEM;
        }
        list->items = more;
        struct sig_params before = *list;
        list->items[list->n++] = (struct sig_param){0};
        GW_TRY(parse_param(ps, reply, &before, &list->items[list->n - 1]));
    } while (take(ps, ","));
    return take(ps, ")") ? GW_OK : fault(ps, ps->p, "expected \",\" or \")\"");
}

static void write_params(const struct sig_params *list, struct buf *out)
{
    buf_addf(out, "(");
    for (size_t i = 0; i < list->n; i++) {
        const struct sig_param *param = &list->items[i];
        buf_addf(out, "%s%s: %s", i ? ", " : "", param->name, param->type->text);
        if (param->has_default) {
            buf_addf(out, " = %s", param->fallback_text);
        }
    }
    buf_addf(out, ")");
}

static gw_err write_text(struct signature *sig)
{
    struct buf out = {0};
    buf_addf(&out, "%s", sig->name);
    write_params(&sig->args, &out);
    if (sig->has_reply) {
        buf_addf(&out, " -> ");
        write_params(&sig->reply, &out);
    }
    buf_add(&out, "", 1);
    if (!buf_ok(&out)) {
        buf_free(&out);
        return GW_ENOMEM;
    }
    sig->text = (char *)out.data;
    return GW_OK;
}

static gw_err parse(struct parser *ps, struct signature *sig)
{
    GW_TRY(take_word(ps, "the name of a method", ".-", &sig->name));
    GW_TRY(parse_params(ps, false, &sig->args));
    sig->has_reply = take(ps, "->");
    if (sig->has_reply) {
        GW_TRY(parse_params(ps, true, &sig->reply));
    }
    skip_space(ps);
    if (*ps->p) {
        return fault(ps, ps->p, sig->has_reply ? "expected the end" : "expected \"->\" or the end");
    }
    return write_text(sig);
}

gw_err signature_parse(const char *text, struct signature **ret, struct gw_error *why)
{
    if (!text || strnlen(text, LIMIT_SIGNATURE_BYTES + 1) > LIMIT_SIGNATURE_BYTES) {
        return gw_fail(why, GW_ESIGNATURE, "the signature %s",
                       text ? "is longer than 4096 bytes" : "is missing");
    }
    struct signature *sig = calloc(1, sizeof *sig);
    struct parser ps = {.text = text, .p = text, .why = why};
    gw_err err = sig ? parse(&ps, sig) : GW_ENOMEM;
    if (err) {
        signature_free(sig);
        return err == GW_ENOMEM ? gw_fail(why, err, "out of memory") : err;
    }
    *ret = sig;
    return GW_OK;
}

static void params_free(struct sig_params *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].name);
        type_free(list->items[i].type);
        gw_value_free(&list->items[i].fallback);
        free(list->items[i].fallback_text);
    }
    free(list->items);
}

void signature_free(struct signature *sig)
{
    if (sig) {
        params_free(&sig->args);
        params_free(&sig->reply);
        free(sig->name);
        free(sig->text);
        free(sig);
    }
}

const char *signature_name(const struct signature *sig)
{
    return sig->name;
}

const char *signature_text(const struct signature *sig)
{
    return sig->text;
}

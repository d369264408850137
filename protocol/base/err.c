#include "godwit/err.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct row {
    gw_err code;
    const char *name;
    int http;
    int exit_code;
    const char *text;
};

static const struct row rows[] = {
#define GW_ERR(name, wire, http, exit_code, text) {GW_E##name, #name, http, exit_code, text},
#include "godwit/err.def"
#undef GW_ERR
};
#define ROWS (sizeof rows / sizeof rows[0])

static const struct row *find(gw_err err)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].code == err) {
            return &rows[i];
        }
    }
    return &rows[0];
}

/* Names are wanted in lower case and the table is written once, in upper case: filled on first use.
 */
static char names[ROWS][32];

static void fill_names(void)
{
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t i = 0; rows[row].name[i]; i++) {
            char c = rows[row].name[i];
            names[row][i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
        }
    }
}

const char *gw_err_name(gw_err err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (err == GW_OK) {
        return "ok";
    }
    pthread_once(&once, fill_names);
    return names[find(err) - rows];
}

const char *gw_err_text(gw_err err)
{
    return err == GW_OK ? "ok" : find(err)->text;
}

int gw_err_http(gw_err err)
{
    return err == GW_OK ? 200 : find(err)->http;
}

int gw_err_exit(gw_err err)
{
    return err == GW_OK ? 0 : find(err)->exit_code;
}

gw_err gw_err_from_wire(unsigned wire)
{
    for (size_t i = 0; i < ROWS; i++) {
        if ((unsigned)rows[i].code == wire) {
            return rows[i].code;
        }
    }
    return wire == 0 ? GW_OK : GW_EFAIL;
}

gw_err gw_err_from_name(const char *name)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(gw_err_name(rows[i].code), name) == 0) {
            return rows[i].code;
        }
    }
    return strcmp(name, "ok") == 0 ? GW_OK : GW_EFAIL;
}

gw_err gw_fail(struct gw_error *why, gw_err code, const char *fmt, ...)
{
    if (why) {
        va_list ap;
        va_start(ap, fmt);
        why->code = code;
        vsnprintf(why->text, sizeof why->text, fmt, ap);
        why->hint[0] = '\0';
        va_end(ap);
    }
    return code;
}

void gw_hint(struct gw_error *why, const char *fmt, ...)
{
    if (why) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(why->hint, sizeof why->hint, fmt, ap);
        va_end(ap);
    }
}

void gw_prefix(struct gw_error *why, const char *fmt, ...)
{
    if (!why) {
        return;
    }
    char head[sizeof why->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    char whole[sizeof why->text + sizeof head + 2];
    snprintf(whole, sizeof whole, "%s: %s", head, why->text);
    memcpy(why->text, whole, sizeof why->text - 1);
    why->text[sizeof why->text - 1] = '\0';
}

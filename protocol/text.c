#include "protocol/text.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "protocol/base/utf8.h"

/* --- numbers --- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

gw_err text_int(const char *text, int64_t *ret)
{
    const char *digits = text + (*text == '-' || *text == '+');
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (!is_digit(*digits) || *end || errno) {
        return GW_EARG;
    }
    *ret = v;
    return GW_OK;
}

gw_err text_uint(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!is_digit(*text) || *end || errno) { /* strtoull would take a sign */
        return GW_EARG;
    }
    *ret = v;
    return GW_OK;
}

static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* strtod of the C locale: a program that has called setlocale() must still read "1.5". */
gw_err text_float(const char *text, double *ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    size_t n = strspn(text, "0123456789+-.eE"); /* no hex, no "nan", no spaces */
    if (n == 0 || text[n] || !c_locale) {
        return GW_EARG;
    }
    char *end;
    double v = strtod_l(text, &end, c_locale);
    if (*end || !isfinite(v)) {
        return GW_EARG;
    }
    *ret = v;
    return GW_OK;
}

gw_err text_bool(const char *text, bool *ret)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret = i % 2 == 1;
            return GW_OK;
        }
    }
    return GW_EARG;
}

/* --- quantities: a decimal number times a unit, in whole numbers throughout --- */

/* "12.345" times `unit`, rounded down; false on overflow or when no digit is there. */
struct decimal {
    uint64_t whole;
    uint64_t parts; /* of `scale` */
    uint64_t scale;
};

static bool take_decimal(const char **p, struct decimal *ret)
{
    struct decimal d = {.scale = 1};
    if (!is_digit(**p)) {
        return false;
    }
    for (; is_digit(**p); (*p)++) {
        if (__builtin_mul_overflow(d.whole, 10u, &d.whole) ||
            __builtin_add_overflow(d.whole, (uint64_t)(**p - '0'), &d.whole)) {
            return false;
        }
    }
    if (**p == '.') {
        if (!is_digit(*++*p)) {
            return false;
        }
        for (; is_digit(**p); (*p)++) {
            if (d.scale < 1000000) { /* further digits cannot be seen in the result */
                d.scale *= 10;
                d.parts = d.parts * 10 + (uint64_t)(**p - '0');
            }
        }
    }
    *ret = d;
    return true;
}

static bool times(struct decimal d, uint64_t unit, uint64_t *ret)
{
    uint64_t v;
    unsigned __int128 rest = (unsigned __int128)d.parts * unit / d.scale;
    return !__builtin_mul_overflow(d.whole, unit, &v) &&
           !__builtin_add_overflow(v, (uint64_t)rest, ret);
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}, {0},
};
static const struct unit size_units[] = {
    {"", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}, {0},
};

/* The unit named by exactly the n bytes at p, either case. */
static uint64_t unit_factor(const struct unit *units, const char *p, size_t n)
{
    for (; units->name; units++) {
        if (strlen(units->name) == n && strncasecmp(units->name, p, n) == 0) {
            return units->factor;
        }
    }
    return 0;
}

static const char *skip_spaces(const char *p)
{
    return p + strspn(p, " ");
}

static size_t letters(const char *p)
{
    size_t n = 0;
    while ((p[n] >= 'a' && p[n] <= 'z') || (p[n] >= 'A' && p[n] <= 'Z')) {
        n++;
    }
    return n;
}

gw_err text_duration(const char *text, int64_t *ret_ms)
{
    uint64_t sum = 0;
    const char *p = text;
    do {
        struct decimal d;
        uint64_t ms;
        const char *first = p;
        if (!take_decimal(&p, &d)) {
            return GW_EARG;
        }
        bool bare = *p == '\0' && first == text;
        p = skip_spaces(p);
        size_t n = letters(p);
        uint64_t factor = bare ? 1000 : unit_factor(duration_units, p, n);
        if (factor == 0 || !times(d, factor, &ms) || __builtin_add_overflow(sum, ms, &sum)) {
            return GW_EARG;
        }
        p += n;
        p = *p ? skip_spaces(p) : p;
    } while (*p);
    if (sum > INT64_MAX) {
        return GW_EARG;
    }
    *ret_ms = (int64_t)sum;
    return GW_OK;
}

gw_err text_size(const char *text, uint64_t *ret_bytes)
{
    struct decimal d;
    const char *p = text;
    if (!take_decimal(&p, &d)) {
        return GW_EARG;
    }
    p = skip_spaces(p);
    size_t n = letters(p);
    if (p[n]) {
        return GW_EARG;
    }
    if (n >= 1 && (p[n - 1] == 'B' || p[n - 1] == 'b')) {
        n--;
        if (n >= 2 && (p[n - 1] == 'i' || p[n - 1] == 'I')) {
            n--;
        }
    }
    uint64_t factor = unit_factor(size_units, p, n);
    return factor && times(d, factor, ret_bytes) ? GW_OK : GW_EARG;
}

/* --- time --- */

/* Days from 1970-01-01 of a date of the proleptic Gregorian calendar, and back (eras of 400 years
 * that begin on 1 March). Own arithmetic because timegm() normalises the 31st of February silently.
 */
static int64_t days_from_date(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_from_days(int64_t days, int64_t *ret_y, int *ret_m, int *ret_d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *ret_d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *ret_m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *ret_y = yoe + era * 400 + (*ret_m <= 2);
}

/* Exactly n digits with a value in [lo..hi]. */
static bool take_number(const char **p, int n, int lo, int hi, int *ret)
{
    int v = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (!is_digit(**p)) {
            return false;
        }
        v = v * 10 + (**p - '0');
    }
    *ret = v;
    return v >= lo && v <= hi;
}

static bool take_char(const char **p, const char *set)
{
    if (**p == '\0' || !strchr(set, **p)) {
        return false;
    }
    (*p)++;
    return true;
}

static bool take_date(const char **p, int64_t *ret_days)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;
    if (!take_number(p, 4, 0, 9999, &y) || !take_char(p, "-") || !take_number(p, 2, 1, 12, &m) ||
        !take_char(p, "-")) {
        return false;
    }
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (!take_number(p, 2, 1, month_days[m - 1] + (m == 2 && leap), &d)) {
        return false;
    }
    *ret_days = days_from_date(y, m, d);
    return true;
}

static bool take_clock(const char **p, int64_t *ret_ms)
{
    int h, m, s, ms = 0;
    if (!take_number(p, 2, 0, 23, &h) || !take_char(p, ":") || !take_number(p, 2, 0, 59, &m) ||
        !take_char(p, ":") || !take_number(p, 2, 0, 60, &s)) { /* 60: a leap second */
        return false;
    }
    if (take_char(p, ".")) {
        if (!is_digit(**p)) {
            return false;
        }
        for (int unit = 100; is_digit(**p); (*p)++, unit /= 10) {
            ms += (**p - '0') * unit;
        }
    }
    *ret_ms = ((h * 60LL + m) * 60 + s) * 1000 + ms;
    return true;
}

static bool take_offset(const char **p, int64_t *ret_ms)
{
    *ret_ms = 0;
    if (take_char(p, "Zz")) {
        return true;
    }
    int sign = **p == '-' ? -1 : 1, h, m;
    if (!take_char(p, "+-") || !take_number(p, 2, 0, 23, &h) || !take_char(p, ":") ||
        !take_number(p, 2, 0, 59, &m)) {
        return false;
    }
    *ret_ms = sign * (h * 60LL + m) * 60000;
    return true;
}

gw_err text_time(const char *text, gw_time *ret)
{
    int64_t days, clock_ms, offset_ms;
    const char *p = text;
    if (!take_date(&p, &days) || !take_char(&p, "Tt ") || !take_clock(&p, &clock_ms) ||
        !take_offset(&p, &offset_ms) || *p) {
        return GW_EARG;
    }
    ret->ms = days * 86400000 + clock_ms - offset_ms;
    return GW_OK;
}

char *text_from_time(gw_time t, char ret[TEXT_TIME_SIZE])
{
    int64_t days = t.ms / 86400000, ms = t.ms % 86400000, year;
    if (ms < 0) {
        days--;
        ms += 86400000;
    }
    int month, day, s = (int)(ms / 1000);
    date_from_days(days, &year, &month, &day);
    snprintf(ret, TEXT_TIME_SIZE, "%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ", (long long)year, month,
             day, s / 3600, s / 60 % 60, s % 60, (int)(ms % 1000));
    return ret;
}

/* --- for people --- */

char *text_from_bytes(uint64_t bytes, char ret[TEXT_SHORT_SIZE])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    uint64_t tenths = bytes * 10; /* of the unit; only bytes below 1024 use it as it stands here */
    while (unit < 6 && (bytes >> (10 * unit)) >= 1024) {
        unit++;
    }
    if (unit > 0) {
        unsigned shift = 10 * unit;
        unsigned __int128 half = (unsigned __int128)1 << (shift - 1);
        tenths = (uint64_t)(((unsigned __int128)bytes * 10 + half) >> shift);
        if (tenths >= 10240 && unit < 6) { /* 1023.96 KiB reads as 1 MiB */
            tenths = 10;
            unit++;
        }
    }
    unsigned whole = (unsigned)(tenths / 10), rest = (unsigned)(tenths % 10);
    if (rest) {
        snprintf(ret, TEXT_SHORT_SIZE, "%u.%u %s", whole, rest, names[unit]);
    } else {
        snprintf(ret, TEXT_SHORT_SIZE, "%u %s", whole, names[unit]);
    }
    return ret;
}

/* The two largest units: "340 ms", "5.2s", "1m 30s", "2h 5m", "3d 4h". */
char *text_from_duration(int64_t ms, char ret[TEXT_SHORT_SIZE])
{
    const char *sign = ms < 0 ? "-" : "";
    uint64_t v = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms, s = v / 1000;
    if (v < 1000) {
        snprintf(ret, TEXT_SHORT_SIZE, "%s%u ms", sign, (unsigned)v);
    } else if (s < 60 && v % 1000 >= 100) {
        snprintf(ret, TEXT_SHORT_SIZE, "%s%u.%us", sign, (unsigned)s, (unsigned)(v % 1000 / 100));
    } else if (s < 60) {
        snprintf(ret, TEXT_SHORT_SIZE, "%s%us", sign, (unsigned)s);
    } else {
        bool days = s >= 86400, hours = s >= 3600;
        uint64_t big = s / (days ? 86400 : hours ? 3600 : 60);
        unsigned small = (unsigned)(days ? s / 3600 % 24 : hours ? s / 60 % 60 : s % 60);
        const char *units = days ? "dh" : hours ? "hm" : "ms";
        int n = snprintf(ret, TEXT_SHORT_SIZE, "%s%llu%c", sign, (unsigned long long)big, units[0]);
        if (small) {
            snprintf(ret + n, TEXT_SHORT_SIZE - (size_t)n, " %u%c", small, units[1]);
        }
    }
    return ret;
}

void text_clean(char *text)
{
    utf8_clean(text);
}

#define CARET_WINDOW 80 /* bytes of text shown: two such lines and dots fit into gw_error.hint */

void text_caret(struct gw_error *why, const char *text, size_t at)
{
    size_t n = strlen(text), from = 0, to = n;
    if (n > CARET_WINDOW) {
        from = at > CARET_WINDOW / 2 ? at - CARET_WINDOW / 2 : 0;
        to = from + CARET_WINDOW < n ? from + CARET_WINDOW : n;
        while (from < at && ((unsigned char)text[from] & 0xc0) == 0x80) {
            from++; /* not into the middle of a character */
        }
    }
    const char *lead = from > 0 ? "..." : "";
    char shown[CARET_WINDOW + 1], pad[CARET_WINDOW + 4];
    memcpy(shown, text + from, to - from);
    shown[to - from] = '\0';
    text_clean(shown);
    size_t columns = strlen(lead);
    for (size_t i = from; i < at && i < to; i++) {
        columns += ((unsigned char)shown[i - from] & 0xc0) != 0x80;
    }
    memset(pad, ' ', columns);
    pad[columns] = '\0';
    gw_hint(why, "%s%s%s\n%s^", lead, shown, to < n ? "..." : "", pad);
}

/* --- base64 --- */

gw_err text_base64(const char *text, size_t n, gw_bytes *ret)
{
    uint8_t *data = malloc(n / 4 * 3 + 3);
    size_t len;
    if (!data) {
        return GW_ENOMEM;
    }
    if (sodium_base642bin(data, n / 4 * 3 + 3, text, n, NULL, &len, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0) {
        free(data);
        return GW_EARG;
    }
    if (len == 0) {
        free(data);
        data = NULL;
    }
    gw_bytes_clear(ret);
    *ret = (gw_bytes){data, len};
    return GW_OK;
}

void text_add_base64(const void *data, size_t n, struct buf *out)
{
    if (n > SIZE_MAX / 4) {
        out->failed = true;
        return;
    }
    size_t size = sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL); /* with NUL */
    if (buf_reserve(out, size)) {
        sodium_bin2base64((char *)out->data + out->len, size, data, n,
                          sodium_base64_VARIANT_ORIGINAL);
        out->len += size - 1;
    }
}

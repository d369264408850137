#include "protocol/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/utf8.h"

static struct {
    log_level level;
    bool json;
    int fd;
    char name[64];
} cfg = {.level = LOG_INFO, .fd = STDERR_FILENO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(log_level level, bool json)
{
    cfg.level = level;
    cfg.json = json;
}

void log_name(const char *name)
{
    snprintf(cfg.name, sizeof cfg.name, "%s", name);
}

gw_err log_open(const char *path, struct gw_error *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return gw_fail(why, GW_EIO, "cannot open log file \"%s\": %s", path, strerror(errno));
    }
    if (cfg.fd != STDERR_FILENO) {
        close(cfg.fd);
    }
    cfg.fd = fd;
    return GW_OK;
}

static void escape_json(const char *in, char *out, size_t cap)
{
    size_t n = 0;
    for (; *in && n + 2 < cap; in++) {
        if (*in == '"' || *in == '\\') {
            out[n++] = '\\';
        }
        out[n++] = *in;
    }
    out[n] = '\0';
}

static void emit(log_level level, const char *event, const char *fmt, va_list ap)
{
    char text[1024], line[2400], when[40];
    vsnprintf(text, sizeof text, fmt, ap);
    utf8_clean(text); /* text of a peer may stand in it: no line is forged, JSON stays JSON */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%03ldZ", now.tv_nsec / 1000000);
    int len;
    if (cfg.json) {
        char escaped[2100];
        escape_json(text, escaped, sizeof escaped);
        len = snprintf(line, sizeof line,
                       "{\"time\":\"%s\",\"level\":\"%s\",\"host\":\"%s\",\"event\":\"%s\","
                       "\"text\":\"%s\"}\n",
                       when, level_names[level], cfg.name, event, escaped);
    } else {
        len = snprintf(line, sizeof line, "%s %-5s %s %s %s\n", when, level_names[level], cfg.name,
                       event, text);
    }
    if (len > 0) {
        size_t size = (size_t)len < sizeof line ? (size_t)len : sizeof line - 1;
        ssize_t written = write(cfg.fd, line, size); /* one write a line: lines do not mix */
        (void)written; /* a log that cannot be written must not stop the host */
    }
}

void log_at(log_level level, const char *event, const char *fmt, ...)
{
    if (level < cfg.level) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    emit(level, event, fmt, ap);
    va_end(ap);
}

void log_bug(const char *file, int line, const char *what)
{
    log_at(LOG_ERROR, "bug", "at=%s:%d assertion \"%s\" does not hold; stopping", file, line, what);
    abort();
}

void log_die(const char *event, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_ERROR, event, fmt, ap);
    va_end(ap);
    _exit(1);
}

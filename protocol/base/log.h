/* Log lines: a stable event id first, then key=value text. Writes to standard error, or to the file
 * that log_open named. Any thread. Library code (protocol/, clients/lib) never logs above debug. */
#ifndef PROTOCOL_BASE_LOG_H
#define PROTOCOL_BASE_LOG_H

#include <stdbool.h>

#include <godwit/err.h>

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } log_level;

/* Lines below `level` are dropped. `json`: one JSON object a line instead of text. */
void log_setup(log_level level, bool json);
/* Name that stands in each line (host name or "runner:counter"); copied, at most 63 bytes. */
void log_name(const char *name);
/* Append to a file from now on (created 0600). */
gw_err log_open(const char *path, struct gw_error *why) GW_MUST_USE;
void log_at(log_level level, const char *event, const char *fmt, ...) GW_PRINTF(3, 4);
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
/* A state that only our own bug can reach, or a disk that can no longer be trusted: log and abort /
 * log and exit(1). */
void log_bug(const char *file, int line, const char *what) __attribute__((noreturn));
void log_die(const char *event, const char *fmt, ...) GW_PRINTF(2, 3) __attribute__((noreturn));
#define gw_assert(cond) ((cond) ? (void)0 : log_bug(__FILE__, __LINE__, #cond))

#endif

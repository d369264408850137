/* Texts that people type and read: durations, sizes, times, key=value. */
#ifndef PROTOCOL_TEXT_H
#define PROTOCOL_TEXT_H

#include <godwit/types.h>

#include "protocol/base/buf.h"

/* "250ms" "5s" "2m" "1.5h" "3d" "2h 5m", a bare number is seconds; result in ms, not negative.
 * GW_EARG. */
gw_err text_duration(const char *text, int64_t *ret_ms) GW_MUST_USE;
/* "64K" "1.5G" "300" (binary multiples K M G T, optional trailing B or iB); bytes. GW_EARG. */
gw_err text_size(const char *text, uint64_t *ret_bytes) GW_MUST_USE;
/* Decimal, the whole text, whatever the locale; NaN and infinity are refused. GW_EARG. */
gw_err text_int(const char *text, int64_t *ret) GW_MUST_USE;
gw_err text_uint(const char *text, uint64_t *ret) GW_MUST_USE;
gw_err text_float(const char *text, double *ret) GW_MUST_USE;
/* true yes on 1, false no off 0, either case. GW_EARG. */
gw_err text_bool(const char *text, bool *ret) GW_MUST_USE;
/* Base64 (RFC 4648 with padding) both ways. GW_EARG (ret untouched), GW_ENOMEM; ret is replaced. */
gw_err text_base64(const char *text, size_t n, gw_bytes *ret) GW_MUST_USE;
void text_add_base64(const void *data, size_t n, struct buf *out);
/* RFC 3339, UTC or with an offset, optional fraction. */
gw_err text_time(const char *text, gw_time *ret) GW_MUST_USE;
#define TEXT_TIME_SIZE 32
char *text_from_time(gw_time t, char ret[TEXT_TIME_SIZE]); /* "2026-11-22T10:00:00.000Z" */
#define TEXT_SHORT_SIZE 24
char *text_from_bytes(uint64_t bytes, char ret[TEXT_SHORT_SIZE]); /* "1.5 GiB" */
char *text_from_duration(int64_t ms, char ret[TEXT_SHORT_SIZE]);  /* "2h 5m", "340 ms" */
/* Control characters (and bytes that are not UTF-8) of a peer's text become '?', in place. */
void text_clean(char *text);
/* Show where in `text` a fault lies: the hint of `why` (NULL allowed) becomes two lines, the text
 * (or its part around the fault) and a caret under byte `at` [0 .. strlen]. */
void text_caret(struct gw_error *why, const char *text, size_t at);

#endif

/* UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). Any thread. */
#ifndef PROTOCOL_BASE_UTF8_H
#define PROTOCOL_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the valid character at p [1..4], NUL included; 0 when there is none. n > 0. */
size_t utf8_step(const char *p, size_t n);
/* How many bytes from p are valid text without NUL [0..n]. */
size_t utf8_run(const char *p, size_t n);
/* Whether all n bytes are valid text without NUL. */
bool utf8_is_valid(const char *p, size_t n);
/* Control characters, and each byte that is not UTF-8, become '?', in place. */
void utf8_clean(char *text);

#endif

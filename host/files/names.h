/* Names of files: patterns that fit them, and how they look on a screen. Names are bytes; NUL ends
 * them. Any thread. */
#ifndef HOST_FILES_NAMES_H
#define HOST_FILES_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include <godwit/err.h>

/* Whether the text holds one of `* ? [` that no `\` takes away its meaning from. */
bool names_is_pattern(const char *text);
/* Whether `name`, one part of a path, fits `pattern`, which has no '/'. A '.' at the beginning of a
 * name is fitted by a '.' only when `hidden` is false. Takes time in proportion to the product of
 * both lengths, whatever they are. */
bool names_fit(const char *pattern, const char *name, bool hidden);
/* Whether a path fits a pattern part by part; a part "**" stands for any parts, none included. */
bool names_fit_path(const char *pattern, const char *path, bool hidden);
/* GW_EARG: a '[' without its ']', a '\' at the end, longer than LIMIT_FILE_PATTERN_BYTES, empty. */
gw_err names_check_pattern(const char *pattern, struct gw_error *why) GW_MUST_USE;

/* For a screen or a sentence: control characters and bytes that are not UTF-8 become '?'; what does
 * not fit is cut in the middle by "...". Returns ret. cap > 8. */
const char *names_show(const char *name, char *ret, size_t cap);
#define NAMES_SHOWN 160 /* room for a name in an error */

#endif

/* Names of the files that travel with agents: the same rule for who gives one, who sends it and who
 * makes a file of it. Any thread. Source: PROTOCOL.md 6.2. */
#ifndef PROTOCOL_FILENAME_H
#define PROTOCOL_FILENAME_H

#include <stdbool.h>
#include <stddef.h>

/* One part of a path: 1 to LIMIT_CARRIED_NAME_BYTES bytes of UTF-8 without "/", control characters
 * and the sequences that end a line or turn its direction; not "." or "..", not beginning with
 * ".godwit", which are names of unfinished files. */
bool filename_is_valid(const char *p, size_t n);
/* A path of 1 to LIMIT_CARRIED_PATH_BYTES bytes of UTF-8: absolute, or counting from the work
 * folder of an agent; no part of it is "..", and it does not end with "/". */
bool filename_is_path(const char *p, size_t n);

#endif

/* Small files and paths of the client side. Any thread. */
#ifndef CLIENTS_LIB_FILE_H
#define CLIENTS_LIB_FILE_H

#include "protocol/base/buf.h"

#define FILE_PATH_BYTES 4096 /* as PATH_MAX of the kernel */

/* `ret` (FILE_PATH_BYTES) = dir "/" name. GW_EARG when it does not fit. */
gw_err file_join(char *ret, struct gw_error *why, const char *dir, const char *name) GW_MUST_USE;
/* Append a whole file of at most `max` bytes. GW_ENOT_FOUND, GW_EDENIED, GW_ETOO_BIG, GW_EIO,
 * GW_ENOMEM. */
gw_err file_read(const char *path, size_t max, struct buf *ret, struct gw_error *why) GW_MUST_USE;
/* A bearer token: the first word of a file of at most 4 KiB, printable, without blanks.
 * ret holds FILE_TOKEN_BYTES. GW_EARG when it is none. */
#define FILE_TOKEN_BYTES 4097
gw_err file_token(const char *path, char *ret, struct gw_error *why) GW_MUST_USE;

#endif

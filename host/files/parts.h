/* Parts: files that are being written at their destination under a temporary name.
 *
 * A name is ".NAME.HASH.godwit-part", beside the destination NAME (cut to fit; HASH of the whole
 * name). An interrupted transfer leaves it, and the next one to the same name takes it up; what
 * nobody takes up for a while is swept. Who writes a part holds a lock on it (flock), which ends
 * with the process.
 *
 * The registry is a folder with one link per folder that may hold parts; the target of the link is
 * the path of that folder. A link is made before the first part, in one step that is whole or not
 * there after a crash, and goes when the folder holds no part. Small files need none of it: they
 * have no name until they are whole (O_TMPFILE).
 *
 * Any thread: the registry has its own mutex, held for no I/O but that of the registry's folder. */
#ifndef HOST_FILES_PARTS_H
#define HOST_FILES_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <godwit/err.h>

#define PARTS_NAME_BYTES 256 /* of a part's name, with NUL */

struct parts;

/* `dir`, a folder of the host's own, is made (0700) when it is not there; the one above it exists.
 * GW_EIO, GW_EDENIED, GW_ENOMEM. */
gw_err parts_open(const char *dir, struct parts **ret, struct gw_error *why) GW_MUST_USE;
void parts_close(struct parts *p); /* NULL allowed; no sink may use it any more */

/* The folder behind `fd` is about to hold parts. It is noted in the registry; parts_flush has to
 * follow before the first part is made, one for many folders. Every parts_enter has its
 * parts_leave, which drops the link when nobody else is in the folder and no part is left there.
 * GW_ETOO_BIG: its path is too long to be noted. */
gw_err parts_enter(struct parts *p, int fd, struct gw_error *why) GW_MUST_USE;
/* What was noted is durable when this returns. */
gw_err parts_flush(struct parts *p, struct gw_error *why) GW_MUST_USE;
void parts_leave(struct parts *p, int fd);

/* One writer per destination within this process: the name in the folder (dev, ino). GW_ECONFLICT:
 * another has it; GW_ENOMEM. */
gw_err parts_claim(struct parts *p, uint64_t dev, uint64_t ino, const char *name,
                   struct gw_error *why) GW_MUST_USE;
void parts_release(struct parts *p, uint64_t dev, uint64_t ino, const char *name);

/* Name of the part, and of what an interrupted try left, of destination `name`. */
void parts_name(const char *name, char ret[PARTS_NAME_BYTES]);
void parts_rest_name(const char *name, char ret[PARTS_NAME_BYTES]);
bool parts_is_part(const char *name);

/* Remove parts that nobody has written to for `ttl_s` seconds, by their ctime, and links of folders
 * that hold none. Parts in use are never touched. At start and hourly, by a worker thread: it may
 * take long on a slow disk. */
struct parts_swept {
    uint64_t removed, bytes; /* parts that were removed */
    uint64_t kept;           /* younger, or in use */
    uint64_t unreachable;    /* folders that cannot be read now; tried again */
};
gw_err parts_sweep(struct parts *p, int64_t ttl_s, struct parts_swept *ret,
                   struct gw_error *why) GW_MUST_USE;

#endif

/* One thing of a tree of files, as it goes over a connection: a file, a folder or a link.
 *
 * A path is relative: parts of 1 to 255 bytes with '/' between them, any bytes but NUL and '/', no
 * part "." or "..", at most LIMIT_FILE_PATH_BYTES. The one path "." is the folder itself that the
 * others are relative to; only a folder has it. Names are bytes, not text: names_show (names.h)
 * makes one fit for a screen. */
#ifndef HOST_FILES_ENTRY_H
#define HOST_FILES_ENTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <godwit/err.h>

#include "protocol/base/buf.h"
#include "protocol/base/mp.h"

typedef enum entry_type { ENTRY_FILE = 1, ENTRY_FOLDER = 2, ENTRY_LINK = 3 } entry_type;

struct file_entry {
    char *path; /* owned */
    entry_type type;
    uint32_t mode;     /* permission bits, at most 07777 */
    int64_t mtime_ns;  /* since 1970, may be negative */
    uint64_t size;     /* of a file, bytes; of a link the length of its target; of a folder 0 */
    char *target;      /* of a link, 1..LIMIT_FILE_TARGET_BYTES bytes; owned; else NULL */
    bool sparse;       /* of a file: it has holes */
    uint32_t uid, gid; /* numbers of the owner at the source: who may keep setuid and setgid */
    /* Source only: what tells whether the file is still the one that was seen. */
    uint32_t top; /* which of the sources it belongs to (source.h) */
    uint64_t dev, ino;
    int64_t ctime_ns;
};

/* Free what it owns; all-zero afterwards. */
void entry_clear(struct file_entry *e);
/* A copy that owns its texts. GW_ENOMEM. */
gw_err entry_copy(const struct file_entry *from, struct file_entry *ret) GW_MUST_USE;

/* Whether the n bytes at p are the path of an entry, as above. GW_EDENIED: "..", absolute;
 * GW_EARG: empty parts, ".", NUL; GW_ETOO_BIG: too long, or a part of it. Says so with the path. */
gw_err entry_check_path(const char *p, size_t n, struct gw_error *why) GW_MUST_USE;

/* msgpack: [type, path (bin), mode, mtime_ns, size, target (bin; nil unless a link), flags, uid,
 * gid] flags: 1 sparse. Members that a newer peer adds at the end are skipped. The fields for the
 * source only stay there. */
void entry_pack(const struct file_entry *e, struct buf *out);
/* Read what entry_pack wrote, from anybody: every rule above is checked.
 * GW_EPROTO, GW_EDENIED, GW_EARG, GW_ETOO_BIG: says which rule; GW_ENOMEM. `m` has moved on only on
 * success, except that an entry with a wrong path is skipped whole, so that the next can be read.
 */
gw_err entry_parse(struct mp *m, struct file_entry *ret, struct gw_error *why) GW_MUST_USE;

/* Whether both are the same state of the same file: dev, ino, size, mtime and ctime. */
bool entry_is_unchanged(const struct file_entry *a, const struct file_entry *b);

/* Times of the kernel and ours; what does not fit becomes the nearest that does. */
int64_t entry_ns(struct timespec t);
struct timespec entry_time(int64_t ns);

#endif

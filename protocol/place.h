/* Places of files as they are typed: SELECTOR:PATH, a host and a path on it.
 *
 *     beta:/var/log/syslog     tag:gpu:~/results     property:site=Delft:data/a.csv
 *     https://10.0.0.7:7420:/srv/x     HOST_ID:docs/     beta:            (the home directory
 * there)
 *
 * Selectors hold colons themselves, so where they end is a rule: at the first colon before which
 * stands a whole selector and behind which a path shows itself (`/`, `~`, `.` or nothing more);
 * where there is none, at the first colon before which stands a whole selector. What begins like
 * terms or a URL (`tag:`, `property:`, `!`, `https://`) is nothing else: a host that is named `tag`
 * is meant by its id. A path with a colon of its own behind a property goes as `./PATH`. */
#ifndef PROTOCOL_PLACE_H
#define PROTOCOL_PLACE_H

#include <godwit/types.h>

struct place {
    char *selector; /* parses as one (selector.h); owned */
    char *path;     /* as typed, "" when nothing stands behind the colon; owned */
};

/* GW_EARG: no host stands before a colon, with a hint; GW_ENOMEM. */
gw_err place_parse(const char *text, struct place *ret, struct gw_error *why) GW_MUST_USE;
void place_free(struct place *p); /* all-zero allowed */

#endif

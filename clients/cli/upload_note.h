/* Where an upload that was interrupted went, so that the same command goes on with it: a small file
 * below `uploads/` of the home, named by a hash of what is uploaded where. What is older than a day
 * is removed: the host has forgotten it, too. Without notes uploads only begin anew: nothing here
 * fails. One thread. */
#ifndef CLIENTS_CLI_UPLOAD_NOTE_H
#define CLIENTS_CLI_UPLOAD_NOTE_H

#include <godwit/types.h>

/* All-zero: there can be none. */
struct upload_note {
    char dir[4096], path[4200];
};

/* `what` tells this upload from all others. */
void upload_note_init(struct upload_note *n, const char *what);
/* False: there is none. */
bool upload_note_read(const struct upload_note *n, char ret_id[GW_ID_TEXT]);
void upload_note_write(const struct upload_note *n, const char *id);
void upload_note_drop(const struct upload_note *n);

#endif

/* The line of copy_line.h on a terminal, while something is copied: shown on standard error at most
 * every 50 ms, not with --quiet or --json, nor where that is no terminal. One thread. */
#ifndef CLIENTS_CLI_COPY_SHOW_H
#define CLIENTS_CLI_COPY_SHOW_H

#include "clients/cli/cli.h"
#include "clients/cli/copy_line.h"

/* All-zero is the beginning. */
struct copy_show {
    struct copy_line line;
    int64_t shown_ms;
    bool shown; /* the line stands on the terminal */
};

/* Take an item of a stream. */
void copy_show_item(struct copy_show *s, const struct cli *cli, const gw_value *item);
/* The same for one content: so many of its bytes; `name` is what it is called. */
void copy_show_bytes(struct copy_show *s, const struct cli *cli, uint64_t bytes, uint64_t total,
                     const char *name);
/* Take it away, before other lines and at the end. */
void copy_show_wipe(struct copy_show *s);
/* Monotonic. */
int64_t copy_show_now_ms(void);

#endif

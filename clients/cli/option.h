/* Options of a command line, from tables that also print the help. Over getopt_long of glibc:
 * options and arguments mix, "--" ends options, long names may be cut short while they are unique.
 */
#ifndef CLIENTS_CLI_OPTION_H
#define CLIENTS_CLI_OPTION_H

#include <stdio.h>

#include <godwit/types.h>

typedef enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_INT,      /* decimal int64 */
    OPTION_DURATION, /* "250ms", "5s", "2h"; milliseconds */
    OPTION_SIZE,     /* "64K", "10M", "1.5G"; bytes */
    OPTION_LIST,     /* text, may be given again */
} option_kind;

/* One row; a table ends with an empty one. */
struct cli_option {
    const char *name; /* long name without dashes */
    char letter;      /* short name, or 0 */
    option_kind kind;
    const char *value; /* what stands for the value in help; NULL for flags */
    const char *help;
};

#define OPTIONS_MAX 40 /* rows of both tables together */

struct option_value {
    bool given;
    const char *text; /* as typed, the last one; borrowed from argv */
    int64_t number;
    gw_strs list;
};

/* All-zero is empty. */
struct options {
    const struct cli_option *global, *own; /* NULL allowed */
    struct option_value values[OPTIONS_MAX];
};

/* Parse argv[1..]; what was parsed before stays.
 *   stop_early  stop at the first argument (for options before the command)
 *   ret_first   index of the first argument; later ones follow it (argv is put in order)
 * Errors: GW_EARG with a sentence and, for an unknown name, the nearest known one as hint. */
gw_err options_parse(struct options *o, int argc, char **argv, bool stop_early, int *ret_first,
                     struct gw_error *why) GW_MUST_USE;
void options_free(struct options *o);

/* Values by name; the name must stand in a table. */
bool option_given(const struct options *o, const char *name);
const char *option_text(const struct options *o, const char *name); /* NULL when not given */
/* And durations, and sizes. */
int64_t option_int(const struct options *o, const char *name, int64_t fallback);
const gw_strs *option_list(const struct options *o, const char *name);

/* One line a row, aligned: "  -f, --follow        go on as events come". */
void options_help(const struct cli_option *table, FILE *out);

/* The name of n that is nearest to `word`, when it is near enough to be meant; else NULL. */
const char *nearest_name(const char *word, const char *const *names, size_t n);

#endif

/* The command line of Godwit: the frame around the commands (clients/cli/commands.c is their
 * table).
 *
 * Results go to standard output, everything else to standard error; with --json a result is one
 * JSON object on one line, a stream one object a line, and an error {"error": {"code", "message",
 * "hint"}} on standard error. Exit codes: those of protocol/base/err.def, 2 for wrong usage, 130
 * after Ctrl-C. */
#ifndef CLIENTS_CLI_CLI_H
#define CLIENTS_CLI_CLI_H

#include <godwit/client.h>

#include "clients/cli/option.h"

#define CLI_EXIT_INTERRUPTED 130 /* as shells count a death by SIGINT */

struct cli_command;

/* One run of the program. */
struct cli {
    const struct cli_command *command;
    struct options options;
    char **argv; /* arguments of the command, options taken out */
    int argc;
    bool json, quiet, verbose;
    bool color;         /* standard output is a terminal that takes colours */
    bool tty;           /* standard error is a terminal: progress may be shown */
    const char *host;   /* -H, or NULL */
    int64_t timeout_ms; /* of one call: --timeout, else 30 s */
    bool timeout_given;
    int exit_code; /* for a run that ends with GW_OK */
    struct gw_client *client;
};

struct cli_command {
    const char *name;    /* "send", or two words: "mesh token" */
    const char *args;    /* "AGENT METHOD [KEY=VALUE]...": required, [optional], ... = any number */
    const char *summary; /* one line, without a final dot */
    const struct cli_option *options;                     /* its own; NULL = none */
    gw_err (*run)(struct cli *cli, struct gw_error *why); /* the number of arguments fits `args` */
    const char *help;                                     /* more for `--help`, or NULL */
    /* Instead of run: a command that reads its own options. argv[0] is the name; global options
     * that stood before it come first. Returns the exit code. */
    int (*main)(int argc, char **argv);
    bool hidden; /* not listed */
};

/* Run the program: `extra` are commands of the caller, listed first. Returns the exit code. */
int cli_main(int argc, char **argv, const struct cli_command *extra, size_t extra_count);

/* The client of this run, connected at the first call. From then on Ctrl-C ends the call that runs.
 */
gw_err cli_client(struct cli *cli, struct gw_client **ret, struct gw_error *why) GW_MUST_USE;
/* From now on Ctrl-C is counted, and ends the call that runs on `client` (NULL allowed); a second
 * one ends the program. */
void cli_catch_interrupt(struct gw_client *client);
/* Whether Ctrl-C was pressed since. */
bool cli_interrupted(void);
/* Row by name; NULL when there is none. */
const struct cli_command *cli_find(const char *name);

/* For help.c: the global options, and each row in the order of listing (NULL after the last). */
extern const struct cli_option cli_global_options[];
const struct cli_command *cli_row(size_t index);
/* "AGENT METHOD [KEY=VALUE]..." -> the fewest and most arguments; INT_MAX = any number. */
void cli_count_args(const char *args, int *ret_least, int *ret_most);

#endif

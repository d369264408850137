#include "clients/cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/commands.h"
#include "clients/cli/help.h"
#include "clients/cli/output.h"
#include "protocol/base/log.h"
#include "protocol/version.h"

#define TIMEOUT_MS      30000
#define CONNECT_MS      10000
#define NAMES_MAX       128
#define TIMEOUT_MOST_MS (10LL * 365 * 24 * 3600 * 1000) /* sums with it do not overflow */

const struct cli_option cli_global_options[] = {
    {"host", 'H', OPTION_TEXT, "NAME|URL",
     "the host to ask (else $GODWIT_HOST, else the one that runs here)"},
    {"json", 0, OPTION_FLAG, NULL, "print JSON: one object, or one a line"},
    {"timeout", 0, OPTION_DURATION, "DURATION", "how long to wait for an answer (30s)"},
    {"token-file", 0, OPTION_TEXT, "FILE",
     "a bearer token for a URL, instead of the operator certificate"},
    {"quiet", 'q', OPTION_FLAG, NULL, "no remarks and no progress"},
    {"verbose", 'v', OPTION_FLAG, NULL, "say what is done"},
    {"no-color", 0, OPTION_FLAG, NULL, "no colours"},
    {"help", 'h', OPTION_FLAG, NULL, "this help"},
    {"version", 0, OPTION_FLAG, NULL, "the version"},
    {0},
};

/* ---- the table of this run: rows of the caller, then ours ---- */

static const struct cli_command *extra_rows;
static size_t extra_rows_count;

const struct cli_command *cli_row(size_t index)
{
    if (index < extra_rows_count) {
        return &extra_rows[index];
    }
    index -= extra_rows_count;
    return index < commands_count ? &commands[index] : NULL;
}

const struct cli_command *cli_find(const char *name)
{
    const struct cli_command *c;
    for (size_t i = 0; (c = cli_row(i)); i++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

void cli_count_args(const char *args, int *ret_least, int *ret_most)
{
    *ret_least = *ret_most = 0;
    while (*args) {
        size_t n = strcspn(args, " ");
        bool any = n > 3 && strncmp(args + n - 3, "...", 3) == 0;
        *ret_least += args[0] != '[';
        *ret_most = any || *ret_most == INT_MAX ? INT_MAX : *ret_most + 1;
        args += n + strspn(args + n, " ");
    }
}

/* The words of argv[at..] that name a command: two before one. ret_words gets how many. */
static const struct cli_command *command_at(int argc, char **argv, int at, int *ret_words)
{
    char two[64];
    if (at + 1 < argc) {
        int n = snprintf(two, sizeof two, "%s %s", argv[at], argv[at + 1]);
        const struct cli_command *c = n > 0 && (size_t)n < sizeof two ? cli_find(two) : NULL;
        if (c) {
            *ret_words = 2;
            return c;
        }
    }
    *ret_words = 1;
    return cli_find(argv[at]);
}

static gw_err unknown_command(int argc, char **argv, int at, struct gw_error *why)
{
    const char *word = argv[at];
    bool family = help_family(word, NULL);
    const char *names[NAMES_MAX];
    size_t n = 0;
    const struct cli_command *c;
    for (size_t i = 0; (c = cli_row(i)) && n < NAMES_MAX; i++) {
        const char *space = strchr(c->name, ' ');
        size_t prefix = space ? (size_t)(space - c->name) : 0;
        if (!c->hidden && !family && !space) {
            names[n++] = c->name;
        } else if (!c->hidden && family && space && strlen(word) == prefix &&
                   strncmp(word, c->name, prefix) == 0) {
            names[n++] = space + 1;
        }
    }
    const char *second = family && at + 1 < argc ? argv[at + 1] : NULL;
    gw_err err = family && !second
                     ? gw_fail(why, GW_EARG, "\"%s\" needs a command of its own", word)
                     : gw_fail(why, GW_EARG, "there is no command \"%.60s%s%.60s\"", word,
                               second ? " " : "", second ? second : "");
    const char *near = family && !second ? NULL : nearest_name(second ? second : word, names, n);
    if (near) {
        gw_hint(why, "did you mean \"godwit %s%s%s\"?", family ? word : "", family ? " " : "",
                near);
    } else {
        gw_hint(why, "\"godwit help%s%s\" lists the commands", family ? " " : "",
                family ? word : "");
    }
    return err;
}

/* ---- the client ---- */

static struct gw_client *volatile interrupt_client;
static volatile sig_atomic_t interrupts;

/* The first Ctrl-C ends the call in good order, the second one ends the program (SA_RESETHAND). */
static void on_sigint(int signal_number)
{
    (void)signal_number;
    interrupts = 1;
    if (interrupt_client) {
        gw_client_interrupt(interrupt_client);
    }
}

bool cli_interrupted(void)
{
    return interrupts != 0;
}

void cli_catch_interrupt(struct gw_client *client)
{
    struct sigaction action = {.sa_handler = on_sigint, .sa_flags = (int)SA_RESETHAND};
    interrupt_client = client;
    sigaction(SIGINT, &action, NULL);
}

gw_err cli_client(struct cli *cli, struct gw_client **ret, struct gw_error *why)
{
    if (!cli->client) {
        struct gw_client_options o = {
            .host = cli->host,
            .token_file = option_text(&cli->options, "token-file"),
            .connect_ms =
                cli->timeout_ms < CONNECT_MS && cli->timeout_ms > 0 ? cli->timeout_ms : CONNECT_MS,
            .traceparent = getenv("TRACEPARENT"), /* as other tools that take part in traces do */
            .tracestate = getenv("TRACESTATE"),
        };
        GW_TRY(gw_client_open(&o, &cli->client, why));
        cli_catch_interrupt(cli->client);
        if (cli->verbose) {
            output_note(cli, "connected to %s%s", gw_client_where(cli->client),
                        gw_client_is_local(cli->client) ? " by its socket" : "");
        }
    }
    *ret = cli->client;
    return GW_OK;
}

static void disconnect(struct cli *cli)
{
    interrupt_client = NULL;
    gw_client_close(cli->client);
    cli->client = NULL;
}

/* ---- one run ---- */

static void read_globals(struct cli *cli)
{
    const struct options *o = &cli->options;
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    cli->json = option_given(o, "json");
    cli->quiet = option_given(o, "quiet");
    cli->verbose = option_given(o, "verbose");
    cli->host = option_text(o, "host");
    cli->timeout_given = option_given(o, "timeout");
    cli->timeout_ms = option_int(o, "timeout", TIMEOUT_MS);
    cli->timeout_ms = cli->timeout_ms < TIMEOUT_MOST_MS ? cli->timeout_ms : TIMEOUT_MOST_MS;
    cli->tty = isatty(STDERR_FILENO) == 1;
    cli->color = !option_given(o, "no-color") && !(no_color && no_color[0]) && term &&
                 strcmp(term, "dumb") != 0 && isatty(STDOUT_FILENO) == 1;
}

static gw_err check_count(const struct cli *cli, struct gw_error *why)
{
    int least, most;
    cli_count_args(cli->command->args, &least, &most);
    if (cli->argc >= least && cli->argc <= most) {
        return GW_OK;
    }
    gw_err err = cli->argc < least
                     ? gw_fail(why, GW_EARG, "\"%s\" needs more arguments: %s", cli->command->name,
                               cli->command->args)
                     : gw_fail(why, GW_EARG, "\"%s\": there is no place for \"%.80s\"",
                               cli->command->name, cli->argv[most]);
    gw_hint(why, "see \"godwit %s --help\"", cli->command->name);
    return err;
}

/* A result that could not be written is a failure, whatever the host said. */
static gw_err flush_output(struct gw_error *why)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return GW_OK;
    }
    return gw_fail(why, errno == ENOSPC ? GW_EDISK_FULL : GW_EIO, "cannot write the result: %s",
                   strerror(errno));
}

static gw_err run_command(struct cli *cli, int argc, char **argv, struct gw_error *why)
{
    int first;
    cli->options.own = cli->command->options;
    gw_err err = options_parse(&cli->options, argc, argv, false, &first, why);
    if (err != GW_OK) {
        if (why->hint[0] == '\0') {
            gw_hint(why, "see \"godwit %s --help\"", cli->command->name);
        }
        return err;
    }
    read_globals(cli);
    if (option_given(&cli->options, "help")) {
        help_command(cli->command, stdout);
        return flush_output(why);
    }
    cli->argc = argc - first;
    cli->argv = argv + first;
    GW_TRY(check_count(cli, why));
    err = cli->command->run(cli, why);
    disconnect(cli);
    if (err != GW_OK) {
        fflush(stdout);
        return err;
    }
    return flush_output(why);
}

/* A command with its own main: global options that stood before its name go behind it. */
static int run_main(const struct cli_command *c, int argc, char **argv, int at)
{
    char **args = xcalloc((size_t)argc + 1, sizeof *args);
    int n = 0;
    args[n++] = argv[at];
    for (int i = 1; i < at; i++) {
        args[n++] = argv[i];
    }
    for (int i = at + 1; i < argc; i++) {
        args[n++] = argv[i];
    }
    int code = c->main(n, args);
    free(args);
    return code;
}

static int exit_code(struct cli *cli, gw_err err, const struct gw_error *why)
{
    if (cli_interrupted() && (err == GW_OK || err == GW_ECANCELLED)) {
        if (err != GW_OK) {
            output_interrupted(cli, why);
        }
        return CLI_EXIT_INTERRUPTED;
    }
    if (err == GW_OK) {
        return cli->exit_code;
    }
    output_error(cli, err, why);
    return gw_err_exit(err);
}

/* `godwit mesh --help`: the first word is only the beginning of names. */
static bool asks_for_help(int argc, char **argv, int at)
{
    return at + 1 < argc &&
           (strcmp(argv[at + 1], "--help") == 0 || strcmp(argv[at + 1], "-h") == 0);
}

int cli_main(int argc, char **argv, const struct cli_command *extra, size_t extra_count)
{
    struct cli cli = {.options.global = cli_global_options, .timeout_ms = TIMEOUT_MS};
    struct gw_error why = {0};
    int at = 0, words = 0;
    extra_rows = extra;
    extra_rows_count = extra_count;
    interrupts = 0;
    setlocale(LC_CTYPE, "");
    log_setup(LOG_WARN, false);
    gw_err err = options_parse(&cli.options, argc, argv, true, &at, &why);
    read_globals(&cli);
    int code;
    if (err == GW_OK && at < argc && !cli_find(argv[at]) && asks_for_help(argc, argv, at) &&
        help_family(argv[at], stdout)) {
        code = exit_code(&cli, flush_output(&why), &why);
    } else if (err == GW_OK && option_given(&cli.options, "version")) {
        printf("godwit %s\n", GODWIT_VERSION);
        code = exit_code(&cli, flush_output(&why), &why);
    } else if (err == GW_OK && at >= argc && option_given(&cli.options, "help")) {
        help_all(stdout);
        code = exit_code(&cli, flush_output(&why), &why);
    } else if (err == GW_OK && at >= argc) {
        help_all(stderr);
        code = gw_err_exit(GW_EARG);
    } else if (err == GW_OK && (cli.command = command_at(argc, argv, at, &words)) &&
               cli.command->main) {
        code = run_main(cli.command, argc, argv, at);
    } else {
        if (err == GW_OK && cli.command) {
            int skip =
                at + words - 1; /* the last word of the name stands where getopt has argv[0] */
            err = run_command(&cli, argc - skip, argv + skip, &why);
        } else if (err == GW_OK) {
            err = unknown_command(argc, argv, at, &why);
        }
        code = exit_code(&cli, err, &why);
    }
    disconnect(&cli);
    options_free(&cli.options);
    return code;
}

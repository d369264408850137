#include "clients/cli/help.h"

#include <string.h>

#define NAME_COLUMN 16

static void list_row(const struct cli_command *c, FILE *out)
{
    fprintf(out, "  %-*s %s\n", NAME_COLUMN, c->name, c->summary);
}

void help_all(FILE *out)
{
    fprintf(out, "usage: godwit [OPTION]... COMMAND [ARGUMENT]...\n\n"
                 "Agents that carry their state live on a mesh of equal hosts, move between them,\n"
                 "sleep on disk and answer messages wherever they are.\n\ncommands:\n");
    const struct cli_command *c;
    for (size_t i = 0; (c = cli_row(i)); i++) {
        if (!c->hidden) {
            list_row(c, out);
        }
    }
    fprintf(out, "\noptions, before or after the command:\n");
    options_help(cli_global_options, out);
    fprintf(out, "\n\"godwit COMMAND --help\" says more. Agents are named by id, by a unique "
                 "ending of at least\n"
                 "4 characters, or by alias.\n");
}

void help_command(const struct cli_command *c, FILE *out)
{
    fprintf(out, "usage: godwit %s%s%s%s\n\n%s\n", c->name, c->options ? " [OPTION]..." : "",
            c->args[0] ? " " : "", c->args, c->summary);
    if (c->help) {
        fprintf(out, "\n%s\n", c->help);
    }
    if (c->options) {
        fprintf(out, "\noptions:\n");
        options_help(c->options, out);
    }
    fprintf(out, "\nglobal options:\n");
    options_help(cli_global_options, out);
}

bool help_family(const char *family, FILE *out)
{
    size_t n = strlen(family), found = 0;
    const struct cli_command *c;
    for (size_t i = 0; (c = cli_row(i)); i++) {
        if (strncmp(c->name, family, n) == 0 && c->name[n] == ' ' && !c->hidden) {
            if (found++ == 0 && out) {
                fprintf(out, "usage: godwit %s COMMAND [ARGUMENT]...\n\ncommands:\n", family);
            }
            if (out) {
                list_row(c, out);
            }
        }
    }
    return found > 0;
}

/* Every command and each of its options, one a line: for scripts and for the check of the docs. */
static void list_plain(FILE *out)
{
    const struct cli_command *c;
    for (size_t i = 0; (c = cli_row(i)); i++) {
        if (c->hidden) {
            continue;
        }
        fprintf(out, "%s\n", c->name);
        for (const struct cli_option *o = c->options; o && o->name; o++) {
            fprintf(out, "%s --%s\n", c->name, o->name);
        }
    }
}

const struct cli_option help_options[] = {
    {"list", 0, OPTION_FLAG, NULL, "every command and option, one a line"},
    {0},
};

gw_err help_run(struct cli *cli, struct gw_error *why)
{
    if (option_given(&cli->options, "list")) {
        list_plain(stdout);
        return GW_OK;
    }
    if (cli->argc == 0) {
        help_all(stdout);
        return GW_OK;
    }
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", cli->argv[0], cli->argc > 1 ? " " : "",
             cli->argc > 1 ? cli->argv[1] : "");
    const struct cli_command *c = cli_find(name);
    if (c && c->main) {
        char help[] = "--help";
        char *args[] = {(char *)(uintptr_t)c->name, help, NULL};
        cli->exit_code = c->main(2, args);
    } else if (c) {
        help_command(c, stdout);
    } else if (!help_family(name, stdout)) {
        return gw_fail(why, GW_EARG, "there is no command \"%s\"", name);
    }
    return GW_OK;
}

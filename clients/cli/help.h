/* Help, from the tables. */
#ifndef CLIENTS_CLI_HELP_H
#define CLIENTS_CLI_HELP_H

#include "clients/cli/cli.h"

void help_all(FILE *out);
void help_command(const struct cli_command *command, FILE *out);
/* The commands whose name begins with "family " (mesh); false when there are none. */
bool help_family(const char *family, FILE *out);
/* `godwit help [COMMAND]...` */
extern const struct cli_option help_options[];
gw_err help_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;

#endif

/* The commands: one row each in commands.c, their work in the cmd_*.c files. */
#ifndef CLIENTS_CLI_COMMANDS_H
#define CLIENTS_CLI_COMMANDS_H

#include "clients/cli/cli.h"

extern const struct cli_command commands[];
extern const size_t commands_count;

/* cmd_host.c */
gw_err stop_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err status_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err metrics_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err hosts_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err types_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_agent.c */
extern const struct cli_option create_options[];
gw_err create_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option agents_options[];
gw_err agents_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err show_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option send_options[];
extern const struct cli_option publish_options[];
gw_err send_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err publish_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err topics_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_life.c */
extern const struct cli_option dispatch_options[];
gw_err dispatch_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err retract_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option drain_options[];
gw_err drain_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option clone_options[];
gw_err clone_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option itinerary_options[];
gw_err itinerary_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option deactivate_options[];
gw_err deactivate_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err activate_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err dispose_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err kill_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option moves_options[];
gw_err moves_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option resolve_options[];
gw_err resolve_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_dead.c */
extern const struct cli_option dead_list_options[];
gw_err dead_list_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err dead_show_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err dead_replay_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err dead_drop_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_files.c */
extern const struct cli_option files_copy_options[];
gw_err files_push_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err files_pull_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err files_copy_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_files_ls.c */
extern const struct cli_option files_ls_options[];
gw_err files_ls_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_artifacts_put.c */
extern const struct cli_option artifacts_put_options[];
gw_err artifacts_put_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_artifacts_get.c */
extern const struct cli_option artifacts_get_options[];
gw_err artifacts_get_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_artifacts.c */
extern const struct cli_option artifacts_ls_options[];
gw_err artifacts_ls_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err artifacts_info_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err artifacts_rm_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option artifacts_verify_options[];
gw_err artifacts_verify_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_log.c */
extern const struct cli_option events_options[];
gw_err events_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
extern const struct cli_option logs_options[];
gw_err logs_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_mesh.c */
extern const struct cli_option mesh_token_options[];
gw_err mesh_token_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err mesh_tokens_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err mesh_revoke_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
gw_err mesh_status_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;
/* cmd_selftest.c */
extern const struct cli_option selftest_options[];
gw_err selftest_run(struct cli *cli, struct gw_error *why) GW_MUST_USE;

#endif

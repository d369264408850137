/* Handlers of the operation table (host/core/ops.c); each answers its call once, now or later. */
#ifndef HOST_CORE_OP_HANDLERS_H
#define HOST_CORE_OP_HANDLERS_H

#include "host/core/op.h"

void op_health(struct node *node, struct op_call *call);
void op_status(struct node *node, struct op_call *call);
void op_metrics(struct node *node, struct op_call *call);
void op_stop(struct node *node, struct op_call *call);
void op_hosts(struct node *node, struct op_call *call);
void op_types(struct node *node, struct op_call *call);
void op_create(struct node *node, struct op_call *call);
void op_agents(struct node *node, struct op_call *call);
void op_show(struct node *node, struct op_call *call);
void op_send(struct node *node, struct op_call *call);
void op_publish(struct node *node, struct op_call *call);
void op_topics(struct node *node, struct op_call *call);
void op_dispatch(struct node *node, struct op_call *call);
void op_retract(struct node *node, struct op_call *call);
void op_drain(struct node *node, struct op_call *call);
void op_clone(struct node *node, struct op_call *call);
void op_itinerary(struct node *n, struct op_call *call);
void op_deactivate(struct node *node, struct op_call *call);
void op_activate(struct node *node, struct op_call *call);
void op_dispose(struct node *node, struct op_call *call);
void op_folder(struct node *node, struct op_call *call);
void op_artifacts_have(struct node *node, struct op_call *call);
void op_artifacts_find(struct node *node, struct op_call *call);
void op_artifacts_fetch(struct node *node, struct op_call *call);
void op_artifacts_repair(struct node *node, struct op_call *call);
void op_artifacts_import(struct node *node, struct op_call *call);
void op_artifacts_release(struct node *node, struct op_call *call);
void op_artifacts_list(struct node *node, struct op_call *call);
void op_artifacts_info(struct node *node, struct op_call *call);
void op_artifacts_rm(struct node *node, struct op_call *call);
void op_artifacts_stats(struct node *node, struct op_call *call);
void op_artifacts_verify(struct node *node, struct op_call *call);
void op_kill(struct node *node, struct op_call *call);
void op_moves(struct node *node, struct op_call *call);
void op_resolve(struct node *node, struct op_call *call);
void op_dead(struct node *node, struct op_call *call);
void op_dead_replay(struct node *node, struct op_call *call);
void op_dead_drop(struct node *node, struct op_call *call);
void op_events(struct node *node, struct op_call *call);
void op_logs(struct node *node, struct op_call *call);
void op_files_copy(struct node *node, struct op_call *call);
void op_files_ls(struct node *node, struct op_call *call);
void op_token(struct node *node, struct op_call *call);
void op_tokens(struct node *node, struct op_call *call);
void op_revoke(struct node *node, struct op_call *call);
void op_locate(struct node *node, struct op_call *call);
void op_accept(struct node *node, struct op_call *call);
void op_whereabouts(struct node *node, struct op_call *call);
void op_renew(struct node *node, struct op_call *call);
void op_join(struct node *node, struct op_call *call);

#endif

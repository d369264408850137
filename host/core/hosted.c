/* What the environment asks about agents, and tells of what it keeps for them. */
#include "host/core/handoff.h"
#include "host/core/internal.h"
#include "host/core/sleepers.h"

const char *node_agent_type(struct node *n, const gw_id *id)
{
    struct sleeper_view sleeper;
    struct agent *a;
    HASH_FIND(hh, n->agents, id, sizeof *id, a);
    if (a) {
        return a->type->name;
    }
    return sleepers_look(n, id, &sleeper) ? sleeper.type->name : NULL;
}

static bool departed_here(const struct node *n, const gw_id *id)
{
    const struct ticket_out *t;
    const struct move_out *m;
    TICKET_OUT_EACH(n, t, m)
    {
        if (gw_id_equal(&m->agent_id, id)) {
            return true;
        }
    }
    return false;
}

bool node_holds_agent(struct node *n, const gw_id *id)
{
    struct move_in *coming;
    HASH_FIND(hh, n->moves_in, id, sizeof *id, coming);
    return coming || node_agent_type(n, id) || departed_here(n, id);
}

void node_tell_over_quota(struct node *n, const gw_id *agent, const char *type, const char *text)
{
    event_now(n, &(struct event){
                     .kind = "agent.quota",
                     .agent = agent,
                     .type = agent ? node_agent_type(n, agent) : type,
                     .text = text,
                 });
}

void node_tell_artifact(struct node *n, node_artifact_news what, const gw_id *owner,
                        const char *text)
{
    struct event e = {.kind = "artifact.put", .agent = owner, .text = text};
    if (what == ARTIFACT_REMOVED) {
        e.kind = "artifact.removed";
    } else if (what == ARTIFACT_DAMAGED) {
        e.kind = "artifact.damaged";
    }
    if (!n->stopped) { /* else nothing is written any more */
        event_now(n, &e);
    }
}

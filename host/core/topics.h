/* Topics in memory, shared by topics.c and publish.c. */
#ifndef HOST_CORE_TOPICS_H
#define HOST_CORE_TOPICS_H

#include "host/core/internal.h"

struct sub {
    UT_hash_handle hh; /* in topic->subs, by agent */
    gw_id agent;
    struct topic *topic;
    LIST_ENTRY(sub) of_agent;
    bool mesh;
    bool here;      /* its agent lives here */
    uint64_t heard; /* n->topics_clock when it was last told of */
};
struct topic {
    UT_hash_handle hh; /* in node->topics, by name */
    char name[LIMIT_NAME_BYTES + 1];
    struct sub *subs;
};
struct topic_agent {
    UT_hash_handle hh; /* in node->topic_agents, by id */
    gw_id id;
    LIST_HEAD(sub_list, sub) subs;
    size_t count;
};

struct topic *topic_of(struct node *n, const char *name);             /* NULL: nobody */
struct topic_agent *topics_of_agent(struct node *n, const gw_id *id); /* NULL: none */
/* How many hear a publication that is made here. */
size_t topics_targets(struct node *n, const char *topic);
/* One tell for each of them into the transaction of w (order->to is set); how many. */
size_t topics_fan_out(struct work *w, struct store_batch *batch, const char *topic,
                      const struct tell_order *order);

#endif

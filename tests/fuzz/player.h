/* An agent type that can do whatever an agent can ask for, so that a program of steps reaches it.
 *
 *   add(by, number, pad)  the count grows; "#number" goes into the log
 *   relay(to, number)     tells `to` to add
 *   act(verb, text, agent, n, number)
 *       timer every each cancel            a timer `text` in n ms
 *       monitor monitor_host demonitor     of `agent`, of host `text`, of the last one
 *       subscribe unsubscribe publish      topic `text`; n & 1: of the whole mesh
 *       tell ask_then                      `agent`, method add
 *       dispatch clone itinerary           to host `text`; n & 1: and home again
 *       deactivate nap dispose fail log    nap: wake after n ms
 *       crash                              player_crash is called with the number of its host
 *   want() -> (got)       answered later, by act("pay") or act("pay_fail")
 *   get() -> (count), history() -> (log) */
#ifndef TESTS_FUZZ_PLAYER_H
#define TESTS_FUZZ_PLAYER_H

#include "tests/mesh/tally.h"

extern const struct gw_type player_type;
extern const struct gw_type desk_type; /* the same as a built-in type */
extern void (*player_crash)(size_t host);
extern const struct gw_type *const player_types[]; /* player; lazy: keeps less; digger: has `run` */
extern const size_t player_type_count;

#endif

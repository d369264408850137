/* The type of the agents that live random lives (world.h): it does each thing that an agent can do
 * when it is told to, and keeps a log that says what was applied, how often and in which order.
 *
 * Lines of the log, n = the number that came with it:
 *     mN note      sN relay of n left     aN announced        pN publication heard
 *     wN wanted    gN given               oN watches          dN a down for that
 *     tN timer     hN timer cancelled     qN spoilt (never there: that handler fails)
 *     cN file registered, then =N:RUN     xN file dropped         without... a file is not there
 *     create leave arrive retract clone sleep wake            hooks
 *     going                                                   go has run */
#ifndef TESTS_MESH_CITIZEN_H
#define TESTS_MESH_CITIZEN_H

#include <godwit/agent.h>

/* note(number) -> (count)       relay(to, number): tells `to` to note it
 * want(number) -> (got)         answered when give(number) has run, before or after
 * give(number)                  alarm(number, ms): a timer     hush(number): cancels it
 * watch(agent, number)          announce(topic, number): publishes
 * follow(topic, mesh)           unfollow(topic)
 * go(to), twin(to), doze(ms)    wishes about itself; ms > 0: it wakes by itself after so long
 * carry(number, copy): a new file travels with it     shed(number): not any more
 * spoil(number)                 changes the state, sets a timer, tells itself, then fails
 * history() -> (log)            GW_READ */
extern const struct gw_type citizen_type;
extern const struct gw_type settler_type; /* the same under another name: what creates make */
extern const struct gw_type *const citizen_types[2];
extern const struct gw_type
    *const citizen_newer_types[2]; /* both in version 2, with the same state */

#endif

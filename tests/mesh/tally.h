/* Agent types of the mesh tests. */
#ifndef TESTS_MESH_TALLY_H
#define TESTS_MESH_TALLY_H

#include <godwit/agent.h>

/* tally: {int64 count; strs log; bytes load}
 *   add(by: int = 1, number: int = -1) -> (count: int)     count += by; numbers are logged as "#n"
 *   get() -> (count: int)                 GW_READ
 *   history() -> (log: [string])          GW_READ; one line per hook, oldest first
 *   relay(to: agent, by: int = 1, number: int = -1)        tells `to` to add, count untouched
 *   post(to: agent, number: int, method: string = "add", priority: int = 0, deadline: duration = 0,
 *        no_wake: bool = false)           the same with the options of gw_tell_with
 *   follow(topic: string, mesh: bool = true), unfollow(topic: string)   subscribes, ends that
 *   on_topic(number: int = -1)            count += 1; logs "topic#n"
 *   announce(topic: string, number: int)  publishes
 *   mark(number: int = -1)                logs its trace and the time that it has left
 *   go(to: string)                        dispatches itself
 *   twin(to: string = "")                adds 1 and clones itself, here or there
 *   doze()                                deactivates itself
 *   load(bytes: int)                      fills a part of its own
 *   spoil()                               changes the state, then fails */
extern const struct gw_type tally_type;
extern const struct gw_type homebody_type; /* on_dispatch refuses */
extern const struct gw_type grumpy_type;   /* on_arrive fails; it stays where it arrived */
/* `morph` in two forms that do not decode each other: the field v is text here, a number there. */
extern const struct gw_type morph_text_type;
extern const struct gw_type morph_number_type;

extern const struct gw_type *const tally_types[]; /* tally, homebody, grumpy, morph (text) */
extern const size_t tally_type_count;

#endif

/* Folders of agents as trees of files: how large one is, and how it is taken away. What is in them
 * is made by agents: links are never followed, other file systems not entered, nothing below is
 * deeper than AGENT_TREE_DEPTH folders without being noticed. Any thread; blocks. */
#ifndef HOST_AGENT_TREE_H
#define HOST_AGENT_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include <godwit/err.h>

#define AGENT_TREE_DEPTH 64 /* each level holds a descriptor open while it is walked */

/* Asked at each name; false ends the walk with GW_ECANCELLED. */
typedef bool (*agent_tree_go_on)(void *arg);

/* Bytes on disk of the folder `name` of the folder `at`, as du counts them (a file with two names
 * counts twice). GW_ENOT_FOUND there is none; GW_ETOO_BIG folders deeper than AGENT_TREE_DEPTH;
 * GW_EIO; GW_ECANCELLED. What vanishes meanwhile does not count. */
gw_err agent_tree_measure(int at, const char *name, agent_tree_go_on go_on, void *arg,
                          uint64_t *ret_bytes) GW_MUST_USE;

/* Remove the tree `name` of the folder `at`. What is deeper than AGENT_TREE_DEPTH is moved up into
 * `at` under names of its own, to be removed next: *ret_more. GW_OK also when there is none;
 * GW_EIO something of it cannot be removed; GW_ECANCELLED. */
gw_err agent_tree_remove(int at, const char *name, agent_tree_go_on go_on, void *arg,
                         bool *ret_more) GW_MUST_USE;

#endif

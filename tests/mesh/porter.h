/* A type whose agents carry files, and write down which they find when a hook runs. */
#ifndef TESTS_MESH_PORTER_H
#define TESTS_MESH_PORTER_H

#include "tests/mesh/virtual.h"

extern const struct gw_type porter_type;
/* The mesh whose files handlers see. */
void porter_play(struct mesh *m);
/* " NAME=CONTENT" for each file of the agent at work, in hex; CONTENT is "gone" for one that is not
 * where gw_file_path says. */
gw_err porter_files(struct gw_call *call, char *ret, size_t cap);
/* Make a file at the host of the handler; its number, and its path among the files there. */
uint64_t porter_new_file(struct gw_call *call, char ret_path[64]);
#define PORTER_CONTENT(run) ((run) << 16) /* and how often it was changed */
/* The place of a path of gw_file_path among the files of a virtual host. */
const char *porter_place(const char *path);
/* Start hosts that have it. */
struct mesh *porter_mesh(uint64_t seed, size_t hosts);
gw_err porter_carry(struct mesh *m, size_t via, const gw_id *agent, const char *path,
                    const char *name, bool copy);
/* Files below a folder of a host. */
size_t porter_count(struct mesh *m, size_t host, const char *folder);

#endif

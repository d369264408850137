/* How often branches were reached that only a fault reaches (reach.def): REACH(NAME) in the branch.
 *
 * One counter each, of the whole process, and in every build: what is tested is what is shipped,
 * and the cost is an addition where something has failed already. Only the loop thread runs the
 * core. Tests read them; nothing of the product does. */
#ifndef HOST_CORE_REACH_H
#define HOST_CORE_REACH_H

#include <stdint.h>

typedef enum reach {
#define REACH_POINT(name, what) REACH_##name,
#include "host/core/reach.def"
#undef REACH_POINT
    REACH_COUNT
} reach;

extern uint64_t reach_counts[REACH_COUNT];
#define REACH(name)          ((void)++reach_counts[REACH_##name])
#define REACH_IF(cond, name) ((void)(reach_counts[REACH_##name] += (cond) ? 1 : 0))

const char *reach_name(reach point); /* as in the code */
const char *reach_what(reach point);

#endif

#include "host/core/reach.h"

uint64_t reach_counts[REACH_COUNT];

static const char *const names[] = {
#define REACH_POINT(name, what) #name,
#include "host/core/reach.def"
#undef REACH_POINT
};
static const char *const whats[] = {
#define REACH_POINT(name, what) what,
#include "host/core/reach.def"
#undef REACH_POINT
};

const char *reach_name(reach point)
{
    return names[point];
}

const char *reach_what(reach point)
{
    return whats[point];
}

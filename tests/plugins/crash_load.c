/* Crashes before the runner can say hello. */
#include <stdlib.h>

#include <godwit/agent.h>

static __attribute__((constructor)) void crash(void)
{
    abort();
}

struct crash_load {
    int64_t n;
};

GW_AGENT(crash_load, struct crash_load);

/* Includes the header and defines no type. */
#include <godwit/agent.h>

int no_agent_answer(void);
int no_agent_answer(void)
{
    return GW_ABI;
}

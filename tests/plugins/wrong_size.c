/* The right ABI number, but headers that were changed by hand. */
#define GW_NO_PLUGIN_INFO
#include <godwit/agent.h>

GW_API const struct gw_plugin *gw_plugin_info(void);
const struct gw_plugin *gw_plugin_info(void)
{
    static const struct gw_plugin info = {.abi = GW_ABI, .type_size = 12345};
    return &info;
}

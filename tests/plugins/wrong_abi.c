/* A plugin of another time. */
#define GW_NO_PLUGIN_INFO
#include <godwit/agent.h>

GW_API const struct gw_plugin *gw_plugin_info(void);
const struct gw_plugin *gw_plugin_info(void)
{
    static const struct gw_plugin info = {.abi = GW_ABI + 41, .type_size = sizeof(struct gw_type)};
    return &info;
}

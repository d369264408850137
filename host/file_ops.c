/* Operations on the files of this host. */
#include "host/core/op.h"
#include "host/host.h"

void file_ops_run(void *host, struct op_call *call, const struct env_host *to)
{
    struct gw_error why;
    (void)host, (void)to;
    gw_fail(&why, GW_ENOT_SUPPORTED, "this host does not serve files yet");
    op_fail(call, &why);
}

/* What the data plane serves, once: a further service or route is a row here. */
#include "host/bulk_table.h"

#include "host/file_ops.h"

const struct bulk_service bulk_services[] = {
    {"files", file_serve},
    {0},
};

const struct bulk_route bulk_routes[] = {
    {0},
};

#ifndef HOST_BULK_TABLE_H
#define HOST_BULK_TABLE_H

#include "host/bulk.h"

/* Ended by an empty row. Their ctx is the struct host, of which threads use only what is said to be
 * for any thread. */
extern const struct bulk_service bulk_services[];
extern const struct bulk_route bulk_routes[];

#endif

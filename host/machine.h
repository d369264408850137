/* Which machine this is. */
#ifndef HOST_MACHINE_H
#define HOST_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_BYTES 16
/* A hash of $GODWIT_MACHINE_ID when that is set, else of /etc/machine-id (machine-id(5) asks not to
 * show the id itself to others). False: it is not known. */
bool machine_id(uint8_t ret[MACHINE_BYTES]);

#endif

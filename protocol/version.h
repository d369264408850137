/* The version of Godwit as people read it; wire compatibility is PROTOCOL_VERSION in
 * protocol/frame.h. */
#ifndef PROTOCOL_VERSION_H
#define PROTOCOL_VERSION_H

#define GODWIT_VERSION "0.1.0"

#endif

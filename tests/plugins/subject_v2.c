/* subject.c as a host has it that was built later. */
#define GUEST_VERSION 2
#include "tests/plugins/subject.c"

/* Rules of the handoff that a build of the tests breaks on purpose, one at a time, to see that they
 * notice (tests/broken): -DGW_BROKEN=2 leaves out H2. Without the define nothing is broken and the
 * compiler drops the branch. */
#ifndef HOST_CORE_BROKEN_H
#define HOST_CORE_BROKEN_H

#ifndef GW_BROKEN
#define GW_BROKEN 0
#endif
#define BROKEN(rule) (GW_BROKEN == (rule))

#endif

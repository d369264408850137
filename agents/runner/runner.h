/* A runner: a child process of the host that holds one plugin and runs its agents. */
#ifndef AGENTS_RUNNER_RUNNER_H
#define AGENTS_RUNNER_RUNNER_H

/* `godwit runner --fd N --plugin PATH [--memory BYTES]`: loads a private copy of the plugin, sends
 *     HELLO, stream 0: "runner", PROTOCOL_VERSION, {plugin, abi, pid, types: engine_describe[,
 *     error: {code: text, text[, hint]}]}
 * over the socket N and serves RUN and UNLOAD frames until the host closes it. A plugin that cannot
 * be loaded is told with `error`, and the exit code is 1. `--memory` bounds heap and private
 * mappings (at least 64 MiB, 0 = not). Returns only then, or with 2 for wrong usage. */
int runner_main(int argc, char **argv);

#endif

/* The engine: runs handlers of agents that it holds as C structs, and speaks the frames RUN, DONE
 * and UNLOAD. No I/O and no threads of its own, so that the runner (threads, a socket) and the
 * simulator (in-process, virtual clock) run the very same code.
 *
 * An object here is a cache: the host owns the state as parts (packed bytes by name) and gives them
 * with RUN when the engine does not have them. Parts:
 *     ""     map {"": type version, field: value, ...} of every field whose packed value is at most
 *            PART_INLINE_BYTES, then unknown fields that a newer version wrote
 *     FIELD  the packed value of one larger field
 *
 * RUN, in the order of its rules
 * - hook CREATE: a zero object; the arguments set fields of their names (GW_EARG lists the fields),
 *   then on_create runs. An object of that id is dropped first.
 * - with parts: load. If the object exists only tabled members are rewritten, others stay. A state
 * of an older version goes through .upgrade; the version kept is the highest that ever wrote it.
 * - without parts and without a usable object: DONE with GW_EUNKNOWN; the host sends parts. A
 * handler never ends with that code (it becomes GW_EFAIL).
 * - a hook without a handler: GW_OK, nothing changed.
 * DONE on success: the reply; `parts` with every part whose bytes differ from the last commit (nil
 * = the part exists no longer; with RUN_SNAPSHOT all parts); actions; DONE_READ when nothing has to
 * be committed. `parts` is nil when no part differs. CREATE answers all parts, as none was
 * committed. DONE on failure: code, text, hint. If the handler had begun (and is not GW_READ) the
 * object is stale: the next RUN has to bring parts. An object whose CREATE failed is gone.
 * RUN_DISCARD: the object is dropped after a success, the result lives in the answer only. */
#ifndef AGENTS_SDK_ENGINE_H
#define AGENTS_SDK_ENGINE_H

#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include <godwit/agent.h>

#include "protocol/frame.h"
#include "protocol/inline.h"

#define PART_INLINE_BYTES 4096 /* larger packed fields are parts of their own: see persistence */

struct engine;
struct engine_agent;

struct engine_ask; /* a CALL under way; whoever runs the engine knows what is in it */

/* What the engine needs from whoever runs it. Called in the thread that executes the handler; `ctx`
 * is the one of engine_new. Without `start` (then `wait`, `take` and `drop` are not needed either)
 * verbs that ask answer GW_EINLINE; `log` and `now_ms` may be NULL. */
struct engine_io {
    /* Send CALL. `args` and `context` are borrowed. `waits`: the handler waits for it next;
     * GW_EBUSY when too many do already, and nothing was sent then. `why` is never NULL.
     * Operations as in the host's table; agents are texts there:
     *    "send"    {agent, method, args, key: text}      -> map with `reply`
     *    "create"  {type, state, at?, key: text}         -> map with `agent`
     *    "hosts"   {}                                    -> list, or map with `hosts`
     *    "dispatch" {agent, to}, "retract" {agent, to?}, "clone" {agent, to?, key}, "deactivate",
     * "activate", "dispose" {agent} `key` follows from the key of RUN and the number of the verb in
     * its handler: a re-run repeats it, and gets the answer that was recorded the first time.
     * context {agent: id of the caller, chain: [ids that wait, the caller last]}. */
    gw_err (*start)(void *ctx, const char *op, const gw_value *args, const gw_value *context,
                    bool waits, struct engine_ask **ret, struct gw_error *why);
    /* Until one of them (`all`: each of them) is answered. GW_ETIMEOUT; GW_EBUSY too many wait
     * already. timeout_ms 0 only looks, GW_FOREVER has no limit. */
    gw_err (*wait)(void *ctx, struct engine_ask *const *asks, size_t n, bool all,
                   int64_t timeout_ms, struct gw_error *why);
    /* 0: not yet; else a number that is the smaller the earlier the answer came. */
    uint64_t (*answered)(void *ctx, const struct engine_ask *ask);
    /* The outcome of one that is answered, once: `ret` is written only on success. */
    gw_err (*take)(void *ctx, struct engine_ask *ask, gw_value *ret, struct gw_error *why);
    /* Free it, answered or not. */
    void (*drop)(void *ctx, struct engine_ask *ask);
    /* Send `frame` (SAVE) and wait for the SAVED on that stream, whose bytes go into `ret_answer`.
     * Frames of that agent that come before it are executed in this thread, inside this call.
     * GW_EBUSY: too many handlers wait already. NULL: gw_save in `run` answers GW_EINLINE. */
    gw_err (*save)(void *ctx, const gw_id *agent, uint64_t stream, const struct buf *frame,
                   struct buf *ret_answer, struct gw_error *why);
    /* trace: the handler's, as traceparent; "" = none */
    void (*log)(void *ctx, const gw_id *agent, unsigned level, const char *text, const char *trace);
    int64_t (*now_ms)(void *ctx); /* NULL: the clock of the machine */
};

struct engine *engine_new(const struct engine_io *io, void *ctx); /* `io` is copied */
void engine_free(struct engine *engine); /* NULL allowed; on_unload of every object runs */

/* Add a type (from a plugin, or static in a program). It is borrowed for the engine's life. Before
 * the first engine_run only. GW_EABI (numbers of both sides, field table), GW_ESIGNATURE (with
 * caret), GW_EPLUGIN (name, methods), GW_EEXISTS. */
gw_err engine_add_type(struct engine *engine, const struct gw_type *type,
                       struct gw_error *why) GW_MUST_USE;
/* All types of a plugin; GW_EABI names both numbers, GW_EPLUGIN when it has none. */
gw_err engine_add_plugin(struct engine *engine, const struct gw_plugin *plugin,
                         struct gw_error *why) GW_MUST_USE;
/* [{name, version, fields, methods: [{signature, read}], hooks: bits 1 << frame_hook, durability}]
 */
gw_err engine_describe(const struct engine *engine, gw_value *ret) GW_MUST_USE;

/* Execute one frame RUN or UNLOAD and append the frame DONE (RUN only, on its stream). A frame that
 * is malformed is answered DONE with GW_EPROTO. When memory fails for the answer itself,
 * buf_ok(out) is false. The frame is borrowed for the call. One caller at a time. */
void engine_run(struct engine *engine, const struct frame *frame, struct buf *out);

/* A message without frames, for a host in the same process: run the method, leave what it left in
 * `done` (inline_done_init). What engine_run would answer with GW_EUNKNOWN is done->err here, and
 * `in->args` are then as before. */
void engine_call(struct engine *engine, struct inline_run *in, struct inline_done *done);

/* The same in three steps, for several threads: hold and release under one lock of the caller,
 * execute outside of it, never two at a time for the same agent. */
gw_err engine_target(const struct frame *frame, gw_id *ret) GW_MUST_USE;  /* GW_EPROTO */
struct engine_agent *engine_hold(struct engine *engine, const gw_id *id); /* NULL: out of memory */
void engine_execute(struct engine *engine, struct engine_agent *agent, const struct frame *frame,
                    struct buf *out);
void engine_release(struct engine *engine, struct engine_agent *agent);

size_t engine_agents(const struct engine *engine); /* objects held */

#endif

/* Artifacts: contents of any size that agents make, hand to each other by reference, and read as
 * files. An artifact never changes; it is named by the SHA-256 of its content, and lives on hosts,
 * not in agents: it neither moves nor ends with the one who made it.
 *
 *     put ──> gw_artifact ──> a message, a reply, the state ──> fetch ──> a file to read
 *
 * In signatures its type is `artifact`, in messages and states it is a text: HASH@HOST, the hash in
 * hex and the id of a host that has it. A receiver fetches it when it wants it, from whichever
 * hosts have it: the one that is named, if it is there, and others.
 *
 * All functions ask the host and wait, as the other blocking verbs of agent.h do; in built-in types
 * they fail with GW_EINLINE. What they did is not undone when the handler fails: a handler that
 * runs again after a crash may put the same content again, which costs a row and no room; give it a
 * ttl. */
#ifndef GODWIT_ARTIFACT_H
#define GODWIT_ARTIFACT_H

#include <godwit/agent.h>

#define GW_ARTIFACT_NAME 256 /* with NUL */
#define GW_ARTIFACT_TYPE 128
#define GW_ARTIFACT_TEXT 136

struct gw_artifact {
    char hash[65];               /* SHA-256 of the content, hex, as sha256sum prints it */
    char host[65];               /* id or name of a host that has it; "": not known */
    uint64_t size;               /* bytes. This and the rest: not known to gw_artifact_parse */
    char name[GW_ARTIFACT_NAME]; /* may be "" */
    char type[GW_ARTIFACT_TYPE]; /* media type */
    gw_time expires;             /* ms 0: never, or not known */
};

/* All zero is the usual way. */
struct gw_artifact_options {
    const char *name; /* NULL: the last part of the path; at most 255 bytes of UTF-8 */
    const char *type; /* media type; NULL: application/octet-stream */
    int64_t ttl_ms;   /* removed after so long [1 .. 100 y]; 0: when it is dropped */
};

/* Make a file an artifact of this agent on this host. `path`: in the work folder of the agent or in
 * the storage of its type (gw_work_dir, gw_storage), or below a root of the host (setting roots);
 * one that is not absolute is relative to the work folder. Options NULL: none. GW_EDENIED: it lies
 * elsewhere; GW_ENOT_FOUND; GW_EARG: no regular file, an option is out of its range; GW_ETOO_BIG,
 * GW_EQUOTA: above what the host stores; GW_EDISK_FULL. */
GW_API gw_err gw_artifact_put(struct gw_call *call, const char *path,
                              const struct gw_artifact_options *options,
                              struct gw_artifact *ret) GW_MUST_USE;
/* The same from memory, by way of a file in the work folder. */
GW_API gw_err gw_artifact_put_bytes(struct gw_call *call, const void *data, size_t len,
                                    const struct gw_artifact_options *options,
                                    struct gw_artifact *ret) GW_MUST_USE;
/* Get it, unless it is on this host already, and give a path to read it from: a file of mode 0400
 * in the work folder (artifacts/HASH), which counts against its quota and which the agent may
 * remove. Only `hash` and `host` of what is given matter. Borrowed until the handler returns. The
 * copy that this host then has belongs to this agent, and is removed after a day. GW_ENOT_FOUND: no
 * host that can be reached has it; GW_EUNREACHABLE: only a part of it could be had, and what came
 * is kept for the next time; GW_ETOO_BIG: above the quota of the folder; GW_EQUOTA, GW_EDISK_FULL.
 */
GW_API gw_err gw_artifact_fetch(struct gw_call *call, const struct gw_artifact *artifact,
                                const char **ret_path) GW_MUST_USE;
/* Size, name, type and end, asked of this host or of those that have it. GW_ENOT_FOUND. */
GW_API gw_err gw_artifact_info(struct gw_call *call, const struct gw_artifact *artifact,
                               struct gw_artifact *ret) GW_MUST_USE;
/* Remove those of this agent with that content on the host that it names (none: this one). Copies
 * elsewhere, and artifacts of others with the same content, stay. GW_OK also when there is none;
 * GW_EUNREACHABLE: that host. */
GW_API gw_err gw_artifact_drop(struct gw_call *call,
                               const struct gw_artifact *artifact) GW_MUST_USE;

/* Put the file, add it to `args` (a map or nil; owned by the call whatever happens) as the argument
 * `arg`, and ask the agent. When the message fails, the artifact is dropped again, and the failure
 * is that of the message; else it stays until it expires or is dropped (`ret`, NULL allowed). */
GW_API gw_err gw_send_artifact(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                               const char *arg, const char *path,
                               const struct gw_artifact_options *options, struct gw_artifact *ret,
                               gw_value *ret_reply) GW_MUST_USE;

/* --- as text --- */
/* HASH or HASH@HOST. Returns ret. */
GW_API char *gw_artifact_text(const struct gw_artifact *artifact, char ret[GW_ARTIFACT_TEXT]);
/* hash and host of such a text. GW_EARG. */
GW_API gw_err gw_artifact_parse(const char *text, struct gw_artifact *ret) GW_MUST_USE;
/* For the arguments of a message. */
GW_API gw_value gw_artifact_value(const struct gw_artifact *artifact);
/* An argument of type `artifact`. GW_EARG: it is absent, or no hash of an artifact. */
GW_API gw_err gw_arg_artifact(struct gw_call *call, const char *name,
                              struct gw_artifact *ret) GW_MUST_USE;
GW_API gw_err gw_reply_artifact(struct gw_call *call, const char *name,
                                const struct gw_artifact *artifact) GW_MUST_USE;

#endif

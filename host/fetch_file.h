/* Files that become artifacts, and artifacts that become files, below the folders of an agent. On
 * threads of the data plane. */
#ifndef HOST_FETCH_FILE_H
#define HOST_FETCH_FILE_H

#include "host/files/io.h"
#include "host/files/roots.h"
#include "persistence/artifact.h"

/* Put the file at `path` into the store: below one of the roots, which are resolved as roots.h
 * says. GW_EDENIED: below none; GW_ENOT_FOUND, GW_EARG (no regular file), GW_EIO, and those of
 * artifact_writer. */
gw_err fetch_file_import(struct chunk_store *s, struct bulk_io *io, const struct roots *roots,
                         const char *path, const struct artifact_meta *meta,
                         struct artifact_info *ret, struct gw_error *why) GW_MUST_USE;

/* Write the artifact to FOLDER/artifacts/HASH, whole or not at all; one that is there already with
 * that size stays. `ret_path` is to be freed. */
gw_err fetch_file_export(struct chunk_store *s, struct bulk_io *io, const gw_id *artifact,
                         const char *folder, char **ret_path, struct gw_error *why) GW_MUST_USE;

#endif

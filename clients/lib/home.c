/* What stands on this machine's disk below a home: mesh, certificates, hosts. */
#include <godwit/client.h>

#include <unistd.h>

#include "clients/lib/find.h"
#include "clients/lib/tls.h"

/* When the certificate dir/name ends; nil when none can be read. */
static gw_value end_of(const char *dir, const char *name)
{
    char path[FILE_PATH_BYTES];
    gw_time end;
    if (file_join(path, NULL, dir, name) != GW_OK || tls_certificate_end(path, &end) != GW_OK) {
        return gw_nil();
    }
    return gw_time_value(end);
}

static gw_err describe_host(const char *home, const char *name, gw_value *ret)
{
    char folder[FILE_PATH_BYTES], dir[FILE_PATH_BYTES];
    GW_TRY(file_join(folder, NULL, home, "hosts"));
    GW_TRY(file_join(dir, NULL, folder, name));
    GW_TRY(gw_map_set(ret, "name", gw_str(name)));
    GW_TRY(gw_map_set(ret, "running", gw_bool(find_is_running(home, name))));
    return gw_map_set(ret, "expires", end_of(dir, "tls.crt"));
}

static gw_err describe_hosts(const char *home, gw_value *ret, struct gw_error *why)
{
    GW_AUTO(gw_strs_clear) gw_strs names = {0};
    GW_TRY(find_names(home, false, &names, why));
    ret->kind = GW_LIST;
    for (size_t i = 0; i < names.len; i++) {
        gw_value host = gw_nil();
        gw_err err = describe_host(home, names.items[i], &host);
        if (err != GW_OK) {
            gw_value_free(&host);
            return gw_fail(why, err, "cannot describe host \"%s\"", names.items[i]);
        }
        GW_TRY(gw_list_add(ret, host));
    }
    return GW_OK;
}

gw_err gw_home_status(const char *home, gw_value *ret, struct gw_error *why)
{
    char path[FILE_PATH_BYTES], key[FILE_PATH_BYTES], mesh_id[TLS_MESH_ID_TEXT];
    GW_AUTO(gw_value_free) gw_value status = gw_nil();
    gw_value hosts = gw_nil();
    GW_TRY(gw_home_path(home, path, sizeof path, why));
    GW_TRY(tls_mesh_id(path, mesh_id, why));
    GW_TRY(file_join(key, why, path, "mesh/ca.key"));
    GW_TRY(gw_map_set(&status, "home", gw_str(path)));
    GW_TRY(gw_map_set(&status, "mesh_id", mesh_id[0] ? gw_str(mesh_id) : gw_nil()));
    GW_TRY(gw_map_set(&status, "signer", gw_bool(access(key, F_OK) == 0)));
    GW_TRY(gw_map_set(&status, "ca_expires", end_of(path, "mesh/ca.crt")));
    GW_TRY(gw_map_set(&status, "operator_expires", end_of(path, "mesh/operator.crt")));
    gw_err err = describe_hosts(path, &hosts, why);
    if (err != GW_OK) {
        gw_value_free(&hosts);
        return err;
    }
    GW_TRY(gw_map_set(&status, "hosts", hosts));
    gw_value_free(ret);
    *ret = status;
    status = gw_nil();
    return GW_OK;
}

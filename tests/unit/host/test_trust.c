/* Identity and trust on disk: first start, files, damage, concurrent starts; renewal. */
#include "tests/unit/host/trust_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

static struct trust *open_host(const char *name)
{
    return open_in("", name);
}

static void expect_open(const char *name, gw_err code, const char *text)
{
    struct trust *t = NULL;
    struct gw_error why = {0};
    assert_int_equal(trust_open(root, name, &t, &why), code);
    assert_int_equal(why.code, code);
    assert_null(t);
    if (!strstr(why.text, text)) {
        fail_msg("\"%s\" is not in \"%s\"", text, why.text);
    }
}

static void write_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

static struct buf read_file(const char *path)
{
    struct buf b = {0};
    assert_int_equal(keyfile_read(path, KEYFILE_PUBLIC, &b, NULL), GW_OK);
    return b;
}

/* --- the first start and later ones --- */

static void expect_mode(const char *path, unsigned mode)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void test_first_start(void **state)
{
    (void)state;
    double begin = seconds();
    struct trust *t = open_host("alpha");
    double first = seconds() - begin;
    assert_true(t->signer && t->fresh);
    assert_string_equal(t->name, "alpha");
    struct host_id id = host_id_of_key(t->key.public_key);
    assert_true(host_id_equal(&id, &t->id));
    assert_true(t->cert_expires_ms - ca_now_ms() > 89LL * 86400000);
    assert_true(t->cert_expires_ms - ca_now_ms() < 91LL * 86400000);
    expect_mode(at("mesh"), 0700);
    expect_mode(at("hosts/alpha"), 0700);
    expect_mode(at("mesh/ca.key"), 0600);
    expect_mode(at("mesh/operator.key"), 0600);
    expect_mode(at("mesh/operator.crt"), 0600);
    expect_mode(at("hosts/alpha/identity.key"), 0600);
    expect_mode(at("hosts/alpha/tls.key"), 0600);
    char mesh[MESH_ID_TEXT];
    memcpy(mesh, t->mesh_id, sizeof mesh);
    trust_close(t);

    begin = seconds();
    t = open_host("alpha");
    double later = seconds() - begin;
    assert_true(t->signer && !t->fresh);
    assert_string_equal(t->mesh_id, mesh);
    assert_true(host_id_equal(&id, &t->id));
    trust_close(t);
    t = open_host("beta");
    assert_string_equal(t->mesh_id, mesh);
    assert_false(host_id_equal(&id, &t->id));
    trust_close(t);
    print_message("first start %.1f ms, later start %.1f ms\n", first * 1e3, later * 1e3);
}

static void test_nothing_left_over(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    const char *const dirs[] = {"mesh", "hosts/alpha"};
    const int counts[] = {6, 3}; /* ca.key ca.crt mesh.json lock operator.{key,crt}; three keys */
    for (int i = 0; i < 2; i++) {
        DIR *d = opendir(at(dirs[i]));
        assert_non_null(d);
        int n = 0;
        for (struct dirent *e; (e = readdir(d));) {
            assert_null(strstr(e->d_name, ".part"));
            n += e->d_name[0] != '.';
        }
        closedir(d);
        assert_int_equal(n, counts[i]);
    }
}

static void test_bad_names(void **state)
{
    (void)state;
    char longer[LIMIT_NAME_BYTES + 2];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    const char *const bad[] = {"", ".", "..", "../x", "a/b", "-a", "a b", "a\n", longer};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_open(bad[i], GW_EARG, "not a valid host name");
    }
    longer[LIMIT_NAME_BYTES] = '\0';
    trust_close(open_host(longer));
}

static void test_home_is_not_usable(void **state)
{
    (void)state;
    write_file(at("file"), "x", 1);
    struct trust *t;
    struct gw_error why = {0};
    assert_int_equal(trust_open(at("file"), "alpha", &t, &why), GW_EDENIED);
    assert_int_equal(trust_open("/proc/godwit", "alpha", &t, &why) == GW_OK, 0);
    assert_non_null(strstr(why.text, "/proc/godwit"));
}

/* --- damage --- */

static void test_damaged_files(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    const char *const files[] = {"hosts/alpha/identity.key", "hosts/alpha/tls.key",
                                 "hosts/alpha/tls.crt", "mesh/ca.key", "mesh/ca.crt"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = at(files[i]);
        struct buf good = read_file(path);
        write_file(path, "", 0);
        expect_open("alpha", GW_ECORRUPT, "damaged");
        write_file(path, good.data, good.len / 2);
        expect_open("alpha", GW_ECORRUPT, "damaged");
        struct buf now = read_file(path); /* never overwritten */
        assert_int_equal(now.len, good.len / 2);
        buf_free(&now);
        write_file(path, good.data, good.len);
        buf_free(&good);
        trust_close(open_host("alpha"));
    }
}

static void test_every_flipped_byte_of_the_identity(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    char *path = at("hosts/alpha/identity.key");
    struct buf good = read_file(path);
    for (size_t i = 0; i < good.len; i++) {
        good.data[i] ^= 1;
        write_file(path, good.data, good.len);
        expect_open("alpha", GW_ECORRUPT, "identity.key");
        good.data[i] ^= 1;
    }
    buf_free(&good);
    trust_close(t);
}

static void test_missing_files(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    assert_int_equal(unlink(at("hosts/alpha/identity.key")), 0);
    expect_open("alpha", GW_ECORRUPT, "missing");
    assert_false(keyfile_exists(at("hosts/alpha/identity.key")));
    trust_close(open_host("beta"));
    assert_int_equal(unlink(at("hosts/beta/tls.crt")), 0); /* issued again for the same keys */
    trust_close(open_host("beta"));
    assert_int_equal(unlink(at("mesh/ca.crt")), 0);
    expect_open("beta", GW_ECORRUPT, "is missing");
}

static void test_start_that_was_killed_between_key_and_certificate(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    struct buf key = read_file(at("mesh/ca.key"));
    assert_int_equal(nftw(at("hosts"), remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(unlink(at("mesh/ca.crt")), 0);
    assert_int_equal(unlink(at("mesh/mesh.json")), 0);
    assert_int_equal(unlink(at("mesh/operator.crt")), 0);
    struct trust *t = open_host("alpha");
    assert_true(t->fresh);
    struct buf same = read_file(at("mesh/ca.key"));
    assert_int_equal(key.len, same.len);
    assert_memory_equal(key.data, same.data, key.len);
    buf_free(&key);
    buf_free(&same);
    trust_close(t);
}

static void test_secrets_open_to_others(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    const char *const files[] = {"hosts/alpha/identity.key", "hosts/alpha/tls.key", "mesh/ca.key"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(chmod(at(files[i]), 0640), 0);
        expect_open("alpha", GW_EDENIED, "others can read");
        assert_int_equal(chmod(at(files[i]), 0600), 0);
    }
    trust_close(open_host("alpha"));
}

static void test_keys_of_another_host(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    trust_close(open_host("beta"));
    struct buf other = read_file(at("hosts/beta/identity.key"));
    write_file(at("hosts/alpha/identity.key"), other.data, other.len);
    buf_free(&other);
    expect_open("alpha", GW_ECORRUPT, "does not fit the keys");
}

static void test_home_that_cannot_sign(void **state)
{
    (void)state;
    trust_close(open_host("alpha"));
    assert_int_equal(unlink(at("mesh/ca.key")), 0);
    struct trust *t = open_host("alpha"); /* has its certificate */
    assert_false(t->signer);
    assert_false(trust_renew_if_due(t, t->cert_expires_ms));
    trust_close(t);
    expect_open("beta", GW_EREFUSED, "cannot sign");
    assert_false(keyfile_exists(at("hosts/beta/identity.key")));
}

static void test_two_first_starts_make_one_ca(void **state)
{
    (void)state;
    enum { STARTS = 6 };
    pid_t pids[STARTS];
    for (int i = 0; i < STARTS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            char name[16];
            snprintf(name, sizeof name, "h%d", i / 2); /* also two of one name */
            struct trust *t;
            _exit(trust_open(root, name, &t, NULL) == GW_OK ? (t->fresh ? 1 : 0) : 100);
        }
    }
    int fresh = 0;
    for (int i = 0; i < STARTS; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        fresh += WEXITSTATUS(status);
    }
    assert_int_equal(fresh, 1);
    for (int i = 0; i < STARTS / 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "h%d", i);
        trust_close(open_host(name)); /* its certificate is of the one CA */
    }
}

/* --- renewal --- */

static void test_renewal(void **state)
{
    (void)state;
    struct trust *t = open_host("alpha");
    SSL_CTX *server = t->server;
    int64_t now = ca_now_ms(), day = 86400000LL, old = t->cert_expires_ms;
    assert_false(trust_renew_if_due(t, now));
    assert_false(trust_renew_if_due(t, now + 59 * day));
    assert_int_equal(t->cert_expires_ms, old);
    assert_true(trust_renew_if_due(t, now + 61 * day));
    assert_true(t->cert_expires_ms > old + 60 * day && t->server == server);
    assert_true(trust_renew_if_due(t, now)); /* the clock was set back: begins in the future */
    struct pair p = shake(t->server, t->client);
    assert_true(p.server_done && p.client_done);
    drop_pair(&p);
    trust_close(t);
}

static void test_renewal_by_a_signer(void **state)
{
    (void)state;
    struct trust *a = open_host("alpha");
    trust_close(open_host("beta"));
    assert_int_equal(rename(at("mesh/ca.key"), at("mesh/away")), 0);
    struct trust *b = open_host("beta");
    assert_false(b->signer);
    int64_t later = ca_now_ms() + 61LL * 86400000;
    assert_true(trust_renew_is_due(b, later));
    assert_false(trust_renew_if_due(b, later));
    char *csr = NULL, *cert = NULL, *other = NULL;
    struct trust_peer peer = {.role = TRUST_HOST, .id = b->id}, nobody = {.role = TRUST_OPERATOR};
    assert_int_equal(trust_renew_request(b, &csr), GW_OK);
    assert_int_equal(trust_renew_answer(b, &peer, csr, later, &cert, NULL), GW_EREFUSED);
    assert_int_equal(trust_renew_answer(a, &nobody, csr, later, &cert, NULL), GW_EDENIED);
    assert_int_equal(trust_renew_answer(a, &peer, "nonsense", later, &cert, NULL), GW_EDENIED);
    assert_int_equal(trust_renew_answer(a, &peer, csr, later, &cert, NULL), GW_OK);
    /* Issued for another host: not taken. */
    peer.id = a->id;
    assert_int_equal(trust_renew_answer(a, &peer, csr, later, &other, NULL), GW_OK);
    assert_int_equal(trust_renew_apply(b, other, NULL), GW_EDENIED);
    assert_int_equal(trust_renew_apply(b, "", NULL), GW_EDENIED);
    assert_int_equal(trust_renew_apply(b, cert, NULL), GW_OK);
    assert_false(trust_renew_is_due(b, later));
    free(csr);
    free(cert);
    free(other);
    trust_close(a);
    trust_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_start),
        TEST(test_nothing_left_over),
        TEST(test_bad_names),
        TEST(test_home_is_not_usable),
        TEST(test_damaged_files),
        TEST(test_every_flipped_byte_of_the_identity),
        TEST(test_missing_files),
        TEST(test_start_that_was_killed_between_key_and_certificate),
        TEST(test_secrets_open_to_others),
        TEST(test_keys_of_another_host),
        TEST(test_home_that_cannot_sign),
        TEST(test_two_first_starts_make_one_ca),
        TEST(test_renewal),
        TEST(test_renewal_by_a_signer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

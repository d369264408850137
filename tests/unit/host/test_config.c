#include "host/config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/paths.h"
#include "protocol/base/log.h"

static struct gw_error why;

/* Load with options after `host`; the list ends with NULL. */
static gw_err load(struct host_config *ret, ...)
{
    char *argv[128] = {(char *)"host"};
    int argc = 1;
    va_list args;
    va_start(args, ret);
    for (char *each; (each = va_arg(args, char *));) {
        argv[argc++] = each;
    }
    va_end(args);
    memset(&why, 0, sizeof why);
    *ret = (struct host_config){0};
    return config_load(argc, argv, ret, &why);
}
#define LOAD(ret, ...) load(ret, __VA_ARGS__, (char *)NULL)

static void expect_fault(const char *text, const char *wanted)
{
    if (!strstr(text, wanted)) {
        fail_msg("\"%s\" does not hold \"%s\"", text, wanted);
    }
}

static gw_err parse(const char *text, struct host_config *ret)
{
    memset(&why, 0, sizeof why);
    *ret = (struct host_config){0};
    return config_parse((struct span){(const uint8_t *)text, strlen(text)}, "f.yaml", ret, &why);
}

/* A template below the folder that the test runner removes. */
static char *temporary(char *ret, size_t cap)
{
    const char *dir = getenv("TMPDIR");
    snprintf(ret, cap, "%s/godwit-XXXXXX", dir ? dir : "/tmp");
    return ret;
}

static char *write_file(const char *text)
{
    static char path[256];
    temporary(path, sizeof path);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static void a_name_is_enough_and_the_rest_has_defaults(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(LOAD(&c, "--name", "alpha"), GW_OK);
    assert_string_equal(c.name, "alpha");
    assert_string_equal(c.listen, "127.0.0.1");
    assert_int_equal(c.tags.len + c.peers.len + c.properties.len + c.plugins.len + c.roots.len, 0);
    assert_int_equal(c.log_level, LOG_INFO);
    assert_int_equal(c.log_format, 0);
    assert_int_equal(c.max_clients, LIMIT_CLIENTS);
    assert_int_equal(c.max_mailbox, LIMIT_MAILBOX_MESSAGES);
    assert_int_equal(c.max_mailbox_bytes, LIMIT_MAILBOX_BYTES);
    assert_int_equal(c.max_agents, LIMIT_AGENTS);
    assert_int_equal(c.max_staged, LIMIT_STAGED_PER_PEER);
    assert_int_equal(c.max_events, LIMIT_EVENTS_KEPT);
    assert_false(c.detach || c.json || c.help);
    assert_null(c.join);
    host_config_free(&c);
    host_config_free(&c);
    host_config_free(NULL);
}

static void every_option_reaches_its_member(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(LOAD(&c, "--name=beta", "--listen", "[::1]:0", "--peer",
                          "https://127.0.0.1:7420", "--peer", "https://[fe80::1]:1", "--tag", "lab",
                          "--tag", "LAB", "--tag", "disk", "--property", "os=linux", "--property",
                          "note=a=b c", "--plugin", "x.so", "--plugin", "dir", "--root", "/srv",
                          "--log-level", "error", "--log-format", "json", "--max-clients", "5",
                          "--max-mailbox-bytes", "1M", "--join", "-", "--detach", "--json"),
                     GW_OK);
    assert_string_equal(c.name, "beta");
    assert_int_equal(c.peers.len, 2);
    assert_int_equal(c.tags.len, 2); /* LAB is lab */
    assert_string_equal(c.tags.items[1], "disk");
    assert_string_equal(c.properties.items[1], "note=a=b c");
    assert_int_equal(c.plugins.len, 2);
    assert_string_equal(c.roots.items[0], "/srv");
    assert_int_equal(c.log_level, LOG_ERROR);
    assert_int_equal(c.log_format, 1);
    assert_int_equal(c.max_clients, 5);
    assert_int_equal(c.max_mailbox_bytes, 1 << 20);
    assert_string_equal(c.join, "-");
    assert_true(c.detach && c.json);
    host_config_free(&c);
}

static void global_options_before_the_command_are_taken(void **state)
{
    (void)state;
    struct host_config c;
    char *file = write_file("name: alpha\nlog_level: error\n");
    assert_int_equal(LOAD(&c, "--json", "-v", "--no-color", "--config", file), GW_OK);
    assert_true(c.json);
    assert_int_equal(c.log_level, LOG_DEBUG);
    host_config_free(&c);
    assert_int_equal(LOAD(&c, "-q", "--name", "a"), GW_OK);
    assert_int_equal(c.log_level, LOG_WARN);
    host_config_free(&c);
    unlink(file);
}

static void options_override_the_file_and_lists_are_replaced(void **state)
{
    (void)state;
    struct host_config c;
    char *file = write_file("name: alpha\ntags: [a, b]\nproperties: [x=1]\nlog_level: debug\n");
    assert_int_equal(LOAD(&c, "--tag", "c", "--config", file, "--log-level", "warn"), GW_OK);
    assert_string_equal(c.name, "alpha");
    assert_int_equal(c.tags.len, 1);
    assert_string_equal(c.tags.items[0], "c");
    assert_int_equal(c.properties.len, 1);
    assert_int_equal(c.log_level, LOG_WARN);
    host_config_free(&c);
    unlink(file);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    struct host_config c;
    static const struct {
        const char *option, *value, *says;
    } cases[] = {
        {"--name", "", "empty"},
        {"--name", "../../x", "not a name"},
        {"--name", "any", "selectors"},
        {"--name", "all", "selectors"},
        {"--name", "0123456789abcdefghjkmnpqrstvwxyz", "host id"},
        {"--listen", "localhost", "numeric"},
        {"--listen", "127.0.0.1:65536", "port"},
        {"--listen", "127.0.0.1:", "port"},
        {"--listen", "127.0.0.1:+5", "port"},
        {"--listen", "::1", "more than one"},
        {"--listen", "[::1", "no \"]\""},
        {"--listen", "[::1]5", "no \"]\""},
        {"--listen", "[127.0.0.1]", "numeric"},
        {"--listen", ":7420", "not an address"},
        {"--peer", "http://127.0.0.1:1", "https://"},
        {"--peer", "https://", "not an address"},
        {"--peer", "https://a b", "address of a host"},
        {"--peer", "https://user@h", "address of a host"},
        {"--peer", "https://h/path", "address of a host"},
        {"--peer", "https://h:0", "port"},
        {"--tag", "a,b", "not a tag"},
        {"--tag", "", "not a tag"},
        {"--property", "novalue", "K=V"},
        {"--property", "=v", "name before"},
        {"--property", "k=\x1b[2J", "control"},
        {"--plugin", "", "not a path"},
        {"--root", "relative", "begin with /"},
        {"--log-level", "loud", "none of debug|info|warn|error"},
        {"--log-level", "debug|info", "none of"},
        {"--max-clients", "0", "within"},
        {"--max-clients", "20001", "within"},
        {"--max-clients", "-1", "not a number"},
        {"--max-clients", "5x", "not a number"},
        {"--max-mailbox-bytes", "4095", "within"},
        {"--max-mailbox-bytes", "1Q", "not a size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gw_err err = LOAD(&c, cases[i].option, cases[i].value);
        assert_int_not_equal(err, GW_OK);
        assert_int_equal(gw_err_http(err) / 100, 4);
        expect_fault(why.text, cases[i].option);
        expect_fault(why.text, cases[i].says);
        assert_null(c.listen);
    }
}

static void words_that_are_no_options_are_refused(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(LOAD(&c, "--name", "a", "--nmae", "b"), GW_EARG);
    expect_fault(why.text, "unknown option \"--nmae\"");
    assert_int_equal(LOAD(&c, "--name"), GW_EARG);
    expect_fault(why.text, "\"--name\" needs a value");
    assert_int_equal(LOAD(&c, "--name", "a", "extra"), GW_EARG);
    expect_fault(why.text, "unexpected argument \"extra\"");
    assert_int_equal(LOAD(&c, "--name", "a", "--detach=yes"), GW_EARG);
    assert_int_equal(LOAD(&c, "--tag", "a"), GW_EARG);
    expect_fault(why.text, "no name");
    assert_int_equal(LOAD(&c, "-x"), GW_EARG);
}

static void a_property_is_given_once(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(LOAD(&c, "--name", "a", "--property", "k=1", "--property", "k=2"), GW_EARG);
    expect_fault(why.text, "twice");
    assert_int_equal(LOAD(&c, "--name", "a", "--property", "k=1", "--property", "kk=2"), GW_OK);
    host_config_free(&c);
}

static void lists_and_texts_end_at_their_limit(void **state)
{
    (void)state;
    struct host_config c = {0};
    GW_AUTO(buf_free) struct buf text = {0};
    for (int extra = 0; extra < 2; extra++) {
        buf_reset(&text);
        buf_addf(&text, "tags: [");
        for (int i = 0; i < LIMIT_TAGS + extra; i++) {
            buf_addf(&text, "%st%d", i ? ", " : "", i);
        }
        buf_addf(&text, "]\n");
        c = (struct host_config){0};
        gw_err err = config_parse(buf_span(&text), "f", &c, &why);
        assert_int_equal(err, extra ? GW_ETOO_BIG : GW_OK);
        assert_int_equal(c.tags.len, LIMIT_TAGS);
        host_config_free(&c);
    }
    char value[LIMIT_PROPERTY_BYTES + 2];
    memset(value, 'v', sizeof value);
    memcpy(value, "k=", 2);
    value[LIMIT_PROPERTY_BYTES] = '\0';
    assert_int_equal(LOAD(&c, "--name", "a", "--property", value), GW_OK);
    host_config_free(&c);
    value[LIMIT_PROPERTY_BYTES] = 'v';
    value[LIMIT_PROPERTY_BYTES + 1] = '\0';
    assert_int_equal(LOAD(&c, "--name", "a", "--property", value), GW_ETOO_BIG);
    char name[LIMIT_NAME_BYTES + 2];
    memset(name, 'n', sizeof name);
    name[LIMIT_NAME_BYTES] = '\0';
    assert_int_equal(LOAD(&c, "--name", name), GW_OK);
    host_config_free(&c);
    name[LIMIT_NAME_BYTES] = 'n';
    name[LIMIT_NAME_BYTES + 1] = '\0';
    assert_int_equal(LOAD(&c, "--name", name), GW_ETOO_BIG);
}

static void a_file_fault_names_file_and_key(void **state)
{
    (void)state;
    struct host_config c;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"name: a\nnmae: b\n", "line 2: config file \"f.yaml\": unknown key \"nmae\""},
        {"name: a\nname: b\n", "a second key \"name\""},
        {"name: [a]\n", "'name'"},
        {"tags: lab\n", "'tags'"},
        {"tags: [[a]]\n", "sequence entry"},
        {"- name\n", "f.yaml"},
        {"just text\n", "f.yaml"},
        {"name: a\n---\nname: b\n", "second document"},
        {"name: &n a\nlisten: *n\n", "aliases"},
        {"name: \"a\n", "f.yaml"},
        {"name: a\x01\n", "f.yaml"},
        {"{{{{{{{{{{{{{{{{{{{{{{{{", "f.yaml"},
        {"name:\n", "key \"name\": the value is empty"},
        {"max_clients: many\n", "key \"max_clients\": \"many\" is not a number"},
        {"peers: [\"http://x\"]\n", "key \"peers\": \"http://x\" does not begin"},
        {"tags: [ok, \"\"]\n", "key \"tags\""},
        {"\"na\\0me\": x\n", "f.yaml"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(cases[i].text, &c), GW_EARG);
        expect_fault(why.text, cases[i].says);
        host_config_free(&c);
    }
}

static void an_empty_file_sets_nothing(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(parse("", &c), GW_OK);
    assert_int_equal(parse("# nothing\n", &c), GW_OK);
    assert_int_equal(parse("---\nname: a\n", &c), GW_OK);
    assert_string_equal(c.name, "a");
    host_config_free(&c);
}

static void files_that_cannot_be_read_are_named(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(LOAD(&c, "--config", "/nonexistent/x.yaml"), GW_ENOT_FOUND);
    expect_fault(why.text, "/nonexistent/x.yaml");
    assert_int_equal(LOAD(&c, "--config", "/"), GW_EIO);
    assert_int_equal(LOAD(&c, "--config", "/dev/zero"), GW_ETOO_BIG);
}

static void help_is_made_from_the_table(void **state)
{
    (void)state;
    struct host_config c;
    assert_int_equal(LOAD(&c, "--help"), GW_OK);
    assert_true(c.help);
    host_config_free(&c);
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    config_help(out);
    fclose(out);
#define SETTING(kind, key, option, ...) expect_fault(text, "--" option);
#include "host/settings.def"
#undef SETTING
    expect_fault(text, "--detach");
    free(text);
}

static void a_join_token_comes_from_file_or_environment(void **state)
{
    (void)state;
    struct host_config c = {0};
    char *token = NULL;
    unsetenv("GODWIT_JOIN_TOKEN");
    assert_int_equal(config_join_token(&c, &token, &why), GW_OK);
    assert_null(token);
    setenv("GODWIT_JOIN_TOKEN", " godwit-token-1.abc\n", 1);
    assert_int_equal(config_join_token(&c, &token, &why), GW_OK);
    assert_string_equal(token, "godwit-token-1.abc");
    free(token);
    c.join = write_file("\n godwit-token-1.xyz \n\n");
    assert_int_equal(config_join_token(&c, &token, &why), GW_OK);
    assert_string_equal(token, "godwit-token-1.xyz");
    free(token);
    unlink(c.join);
    static const char *const bad[] = {"", " \n", "two words\n", "two\nlines\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c.join = write_file(bad[i]);
        assert_int_equal(config_join_token(&c, &token, &why), GW_EARG);
        unlink(c.join);
    }
    c.join = (char *)"/dev/zero";
    assert_int_equal(config_join_token(&c, &token, &why), GW_ETOO_BIG);
    unsetenv("GODWIT_JOIN_TOKEN");
}

static void home_is_absolute(void **state)
{
    (void)state;
    char home[PATHS_MAX], cwd[PATHS_MAX];
    setenv("GODWIT_HOME", "/a/b//", 1);
    assert_int_equal(paths_home(home, &why), GW_OK);
    assert_string_equal(home, "/a/b");
    setenv("GODWIT_HOME", "rel", 1);
    assert_int_equal(paths_home(home, &why), GW_OK);
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_memory_equal(home, cwd, strlen(cwd));
    assert_string_equal(home + strlen(cwd), "/rel");
    setenv("GODWIT_HOME", "", 1);
    assert_int_equal(paths_home(home, &why), GW_EARG);
    char large[2 * PATHS_MAX];
    memset(large, 'x', sizeof large);
    large[0] = '/';
    large[sizeof large - 1] = '\0';
    setenv("GODWIT_HOME", large, 1);
    assert_int_equal(paths_home(home, &why), GW_EARG);
    unsetenv("GODWIT_HOME");
    setenv("HOME", "/home/someone", 1);
    assert_int_equal(paths_home(home, &why), GW_OK);
    assert_string_equal(home, "/home/someone/.godwit");
}

static void a_host_folder_is_made_for_its_user_alone(void **state)
{
    (void)state;
    char base[256], home[PATHS_MAX], dir[PATHS_MAX];
    assert_non_null(mkdtemp(temporary(base, sizeof base)));
    snprintf(home, sizeof home, "%s/new/home", base);
    assert_int_equal(paths_host_dir(home, "alpha", dir, &why), GW_OK);
    assert_int_equal(paths_host_dir(home, "alpha", dir, &why), GW_OK);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    expect_fault(dir, "/new/home/hosts/alpha");
    char file[2 * PATHS_MAX];
    snprintf(file, sizeof file, "%s/hosts/beta", home);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(paths_host_dir(home, "beta", dir, &why), GW_EIO);
    expect_fault(why.text, "a file of that name");
    if (getuid() != 0) {
        assert_int_equal(paths_host_dir("/proc/1/x", "a", dir, &why), GW_EDENIED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_enough_and_the_rest_has_defaults),
        cmocka_unit_test(every_option_reaches_its_member),
        cmocka_unit_test(global_options_before_the_command_are_taken),
        cmocka_unit_test(options_override_the_file_and_lists_are_replaced),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(words_that_are_no_options_are_refused),
        cmocka_unit_test(a_property_is_given_once),
        cmocka_unit_test(lists_and_texts_end_at_their_limit),
        cmocka_unit_test(a_file_fault_names_file_and_key),
        cmocka_unit_test(an_empty_file_sets_nothing),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(help_is_made_from_the_table),
        cmocka_unit_test(a_join_token_comes_from_file_or_environment),
        cmocka_unit_test(home_is_absolute),
        cmocka_unit_test(a_host_folder_is_made_for_its_user_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* rsync over its daemon, and nginx that curl downloads from, on the loopback: what the transfer of
 * files is measured beside. What is not installed stays closed. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/files.h"

static FILE *config_file(const struct file_peers *p, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

static int connect_to(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&at, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        perror("bench: no port");
        exit(1);
    }
    close(fd);
    return ntohs(at.sin_port);
}

static bool serves(struct process *p, int port, const char *name)
{
    for (int i = 0; i < 5000 && process_runs(p); i++) {
        int fd = connect_to(port);
        if (fd >= 0) {
            close(fd);
            return true;
        }
        usleep(1000);
    }
    fprintf(stderr, "bench: %s does not serve; its column stays empty\n", name);
    return false;
}

static void open_rsync(struct file_peers *p, const char *to)
{
    char config[400], port[32];
    FILE *f = config_file(p, "rsyncd.conf");
    fprintf(f,
            "use chroot = no\nlog file = %s/rsyncd.log\npid file = %s/rsyncd.pid\n"
            "[to]\npath = %s\nread only = no\nuid = %u\ngid = %u\n",
            p->dir, p->dir, to, getuid(), getgid());
    fclose(f);
    p->rsync_port = free_port();
    snprintf(config, sizeof config, "--config=%s/rsyncd.conf", p->dir);
    snprintf(port, sizeof port, "--port=%d", p->rsync_port);
    char *argv[] = {(char *)"rsync",
                    (char *)"--daemon",
                    (char *)"--no-detach",
                    config,
                    port,
                    (char *)"--address=127.0.0.1",
                    NULL};
    process_start(&p->rsync, argv, NULL);
    p->has_rsync = serves(&p->rsync, p->rsync_port, "rsync");
}

static void open_nginx(struct file_peers *p, const char *from)
{
    char key[400], cert[400], config[400], log[400];
    snprintf(key, sizeof key, "%s/key.pem", p->dir);
    snprintf(cert, sizeof cert, "%s/cert.pem", p->dir);
    snprintf(config, sizeof config, "%s/nginx.conf", p->dir);
    snprintf(log, sizeof log, "%s/nginx.log", p->dir);
    char *make_cert[] = {(char *)"sh",
                         (char *)"-c",
                         (char *)"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
                                 "-nodes -keyout \"$0\" -out \"$1\" -subj /CN=127.0.0.1 -days 2 "
                                 "-addext subjectAltName=IP:127.0.0.1 2>/dev/null",
                         key,
                         cert,
                         NULL};
    process_must(make_cert, NULL);
    p->nginx_port = free_port();
    FILE *f = config_file(p, "nginx.conf");
    fprintf(f,
            "daemon off;\nmaster_process off;\npid %s/nginx.pid;\nerror_log %s;\nevents { }\n"
            "http {\n  access_log off;\n  sendfile on;\n  client_body_temp_path %s;\n"
            "  proxy_temp_path %s;\n  fastcgi_temp_path %s;\n  uwsgi_temp_path %s;\n"
            "  scgi_temp_path %s;\n  server {\n    listen 127.0.0.1:%d ssl;\n"
            "    ssl_certificate %s;\n    ssl_certificate_key %s;\n    ssl_protocols TLSv1.3;\n"
            "    root %s;\n  }\n}\n",
            p->dir, log, p->dir, p->dir, p->dir, p->dir, p->dir, p->nginx_port, cert, key, from);
    fclose(f);
    char *argv[] = {(char *)"nginx", (char *)"-p", p->dir, (char *)"-c",
                    config,          (char *)"-e", log,    NULL};
    process_start(&p->nginx, argv, NULL);
    p->has_nginx = serves(&p->nginx, p->nginx_port, "nginx");
}

void file_peers_open(struct file_peers *p, const char *dir, const char *from, const char *to)
{
    snprintf(p->dir, sizeof p->dir, "%s", dir);
    mkdir(p->dir, 0700);
    if (process_exists("rsync")) {
        open_rsync(p, to);
    }
    if (process_exists("nginx") && process_exists("curl") && process_exists("openssl")) {
        open_nginx(p, from);
    }
}

void file_peers_close(struct file_peers *p)
{
    if (p->rsync.pid) {
        process_signal(&p->rsync, SIGTERM);
        (void)process_end(&p->rsync, NULL);
    }
    if (p->nginx.pid) {
        process_signal(&p->nginx, SIGTERM);
        (void)process_end(&p->nginx, NULL);
    }
}

static double run_rsync(struct file_peers *p, const char *options, const char *more,
                        const char *from, const char *name)
{
    char url[400];
    if (!p->has_rsync) {
        return 0;
    }
    snprintf(url, sizeof url, "rsync://127.0.0.1:%d/to/%s", p->rsync_port, name);
    char *argv[] = {(char *)"rsync", (char *)options, (char *)more, (char *)from, url, NULL};
    return process_must(argv, NULL);
}

double peer_rsync(struct file_peers *p, const char *options, const char *from, const char *name)
{
    return run_rsync(p, options, "--no-motd", from, name);
}

double peer_rsync_synced(struct file_peers *p, const char *from, const char *name)
{
    return run_rsync(p, "-Wt", "--fsync", from, name);
}

double peer_curl(struct file_peers *p, const char *name, const char *to)
{
    char url[400], cert[400];
    if (!p->has_nginx) {
        return 0;
    }
    snprintf(url, sizeof url, "https://127.0.0.1:%d/%s", p->nginx_port, name);
    snprintf(cert, sizeof cert, "%s/cert.pem", p->dir);
    char *argv[] = {(char *)"curl",     (char *)"-sS", (char *)"--fail",
                    (char *)"--cacert", cert,          (char *)"-o",
                    (char *)to,         url,           NULL};
    return process_must(argv, NULL);
}

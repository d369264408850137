/* Kill a process at a moment of its work: killat VICTIM WORKER FOLDER BYTES
 * kill -9 VICTIM as soon as the files of FOLDER take BYTES more on the disk than at the start, and
 * wait for its end. 0: killed; 1: process WORKER ended before. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STEP_NS 200000

static int64_t taken(DIR *d)
{
    int64_t sum = 0;
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            sum += (int64_t)st.st_blocks * 512;
        }
    }
    return sum;
}

/* One that has ended and is not waited for yet is gone, too: it has no exe. */
static int is_gone(const char *pid)
{
    char path[64], to[8];
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    return readlink(path, to, sizeof to) < 0;
}

static int kill_at(DIR *d, char **argv)
{
    const struct timespec step = {.tv_nsec = STEP_NS};
    int64_t wanted = taken(d) + strtoll(argv[4], NULL, 10);
    while (taken(d) < wanted) {
        if (is_gone(argv[2])) {
            return 1;
        }
        nanosleep(&step, NULL);
    }
    if (kill((pid_t)strtol(argv[1], NULL, 10), SIGKILL) != 0) {
        return 2;
    }
    while (!is_gone(argv[1])) {
        nanosleep(&step, NULL);
    }
    return 0;
}

int main(int argc, char **argv)
{
    DIR *d = argc == 5 ? opendir(argv[3]) : NULL;
    if (!d) {
        fputs("usage: killat VICTIM WORKER FOLDER BYTES\n", stderr);
        return 2;
    }
    int code = kill_at(d, argv);
    closedir(d);
    return code;
}

/* Runs a fuzz target over the files of a corpus, for compilers without libFuzzer and for `make
 * test`: what once crashed stays as a test. replay_NAME FOLDER|FILE...     exit 0 when all ran, 1
 * when one cannot be read, 2 without any */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned ran;

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    if (!file || fstat(fileno(file), &st) != 0) {
        fprintf(stderr, "cannot open \"%s\": %s\n", path, strerror(errno));
        if (file) {
            fclose(file);
        }
        return 1;
    }
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1); /* exactly: the sanitizer sees a read past the end */
    int bad = !data || fread(data, 1, size, file) != size;
    fclose(file);
    if (bad) {
        fprintf(stderr, "cannot read \"%s\"\n", path);
    } else {
        fprintf(stderr, "%s (%zu bytes)\n", path, size); /* the last one named is the culprit */
        (void)LLVMFuzzerTestOneInput(data, size);
        ran++;
    }
    free(data);
    return bad;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int run_folder(const char *path)
{
    struct dirent **entries;
    int bad = 0, n = scandir(path, &entries, not_hidden, alphasort);
    if (n < 0) {
        fprintf(stderr, "cannot list \"%s\": %s\n", path, strerror(errno));
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char whole[4096];
        snprintf(whole, sizeof whole, "%s/%s", path, entries[i]->d_name);
        bad |= run_file(whole);
        free(entries[i]);
    }
    free(entries);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        bad |= stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode) ? run_folder(argv[i])
                                                              : run_file(argv[i]);
    }
    printf("%u inputs\n", ran);
    return ran == 0 ? 2 : bad;
}

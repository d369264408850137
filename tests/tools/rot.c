/* What time does to a file: rot flip|rubbish|cut FILE PLACE OF
 * At place PLACE (0 .. OF - 1) of OF that are spread over the file: turn one bit, turn all bits of
 * 24 bytes, or cut the file off. Prints the place in bytes. An empty file stays as it is. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct stat st;
    uint8_t bytes[24];
    int fd = argc == 5 ? open(argv[2], O_RDWR) : -1;
    if (fd < 0 || fstat(fd, &st) != 0) {
        fprintf(stderr, "usage: rot flip|rubbish|cut FILE PLACE OF\n");
        return 2;
    }
    off_t place = strtol(argv[3], NULL, 10), of = strtol(argv[4], NULL, 10);
    off_t at = st.st_size * place / of + place * 131 % (st.st_size / of + 1);
    at = at < st.st_size ? at : st.st_size - 1;
    printf("%lld\n", (long long)at);
    if (st.st_size == 0) {
        return 0;
    }
    if (strcmp(argv[1], "cut") == 0) {
        return ftruncate(fd, at) == 0 ? 0 : 1;
    }
    ssize_t n = pread(fd, bytes, strcmp(argv[1], "flip") == 0 ? 1 : sizeof bytes, at);
    for (ssize_t i = 0; i < n; i++) {
        bytes[i] ^= n == 1 ? (uint8_t)(1u << place % 8) : 0xff;
    }
    return n > 0 && pwrite(fd, bytes, (size_t)n, at) == n ? 0 : 1;
}

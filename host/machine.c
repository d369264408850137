#include "host/machine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#define MACHINE_FILE "/etc/machine-id"

static size_t read_text(char *ret, size_t cap)
{
    const char *given = getenv("GODWIT_MACHINE_ID");
    if (given) {
        size_t n = strnlen(given, cap);
        memcpy(ret, given, n);
        return n;
    }
    int fd = open(MACHINE_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, ret, cap) : -1;
    if (fd >= 0) {
        close(fd);
    }
    return n > 0 ? (size_t)n : 0;
}

bool machine_id(uint8_t ret[MACHINE_BYTES])
{
    static const char purpose[] = "godwit machine 1";
    char text[256];
    size_t n = read_text(text, sizeof text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ')) {
        n--;
    }
    if (n == 0 || (n == 13 && memcmp(text, "uninitialized", 13) == 0)) { /* machine-id(5) */
        return false;
    }
    return crypto_generichash(ret, MACHINE_BYTES, (const uint8_t *)text, n,
                              (const uint8_t *)purpose, sizeof purpose - 1) == 0;
}

#include "protocol/base/id.h"

#include <string.h>

#include <sodium.h>

#include "protocol/limits.h"

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

gw_id id_make(int64_t wall_ms, const uint8_t random[10])
{
    gw_id id;
    uint64_t ms = wall_ms < 0 ? 0 : (uint64_t)wall_ms;
    for (int i = 0; i < 6; i++) {
        id.b[i] = (uint8_t)(ms >> (8 * (5 - i)));
    }
    memcpy(id.b + 6, random, 10);
    return id;
}

/* The value of a digit, -1 for none: either case, I and L read as 1, O as 0, U is not used. */
static int digit(char c)
{
    static const signed char letters[26] = {10, 11, 12, 13, 14, 15, 16, 17, 1,  18, 19, 1,  20,
                                            21, 0,  22, 23, 24, 25, 26, -1, 27, 28, 29, 30, 31};
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'z') {
        return letters[c - 'a'];
    }
    return c >= 'A' && c <= 'Z' ? letters[c - 'A'] : -1;
}

/* The text is right-aligned like a number: the first character holds the odd high bits, so that ids
 * of 128 bits begin with 0 to 7 and sort as their bytes do. */
void base32_encode(const uint8_t *data, size_t len, char *ret)
{
    size_t chars = BASE32_SIZE(len) - 1;
    unsigned pending = 0, bits = 0; /* from the least significant end */
    for (size_t i = chars; i-- > 0;) {
        if (bits < 5 && len > 0) {
            pending |= (unsigned)data[--len] << bits;
            bits += 8;
        }
        ret[i] = alphabet[pending & 31];
        pending >>= 5;
        bits -= bits < 5 ? bits : 5;
    }
    ret[chars] = '\0';
}

bool base32_decode(const char *text, size_t text_len, uint8_t *ret, size_t len)
{
    if (text_len != BASE32_SIZE(len) - 1) {
        return false;
    }
    unsigned pending = 0, bits = 0;
    for (size_t i = text_len; i-- > 0;) {
        int v = digit(text[i]);
        if (v < 0) {
            return false;
        }
        pending |= (unsigned)v << bits;
        bits += 5;
        if (bits >= 8 && len > 0) {
            ret[--len] = (uint8_t)pending;
            pending >>= 8;
            bits -= 8;
        }
    }
    return pending == 0; /* the unused high bits */
}

char *gw_id_text(const gw_id *id, char ret[GW_ID_TEXT])
{
    base32_encode(id->b, GW_ID_BYTES, ret);
    return ret;
}

gw_err gw_id_parse(const char *text, gw_id *ret)
{
    gw_id id;
    if (!text || !base32_decode(text, strlen(text), id.b, GW_ID_BYTES)) {
        return GW_EARG;
    }
    *ret = id;
    return GW_OK;
}

bool gw_id_is_nil(const gw_id *id)
{
    static const gw_id nil;
    return memcmp(id, &nil, sizeof nil) == 0;
}

bool gw_id_equal(const gw_id *a, const gw_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

char *host_id_text(const struct host_id *id, char ret[HOST_ID_TEXT])
{
    base32_encode(id->b, HOST_ID_BYTES, ret);
    return ret;
}

gw_err host_id_parse(const char *text, struct host_id *ret)
{
    struct host_id id;
    if (!text || !base32_decode(text, strlen(text), id.b, HOST_ID_BYTES)) {
        return GW_EARG;
    }
    *ret = id;
    return GW_OK;
}

struct host_id host_id_of_key(const uint8_t public_key[32])
{
    struct host_id id;
    crypto_generichash(id.b, sizeof id.b, public_key, 32, NULL, 0);
    return id;
}

bool host_id_is_nil(const struct host_id *id)
{
    static const struct host_id nil;
    return memcmp(id, &nil, sizeof nil) == 0;
}

bool host_id_equal(const struct host_id *a, const struct host_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

int host_id_compare(const struct host_id *a, const struct host_id *b)
{
    return memcmp(a, b, sizeof *a);
}

bool name_is_valid(const char *text)
{
    size_t n = 0;
    for (; text[n]; n++) {
        char c = text[n];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (n >= LIMIT_NAME_BYTES || (!alnum && (n == 0 || !strchr("._-", c)))) {
            return false;
        }
    }
    return n > 0;
}

#include "codec/base64.h"

static const char common[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static uint8_t letter(enum base64_alphabet alphabet, unsigned value) {
    if (value < 62) return (uint8_t)common[value];
    if (alphabet == BASE64_URL) return value == 62 ? '-' : '_';
    return value == 62 ? '+' : '/';
}

/* 0..63, or -1 for a byte outside the alphabet. */
static int value_of(enum base64_alphabet alphabet, uint8_t c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == letter(alphabet, 62)) return 62;
    if (c == letter(alphabet, 63)) return 63;
    return -1;
}

void base64_put(struct writer *w, enum base64_alphabet alphabet, const void *bytes, size_t n) {
    const uint8_t *p = bytes;

    while (n > 0) {
        size_t take = n < 3 ? n : 3;
        uint32_t bits = (uint32_t)p[0] << 16;
        if (take > 1) bits |= (uint32_t)p[1] << 8;
        if (take > 2) bits |= p[2];
        for (size_t i = 0; i < 4; i++) {
            if (i <= take)
                writer_u8(w, letter(alphabet, bits >> (18 - 6 * i) & 63));
            else if (alphabet == BASE64_STANDARD)
                writer_u8(w, '=');
        }
        p += take;
        n -= take;
    }
}

bool base64_get(enum base64_alphabet alphabet, const void *text, size_t n, uint8_t *out, size_t cap, size_t *len) {
    const uint8_t *p = text;
    size_t done = 0;

    *len = 0;
    if (alphabet == BASE64_STANDARD) {
        if (n % 4 != 0) return false;
        for (int pad = 0; pad < 2 && n > 0 && p[n - 1] == '='; pad++) n--;
    }
    while (n > 0) {
        size_t take = n < 4 ? n : 4;
        uint32_t bits = 0;
        if (take == 1) return false; /* six bits are no byte */
        for (size_t i = 0; i < take; i++) {
            int v = value_of(alphabet, p[i]);
            if (v < 0) return false;
            bits |= (uint32_t)v << (18 - 6 * i);
        }
        if (cap - done < take - 1) return false;
        for (size_t i = 0; i + 1 < take; i++) out[done++] = (uint8_t)(bits >> (16 - 8 * i));
        if (take < 4 && (bits & (take == 2 ? 0xffff : 0xff)) != 0) return false;
        p += take;
        n -= take;
    }
    *len = done;
    return true;
}

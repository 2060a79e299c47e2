#include "base/secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

char *secret_dup(const void *p, size_t n) {
    if (!p || n == SIZE_MAX) return NULL;
    char *s = malloc(n + 1);
    if (!s) return NULL;
    if (n) memcpy(s, p, n);
    s[n] = 0;
    return s;
}

void secret_free(char *s) {
    if (!s) return;
    secret_wipe(s, strlen(s));
    free(s);
}

void secret_wipe(void *p, size_t n) {
    if (p && n) explicit_bzero(p, n);
}

bool secret_equal(const void *a, size_t an, const void *b, size_t bn) {
    /* "Not set" equals nothing but "not set": an empty guess never opens what has no password. */
    if (!a || !b) return !a && !b;
    if (an != bn) return false;
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < an; i++) difference |= (uint8_t)(x[i] ^ y[i]);
    return difference == 0;
}

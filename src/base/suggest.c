#include "base/suggest.h"

static unsigned least(unsigned a, unsigned b, unsigned c) {
    if (b < a) a = b;
    return c < a ? c : a;
}

/* How many letters must be inserted, removed, changed or swapped with a neighbour to make b of a. */
unsigned suggest_distance(const char *a, size_t an, const char *b, size_t bn) {
    unsigned rows[3][SUGGEST_MAX + 1];
    unsigned *old = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= bn; j++) last[j] = (unsigned)j;
    for (size_t i = 1; i <= an; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= bn; j++) {
            row[j] = least(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && old[j - 2] + 1 < row[j])
                row[j] = old[j - 2] + 1;
        }
        unsigned *spare = old;
        old = last;
        last = row;
        row = spare;
    }
    return last[bn];
}

unsigned suggest_limit(size_t n) { return n < 3 ? 1 : (unsigned)n / 3; }

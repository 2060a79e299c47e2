/* suggest.h - how far a mistyped word is from a known one, for "did you mean". Pure. */
#ifndef ADIT_BASE_SUGGEST_H
#define ADIT_BASE_SUGGEST_H

#include <stddef.h>

#define SUGGEST_MAX 64 /* bytes of the longest words that can be compared */

/* How many letters must be inserted, removed, changed or swapped with a neighbour to make b of a. Both at most
 * SUGGEST_MAX long. */
unsigned suggest_distance(const char *a, size_t an, const char *b, size_t bn);
/* The distance up to which a word of n letters can have been meant: a third of them may be wrong. */
unsigned suggest_limit(size_t n);

#endif

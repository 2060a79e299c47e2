/* secret.h - passwords and keys in memory.
 *
 * A secret is an owned, NUL-terminated byte string that is zeroed before its memory goes. Never logged, never compared
 * with strcmp. NULL stands for "not set" in every function.
 */
#ifndef ADIT_BASE_SECRET_H
#define ADIT_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* A copy of n bytes with a NUL after them; NULL when out of memory. */
char *secret_dup(const void *p, size_t n);
/* Zeroes the string up to its NUL and frees it. */
void secret_free(char *s);
/* Zeroes n bytes in a way that the compiler keeps. */
void secret_wipe(void *p, size_t n);
/* Equality in a time that depends on the lengths only. */
bool secret_equal(const void *a, size_t an, const void *b, size_t bn);

#endif
